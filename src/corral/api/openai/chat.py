"""POST /v1/chat/completions: the events of each answer as chunks of a stream, or all answers in one object.

In a stream a call's arguments come piece by piece, as the model writes them, in deltas of the call's index.
"""

import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final
from uuid import uuid4

import msgspec

from corral.api.decode import RequestDecoder
from corral.api.exchange import Answer, Exchange, Handler
from corral.api.openai.choices import Choice, Reply, answer
from corral.api.openai.convert import chat_requests
from corral.api.openai.dialect import OPENAI
from corral.api.openai.tokens import chat_logprobs
from corral.api.openai.values import tier_told
from corral.api.services import InferenceService
from corral.api.stream import TextEvent, event
from corral.core.types import ToolCall
from corral.service.requests import Delta, Done
from corral.wire import openai as wire

FINGERPRINT: Final = "fp_ollama"
_REQUEST: Final = RequestDecoder(wire.ChatCompletionRequest, OPENAI)


def chat(inference: InferenceService) -> Handler:
    async def handle(exchange: Exchange) -> Answer | None:
        given, requests = await exchange.read(_REQUEST, partial(chat_requests, client=exchange.client))
        starts = [partial(inference.chat, request) for request in requests]
        options = given.stream_options
        wants_usage = bool(options and options.include_usage)
        reply = ChatReply(given.model or "", tier_told(given) if given.service_tier else "")
        return await answer(exchange, starts, reply, stream=bool(given.stream), wants_usage=wants_usage)

    return handle


class ChatReply(Reply):
    def __init__(self, model: str, tier: str = "") -> None:
        """`tier`: the service tier, where it is to be told."""
        self._head: dict[str, Any] = {
            "id": f"chatcmpl-{uuid4().hex}",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": FINGERPRINT,
            "service_tier": tier,
        }

    def choice(self, index: int) -> "ChatChoice":
        return ChatChoice(self, index)

    def chunk(self, choices: list[wire.ChatChunkChoice], **more: Any) -> bytes:
        return event(wire.ChatCompletionChunk(object="chat.completion.chunk", choices=choices, **self._head, **more))

    def usage_chunk(self, used: wire.Usage) -> bytes:
        return self.chunk([], usage=used)

    def whole(self, answers: Sequence[tuple[Delta, Done]], used: wire.Usage) -> wire.ChatCompletion:
        choices = [_whole(index, said, done) for index, (said, done) in enumerate(answers)]
        cut = truncated([done for _, done in answers])
        return wire.ChatCompletion(object="chat.completion", choices=choices, usage=used, **self._head, **cut)


