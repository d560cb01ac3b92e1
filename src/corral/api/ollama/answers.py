"""POST /api/chat and /api/generate: from a request to the lines, or the one object, of its answer.

A renderer turns a service's events into one dialect's Structs. The many plain pieces of text of a stream take the quick road
of an Envelope, everything else the Structs themselves.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Final, assert_never

import msgspec

from corral.api.decode import RequestDecoder
from corral.api.exchange import Answer, Exchange, Handler, json_answer
from corral.api.ollama.convert import chat_request, generate_request
from corral.api.ollama.dialect import OLLAMA
from corral.api.services import InferenceService
from corral.api.stamps import UtcStamps
from corral.api.stream import Envelope, line, pump
from corral.api.truncation import tell_truncation
from corral.service.requests import Delta, Done, Event, Loaded, Rendered, Started
from corral.service.whole import whole
from corral.wire import ollama as wire

_CHAT: Final = RequestDecoder(wire.ChatRequest, OLLAMA)
_GENERATE: Final = RequestDecoder(wire.GenerateRequest, OLLAMA)
_STAMPS: Final = UtcStamps()
_NO_START: Final = "no request here asks for it"


class Renderer(ABC):
    """Turns the events of one answer into the lines of one endpoint."""

    def __init__(self, model: str) -> None:
        self.model = model
        self._content: Envelope | None = None
        self._thinking: Envelope | None = None

    @abstractmethod
    def piece(self, created_at: str, delta: Delta) -> msgspec.Struct:
        """A line with a part of the answer."""

    @abstractmethod
    def end(self, created_at: str, event: Loaded | Rendered | Done, whole: Delta) -> msgspec.Struct:
        """The last line. `whole` is what it carries of the answer: nothing in a stream, all of it otherwise."""

    def line(self, event: Event) -> bytes:
        """The event as a line of a stream."""
        now = _STAMPS.now()
        if not isinstance(event, Delta):
            assert not isinstance(event, Started), _NO_START
            return line(self.end(now, event, Delta()))
        if event.tool_calls or event.logprobs or (event.content and event.thinking):
            return line(self.piece(now, event))
        if event.thinking:
            if self._thinking is None:
                self._thinking = Envelope(lambda at, text: self.piece(at, Delta(thinking=text)))
            return self._thinking.fill(now, event.thinking)
        if self._content is None:
            self._content = Envelope(lambda at, text: self.piece(at, Delta(content=text)))
        return self._content.fill(now, event.content)

    async def whole(self, first: Event, rest: AsyncIterator[Event]) -> Answer:
        """All events as one object."""
        said, event = await whole(first, rest)
        assert not isinstance(event, Started), _NO_START
        return json_answer(self.end(_STAMPS.now(), event, said))


class ChatRenderer(Renderer):
    def piece(self, created_at: str, delta: Delta) -> wire.ChatResponse:
        message, logprobs = _message("assistant", delta), _logprobs(delta)
        return wire.ChatResponse(model=self.model, created_at=created_at, message=message, done=False, logprobs=logprobs)

    def end(self, created_at: str, event: Loaded | Rendered | Done, whole: Delta) -> wire.ChatResponse:
        role = "" if isinstance(event, Rendered) else "assistant"
        message, logprobs = _message(role, whole), _logprobs(whole)
        return wire.ChatResponse(model=self.model, created_at=created_at, message=message, logprobs=logprobs, **_ending(event))


class GenerateRenderer(Renderer):
    def piece(self, created_at: str, delta: Delta) -> wire.GenerateResponse:
        return wire.GenerateResponse(
            model=self.model,
            created_at=created_at,
            response=delta.content,
            thinking=delta.thinking,
            done=False,
            tool_calls=_tool_calls(delta),
            logprobs=_logprobs(delta),
        )

    def end(self, created_at: str, event: Loaded | Rendered | Done, whole: Delta) -> wire.GenerateResponse:
        return wire.GenerateResponse(
            model=self.model,
            created_at=created_at,
            response=whole.content,
            thinking=whole.thinking,
            context=list(event.context or ()) if isinstance(event, Done) else [],
            tool_calls=_tool_calls(whole),
            logprobs=_logprobs(whole),
            **_ending(event),
        )


def _message(role: str, delta: Delta) -> wire.ReplyMessage:
    return wire.ReplyMessage(role=role, content=delta.content, thinking=delta.thinking, tool_calls=_tool_calls(delta))


def _tool_calls(delta: Delta) -> list[wire.ToolCall]:
    return [
        wire.ToolCall(
            id=call.call_id or None,
            function=wire.ToolCallFunction(index=call.index, name=call.name, arguments=call.arguments),
        )
        for call in delta.tool_calls
    ]


def _logprobs(delta: Delta) -> list[wire.TokenLogprob]:
    return [
        wire.TokenLogprob(
            token=_text(token.piece),
            logprob=token.logprob,
            bytes=list(token.piece),
            top_logprobs=[
                wire.TokenChance(token=_text(other.piece), logprob=other.logprob, bytes=list(other.piece))
                for other in token.top
            ],
        )
        for token in delta.logprobs
    ]


def _text(piece: bytes) -> str:
    return piece.decode("utf-8", "replace")


def _ending(event: Loaded | Rendered | Done) -> dict[str, Any]:
    """The fields that both endpoints' last lines share."""
    match event:
        case Loaded():
            return {"done": True, "done_reason": event.reason}
        case Rendered():
            return {"done": False, "debug_info": wire.DebugInfo(rendered_template=event.prompt, image_count=event.image_count)}
        case Done():
            fields: dict[str, Any] = {
                "done": True,
                "done_reason": event.reason,
                "total_duration": event.total_ns,
                "load_duration": event.load_ns,
                "prompt_eval_count": event.prompt_tokens,
                "prompt_eval_cached_count": event.cached_tokens,
                "prompt_eval_duration": event.prompt_ns,
                "eval_count": event.eval_tokens,
                "eval_duration": event.eval_ns,
            }
            if cut := event.truncation:
                fields |= {
                    "truncated": True,
                    "prompt_tokens_total": cut.prompt_tokens_total,
                    "dropped_messages": cut.dropped_messages,
                }
            return fields
        case _:
            assert_never(event)


async def _answer(
    exchange: Exchange,
    running: AbstractAsyncContextManager[AsyncIterator[Event]],
    renderer: Renderer,
    *,
    stream: bool,
) -> Answer | None:
    """Runs the use case to its end. What it refuses before its first event is an error with a status of its own."""
    async with running as events:
        first = await anext(events)
        tell_truncation(exchange, first)
        if not stream or isinstance(first, Loaded | Rendered):
            return await renderer.whole(first, events)
        await pump(first, events, renderer.line, exchange.write)
        return None


def chat(inference: InferenceService) -> Handler:
    async def handle(exchange: Exchange) -> Answer | None:
        given, request = await exchange.read(_CHAT, partial(chat_request, client=exchange.client))
        return await _answer(exchange, inference.chat(request), ChatRenderer(request.model), stream=given.stream is not False)

    return handle


def generate(inference: InferenceService) -> Handler:
    async def handle(exchange: Exchange) -> Answer | None:
        given, request = await exchange.read(_GENERATE, partial(generate_request, client=exchange.client))
        running = inference.generate(request)
        return await _answer(exchange, running, GenerateRenderer(request.model), stream=given.stream is not False)

    return handle
