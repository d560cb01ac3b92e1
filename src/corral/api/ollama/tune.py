"""POST /api/tune: measuring, which is reported on while it is done. Not part of Ollama's API."""

from dataclasses import replace
from typing import Final

from corral.api.decode import RequestDecoder
from corral.api.exchange import PLAIN_JSON, Answer, Exchange, Handler, json_answer
from corral.api.ollama.dialect import OLLAMA
from corral.api.services import TuneService
from corral.api.stream import line, pump
from corral.service.requests import Status
from corral.service.tuning import TuneRequest, TuneStatus
from corral.wire import text as wire
from corral.wire.tuning import TuneResponse

_TUNE: Final = RequestDecoder(wire.TuneRequest, OLLAMA)


def tune(service: TuneService) -> Handler:
    async def handle(exchange: Exchange) -> Answer | None:
        given = _TUNE.decode(exchange.body)
        running = service.tune(_request(given))
        exchange.error_type = PLAIN_JSON
        async with running as statuses:
            last = await anext(statuses)
            if given.stream is not False:
                await pump(last, statuses, lambda status: line(_response(status)), exchange.write)
                return None
            async for status in statuses:
                last = status
        return json_answer(_response(last), content_type=PLAIN_JSON)

    return handle


def _request(given: wire.TuneRequest) -> TuneRequest:
    default = TuneRequest(model=given.model or "")
    return replace(
        default,
        rounds=default.rounds if given.rounds is None else given.rounds,
        budget_s=default.budget_s if given.budget is None else given.budget,
        allow_lossy=bool(given.allow_lossy),
        dry_run=bool(given.dry_run),
        clear=bool(given.clear),
    )


def _response(status: Status) -> TuneResponse:
    report = status.report if isinstance(status, TuneStatus) else None
    return TuneResponse(status=status.status, total=status.total, completed=status.completed, report=report)
