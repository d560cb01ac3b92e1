"""POST /v1/messages: from a request to the events, or the one message, of its answer.

While a stream has nothing to say for long, it has pings.
"""

from functools import partial
from typing import Final

from corral.api.anthropic.blocks import BlockStream
from corral.api.anthropic.convert import chat_request
from corral.api.anthropic.dialect import ANTHROPIC
from corral.api.anthropic.reply import Reply
from corral.api.decode import RequestDecoder
from corral.api.exchange import PLAIN_JSON, Answer, Exchange, Handler, json_answer
from corral.api.services import InferenceService
from corral.api.stream import EventStream, named_event, pump
from corral.api.truncation import tell_truncation
from corral.service.requests import Started
from corral.wire import anthropic as wire

_REQUEST: Final = RequestDecoder(wire.MessagesRequest, ANTHROPIC)
_SILENCE_S: Final = 15.0  # proxies take a stream for dead after 30 to 60
_PING: Final = named_event("ping", wire.Ping())


def messages(inference: InferenceService, *, silence_s: float = _SILENCE_S) -> Handler:
    async def handle(exchange: Exchange) -> Answer | None:
        given, request = await exchange.read(_REQUEST, partial(chat_request, client=exchange.client))
        reply = Reply(given)
        async with inference.chat(request) as events:
            started = await anext(events)
            assert isinstance(started, Started), "there are messages, and the start was asked for"
            tell_truncation(exchange, started)
            if not given.stream:
                return json_answer(await reply.whole(events), content_type=PLAIN_JSON)
            out = EventStream(exchange.write)
            async with out.kept_alive(_PING, silence_s=silence_s):
                await pump(started, events, BlockStream(reply).render, out.write)
            return None

    return handle