class ChatChoice(Choice):
    """The first chunk has the role, whatever it is; thoughts and content never share one; the last has the end alone."""

    def __init__(self, reply: ChatReply, index: int) -> None:
        self._reply = reply
        self._index = index
        self._has_role = False
        self._calls = 0  # that are complete
        self._told: set[int] = set()  # the calls of which a part has been sent
        self._content: TextEvent | None = None
        self._thinking: TextEvent | None = None

    def chunks(self, delta: Delta) -> bytes:
        is_plain = self._has_role and not (delta.call_parts or delta.tool_calls or delta.logprobs)
        if is_plain and not delta.thinking:
            if self._content is None:
                self._content = TextEvent(lambda text: self._chunk(wire.ChatDelta(content=text)))
            return self._content.fill(delta.content)
        if is_plain and not delta.content:
            if self._thinking is None:
                self._thinking = TextEvent(lambda text: self._chunk(_thought(text)))
            return self._thinking.fill(delta.thinking)
        return self._slowly(delta)

    def ending(self, done: Done) -> bytes:
        opening = b"" if self._has_role else self._chunk(wire.ChatDelta(role="assistant", content=""))
        end = wire.ChatChunkChoice(
            index=self._index, delta=wire.ChatDelta(), finish_reason=finish_reason(done, calls=self._calls)
        )
        return opening + self._reply.chunk([end], **truncated([done]))

    def _slowly(self, delta: Delta) -> bytes:
        """A chunk for each part of the delta; the first has its logprobs, and of the answer the role."""
        out = b""
        logprobs = chat_logprobs(delta.logprobs)
        for part in self._parts(delta):
            said = part if self._has_role else msgspec.structs.replace(part, role="assistant")
            out += self._chunk(said, logprobs)
            self._has_role, logprobs = True, None
        return out

    def _parts(self, delta: Delta) -> Iterator[wire.ChatDelta]:
        if delta.thinking:
            yield _thought(delta.thinking)
        calls = [*self._call_pieces(delta)]
        if delta.content or not (delta.thinking or calls or (delta.tool_calls and not delta.logprobs)):
            yield wire.ChatDelta(content=delta.content)
        for call in calls:
            yield wire.ChatDelta(content="", tool_calls=[call]) if call.id else wire.ChatDelta(tool_calls=[call])

    def _call_pieces(self, delta: Delta) -> Iterator[wire.ToolCallDelta]:
        """The parts of calls, and the whole of a call that had none."""
        for part in delta.call_parts:
            yield self._call_piece(part.index, part.call_id, part.name, part.text)
        for call in delta.tool_calls:
            self._calls += 1
            if call.index not in self._told:
                yield self._call_piece(call.index, call.call_id, call.name, arguments_text(call))

    def _call_piece(self, index: int, call_id: str, name: str, text: str) -> wire.ToolCallDelta:
        """Only the first one of a call says which call it is."""
        if index in self._told:
            return wire.ToolCallDelta(index=index, function=wire.ToolFunctionDelta(arguments=text))
        self._told.add(index)
        function = wire.ToolFunctionDelta(name=name, arguments=text)
        return wire.ToolCallDelta(id=call_id or _new_call_id(), index=index, type="function", function=function)

    def _chunk(self, delta: wire.ChatDelta, logprobs: wire.ChatLogprobs | None = None) -> bytes:
        choice = wire.ChatChunkChoice(index=self._index, delta=delta, finish_reason=None, logprobs=logprobs)
        return self._reply.chunk([choice])


def _thought(text: str) -> wire.ChatDelta:
    return wire.ChatDelta(content="", reasoning=text, reasoning_content=text)


def _whole(index: int, said: Delta, done: Done) -> wire.ChatChoice:
    reply = wire.ChatReply(
        role="assistant",
        content=said.content,
        reasoning=said.thinking,
        reasoning_content=said.thinking,
        tool_calls=[_tool_call(number, call) for number, call in enumerate(said.tool_calls)],
    )
    reason = finish_reason(done, calls=len(said.tool_calls))
    return wire.ChatChoice(index=index, message=reply, finish_reason=reason, logprobs=chat_logprobs(said.logprobs))


def _tool_call(index: int, call: ToolCall) -> wire.ToolCall:
    function = wire.ToolFunction(name=call.name, arguments=arguments_text(call))
    return wire.ToolCall(id=call.call_id or _new_call_id(), index=index, type="function", function=function)


def _new_call_id() -> str:
    return f"call_{uuid4().hex[:24]}"


def arguments_text(call: ToolCall) -> str:
    return msgspec.json.encode(call.arguments).decode()


def finish_reason(done: Done, *, calls: int = 0) -> str:
    """An answer that was cut says so, also where it has calls: the next one may be missing."""
    return "tool_calls" if calls and done.reason == "stop" else done.reason


def truncated(ends: Sequence[Done]) -> dict[str, Any]:
    """The fields that say what was left out of the conversation, where something was: of all answers the same."""
    cut = next((done.truncation for done in ends if done.truncation), None)
    if cut is None:
        return {}
    return {"truncated": True, "prompt_tokens_total": cut.prompt_tokens_total, "dropped_messages": cut.dropped_messages}
