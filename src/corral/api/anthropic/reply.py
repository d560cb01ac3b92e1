"""An answer as one message: its blocks in the order in which the model gave them, how it ended and what it cost."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, TypeAlias
from uuid import uuid4

from corral.api.anthropic.convert import asks_for_caching
from corral.core.types import ToolCall
from corral.service.requests import CallPart, Delta, Done, Event, Started
from corral.wire import anthropic as wire

Part: TypeAlias = tuple[str, str] | CallPart | ToolCall  # "thinking" or "text", and what is said; or of a call, or all of it

SIGNATURE: Final = "Y29ycmFs"  # of thoughts: programs want to find one and send it back; nothing is read from it


class Reply:
    """What is said of an answer beside its blocks, and how much of it is shown."""

    def __init__(self, given: wire.MessagesRequest) -> None:
        self.message_id = f"msg_{uuid4().hex[:24]}"
        self.model = given.model or ""
        self.shows_thoughts = not (given.thinking and given.thinking.display == "omitted")
        self.signs_in_streams = bool(given.tools) or not self.shows_thoughts  # where thoughts are to come back, as with calls
        self._stops = frozenset(filter(None, given.stop_sequences or ()))
        self._tells_cached = asks_for_caching(given)

    def opening(self, started: Started) -> wire.MessagesResponse:
        used = self._usage(started.prompt_tokens, started.cached_tokens)
        return self._message([], used)

    async def whole(self, events: AsyncIterator[Event]) -> wire.MessagesResponse:
        """All events behind the first as one message."""
        said: list[tuple[str, list[str]] | ToolCall] = []
        event = await anext(events)
        while isinstance(event, Delta):
            for part in parts(event):
                last = said[-1] if said else None
                assert not isinstance(part, CallPart), "nobody asked for parts"
                if isinstance(part, ToolCall):
                    said.append(part)
                elif isinstance(last, tuple) and last[0] == part[0]:
                    last[1].append(part[1])
                else:
                    said.append((part[0], [part[1]]))
            event = await anext(events)
        assert isinstance(event, Done), "nothing else ends an answer"
        has_calls = any(isinstance(one, ToolCall) for one in said)
        end = self.end(event, has_calls=has_calls)
        blocks = [self._block(one) for one in said]
        return self._message(blocks, self.usage(event), end, **cut(event))

    def end(self, done: Done, *, has_calls: bool) -> wire.MessageEnd:
        """An answer that was cut says so, also where it has calls: the next one may be missing."""
        if done.reason == "length":
            return wire.MessageEnd("max_tokens", None)
        if has_calls:
            return wire.MessageEnd("tool_use", None)
        if done.stop_text in self._stops:
            return wire.MessageEnd("stop_sequence", done.stop_text)
        return wire.MessageEnd("end_turn", None)

    def usage(self, done: Done) -> wire.MessagesUsage:
        return self._usage(done.prompt_tokens, done.cached_tokens, done.eval_tokens, done.thought_tokens)

    def _usage(
        self, prompt_tokens: int, cached_tokens: int, output_tokens: int = 0, thought_tokens: int = 0
    ) -> wire.MessagesUsage:
        cached = cached_tokens if self._tells_cached else 0
        return wire.MessagesUsage(
            input_tokens=prompt_tokens - cached,
            cache_creation_input_tokens=0,
            cache_read_input_tokens=cached,
            output_tokens=output_tokens,
            output_tokens_details=wire.OutputTokensDetails(thought_tokens) if thought_tokens else None,
        )

    def _block(self, said: tuple[str, list[str]] | ToolCall) -> wire.Block:
        if isinstance(said, ToolCall):
            return wire.ToolUseBlock(id=said.call_id, name=said.name, input=said.arguments)
        kind, pieces = said
        if kind == "text":
            return wire.TextBlock(text="".join(pieces))
        return wire.ThinkingBlock(thinking="".join(pieces) if self.shows_thoughts else "", signature=SIGNATURE)

    def _message(
        self, content: list[wire.Block], used: wire.MessagesUsage, end: wire.MessageEnd | None = None, **more: Any
    ) -> wire.MessagesResponse:
        return wire.MessagesResponse(
            id=self.message_id,
            role="assistant",
            model=self.model,
            content=content,
            stop_reason=end.stop_reason if end else None,
            stop_sequence=end.stop_sequence if end else None,
            usage=used,
            **more,
        )


def parts(delta: Delta) -> Iterator[Part]:
    """What came at once, in the order in which it was said."""
    if delta.thinking:
        yield "thinking", delta.thinking
    if delta.content:
        yield "text", delta.content
    yield from delta.call_parts
    yield from delta.tool_calls


def cut(done: Done) -> dict[str, Any]:
    """The fields that say what was left out of the conversation, where something was."""
    if done.truncation is None:
        return {}
    facts = done.truncation
    return {"truncated": True, "prompt_tokens_total": facts.prompt_tokens_total, "dropped_messages": facts.dropped_messages}
