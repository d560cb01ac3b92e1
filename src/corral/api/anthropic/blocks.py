"""An answer as a stream of events: message_start once the prompt has been read, then each block's start, pieces and stop, one
block at a time, then message_delta with how it ended and what it cost, and message_stop.

The many plain pieces of text take the quick road of a TextEvent.
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from corral.api.anthropic.reply import SIGNATURE, Part, Reply, cut, parts
from corral.api.stream import TextEvent, named_event
from corral.core.types import ToolCall
from corral.service.requests import CallPart, Delta, Done, Event, Started
from corral.wire import anthropic as wire

_EMPTY: Final[Mapping[str, wire.Block]] = {"text": wire.TextBlock(text=""), "thinking": wire.ThinkingBlock(thinking="")}
_PIECES: Final[Mapping[str, Callable[[str], wire.BlockPiece]]] = {
    "text": lambda text: wire.TextDelta(text=text),
    "thinking": lambda text: wire.ThinkingDelta(thinking=text),
    "tool_use": lambda text: wire.InputJsonDelta(partial_json=text),
}


class BlockStream:
    """Makes the events of one answer. At any time one block is open, or none."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._open = ""  # the kind of block that is
        self._index = -1  # of the latest block
        self._pieces: TextEvent | None = None  # of the block that is open
        self._call_index = -1  # of the latest call that came in parts
        self._has_calls = False

    def render(self, event: Event) -> bytes:
        match event:
            case Delta():
                return self._said(event)
            case Started():
                return named_event("message_start", wire.MessageStart(message=self._reply.opening(event)))
            case Done():
                return self._ending(event)
        raise AssertionError(f"no {type(event).__name__} comes of a conversation")

    def _said(self, delta: Delta) -> bytes:
        is_plain = delta.content and not (delta.thinking or delta.call_parts or delta.tool_calls)
        if is_plain and self._open == "text" and self._pieces:
            return self._pieces.fill(delta.content)
        return b"".join(map(self._part, parts(delta)))

    def _part(self, part: Part) -> bytes:
        match part:
            case ToolCall():
                return self._call(part)
            case CallPart():
                return self._call_part(part)
            case (kind, text):
                opening = b"" if kind == self._open else self._opening(kind, _EMPTY[kind])
                is_shown = kind == "text" or self._reply.shows_thoughts
                return opening + (self._pieces.fill(text) if self._pieces and is_shown else b"")

    def _call_part(self, part: CallPart) -> bytes:
        """The first part has the name. A call that never comes to its end leaves its block as it is, and does not count."""
        opening = b""
        if part.name:
            opening = self._opening("tool_use", wire.ToolUseBlock(id=part.call_id, name=part.name, input={}))
            self._call_index = part.index
        return opening + (self._pieces.fill(part.text) if self._pieces and part.text else b"")

    def _call(self, call: ToolCall) -> bytes:
        """The end of its block, or where it came at once all of it."""
        self._has_calls = True
        if self._open == "tool_use" and self._call_index == call.index:
            return self._closing()
        opening = self._opening("tool_use", wire.ToolUseBlock(id=call.call_id, name=call.name, input={}))
        arguments = msgspec.json.encode(call.arguments).decode()
        return opening + self._piece(wire.InputJsonDelta(partial_json=arguments)) + self._closing()

    def _opening(self, kind: str, block: wire.Block) -> bytes:
        """The start of the next block, and before it the end of the one that is open."""
        before = self._closing()
        self._index += 1
        self._open = kind
        self._pieces = TextEvent(lambda text: self._piece(_PIECES[kind](text)))
        return before + named_event("content_block_start", wire.BlockStart(index=self._index, content_block=block))

    def _closing(self) -> bytes:
        """The end of the block that is open, if one is."""
        if not self._open:
            return b""
        is_signed = self._open == "thinking" and self._reply.signs_in_streams
        self._open, self._pieces = "", None
        signature = self._piece(wire.SignatureDelta(signature=SIGNATURE)) if is_signed else b""
        return signature + named_event("content_block_stop", wire.BlockStop(index=self._index))

    def _piece(self, piece: wire.BlockPiece) -> bytes:
        return named_event("content_block_delta", wire.BlockDelta(index=self._index, delta=piece))

    def _ending(self, done: Done) -> bytes:
        end = self._reply.end(done, has_calls=self._has_calls)
        delta = wire.MessageDelta(delta=end, usage=self._reply.usage(done), **cut(done))
        return self._closing() + named_event("message_delta", delta) + named_event("message_stop", wire.MessageStop())
