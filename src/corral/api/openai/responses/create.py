"""POST /v1/responses: the events of an answer as items, in one object or as a stream of what happens to them.

A stream goes: response.created, response.in_progress, the events of one item after another, and in the end always one of
response.completed, response.incomplete and response.failed.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from corral.api.decode import RequestDecoder
from corral.api.errors import FieldError
from corral.api.exchange import PLAIN_JSON, Answer, Exchange, Handler
from corral.api.openai.choices import SIGN, SILENCE_S
from corral.api.openai.dialect import OPENAI
from corral.api.openai.responses.convert import chat_request
from corral.api.openai.responses.held import HeldResponses
from corral.api.openai.responses.output import Events, Output
from corral.api.openai.responses.reply import Reply
from corral.api.openai.responses.tools import Tools, tools_of
from corral.api.services import InferenceService
from corral.api.stream import EventStream, pump
from corral.api.truncation import tell_truncation
from corral.core.errors import BadRequestError
from corral.service.requests import ChatRequest, Delta, Done, Event
from corral.wire import responses as wire

_REQUEST: Final = RequestDecoder(wire.ResponsesRequest, OPENAI)


def responses(inference: InferenceService, held: HeldResponses) -> Handler:
    async def handle(exchange: Exchange) -> Answer | None:
        given = await exchange.aside(_REQUEST.decode, exchange.body)
        if not given.model:
            exchange.understood()
            raise BadRequestError("model is required")
        before = held.conversation(given.previous_response_id) if given.previous_response_id else ()
        request, items, tools = await exchange.aside(_asked, given, before, held, client=exchange.client)
        exchange.understood()
        response = Response(given, tools, items, held)
        async with inference.chat(request) as events:
            first = await anext(events)
            tell_truncation(exchange, first)
            if given.stream:
                exchange.error_frame = response.failed
                out = EventStream(exchange.write)
                async with out.kept_alive(SIGN, silence_s=SILENCE_S):
                    await pump(first, events, response.render, out.write)
                return None
            response.render(first)
            async for event in events:
                response.render(event)
        return Answer(response.body, content_type=PLAIN_JSON)

    return handle


def _asked(
    given: wire.ResponsesRequest, before: Sequence[wire.InputItem], held: HeldResponses, *, client: str
) -> tuple[ChatRequest, list[wire.InputItem], Tools]:
    """With all items of the conversation. Raises BadRequestError."""
    items, tools = list(_items(given, before, held)), tools_of(given)
    return chat_request(given, items, tools, client=client), [item for _, item in items], tools


def _items(
    given: wire.ResponsesRequest, before: Sequence[wire.InputItem], held: HeldResponses
) -> Iterator[tuple[str, wire.InputItem]]:
    """The whole conversation, and where each item of it stands."""
    for item in before:
        yield "previous_response_id", item
    if not given.previous_response_id and not given.input and given.input != "":
        raise FieldError("input", "input is missing; it must be a text or a list of items")
    if isinstance(given.input, str):
        yield "input", wire.InputItem(type="message", role="user", content=given.input)
        return
    for index, item in enumerate(given.input or ()):
        at = f"input[{index}]"
        is_reference = item.type == "item_reference" or not (item.type or item.role)
        yield at, held.item(item.id, at) if is_reference and item.id else item


class Response:
    """One response as it comes about. It is kept, where it is to be, before anybody hears of its end."""

    def __init__(
        self, given: wire.ResponsesRequest, tools: Tools, items: Sequence[wire.InputItem], held: HeldResponses
    ) -> None:
        self.body = b""  # the whole of it, once it is there
        self._reply = Reply(given)
        self._events = Events(is_streamed=bool(given.stream))
        self._output = Output(self._events, tools.parts)
        self._items = items
        self._held = None if given.store is False else held
        self._has_begun = False

    def render(self, event: Event) -> bytes:
        opening = b"" if self._has_begun else self._opening()
        match event:
            case Delta():
                return opening + self._output.add(event)
            case Done():
                return opening + self._ending(event)
        raise AssertionError(f"no {type(event).__name__} comes of a conversation")

    def failed(self, error: Exception) -> bytes:
        """The end of a stream that goes no further."""
        return self._events.event(wire.ResponseFailed, self._reply.failed(self._output.items(), error))

    def _opening(self) -> bytes:
        self._has_begun = True
        begun = self._reply.begun()
        return self._events.event(wire.ResponseCreated, begun) + self._events.event(wire.ResponseInProgress, begun)

    def _ending(self, done: Done) -> bytes:
        is_cut = done.reason == "length"
        said = self._output.end(is_cut=is_cut)
        items = self._output.items()
        whole = self._reply.ended(items, done)
        self.body = msgspec.json.encode(whole)
        if self._held:
            own = msgspec.convert(msgspec.to_builtins(items), list[wire.InputItem])
            self._held.keep(self._reply.response_id, self.body, (*self._items, *own))
        return said + self._events.event(wire.ResponseIncomplete if is_cut else wire.ResponseCompleted, whole)
