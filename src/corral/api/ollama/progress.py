"""POST /api/pull, /api/push and /api/create: work that is reported on while it is done."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Final

from corral.api.decode import RequestDecoder
from corral.api.exchange import PLAIN_JSON, Answer, Exchange, Handler, json_answer
from corral.api.ollama.convert import create_request
from corral.api.ollama.dialect import OLLAMA
from corral.api.services import CreateService, PullService, PushService
from corral.api.stream import line, pump
from corral.core.errors import BadRequestError
from corral.service.requests import Status
from corral.wire import ollama as wire

_PULL: Final = RequestDecoder(wire.PullRequest, OLLAMA)
_PUSH: Final = RequestDecoder(wire.PushRequest, OLLAMA)
_CREATE: Final = RequestDecoder(wire.CreateRequest, OLLAMA)


def _line(status: Status) -> bytes:
    return line(
        wire.ProgressResponse(
            status=status.status, digest=status.digest, type=status.kind, total=status.total, completed=status.completed
        )
    )


async def _report(
    exchange: Exchange, running: AbstractAsyncContextManager[AsyncIterator[Status]], *, stream: bool
) -> Answer | None:
    """Every status as a line, or only the last one as an object.

    What is wrong with the request's form has been said before; from here on errors have Ollama's other content type.
    """
    exchange.error_type = PLAIN_JSON
    async with running as statuses:
        last = await anext(statuses)
        if stream:
            await pump(last, statuses, _line, exchange.write)
            return None
        async for status in statuses:
            last = status
    return json_answer(wire.ProgressResponse(status=last.status), content_type=PLAIN_JSON)


def pull(service: PullService) -> Handler:
    async def handle(exchange: Exchange) -> Answer | None:
        given = await exchange.aside(_PULL.decode, exchange.body)
        running = service.pull(given.model or given.name or "", insecure=bool(given.insecure))
        return await _report(exchange, running, stream=given.stream is not False)

    return handle


def push(service: PushService) -> Handler:
    async def handle(exchange: Exchange) -> Answer | None:
        given = await exchange.aside(_PUSH.decode, exchange.body)
        name = given.model or given.name
        if not name:
            raise BadRequestError("model is required")
        return await _report(exchange, service.push(name, insecure=bool(given.insecure)), stream=given.stream is not False)

    return handle


def create(service: CreateService) -> Handler:
    async def handle(exchange: Exchange) -> Answer | None:
        given, request = await exchange.read(_CREATE, create_request)
        running = service.create(request)
        return await _report(exchange, running, stream=given.stream is not False)

    return handle
