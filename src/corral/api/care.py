"""GET /admin/store and POST /admin/store/prune: what is in the store and who needs it, and the removal of what nobody does."""

from typing import Final

from corral.api.decode import RequestDecoder
from corral.api.exchange import Answer, Exchange, Handler, json_answer
from corral.api.ollama import OLLAMA
from corral.api.openapi import Operation
from corral.api.services import ModelService
from corral.wire import care as wire
from corral.wire.admin import PruneRequest

_PRUNE: Final = RequestDecoder(PruneRequest, OLLAMA)


def operations(service: ModelService) -> list[Operation]:
    return [
        Operation(
            path="/admin/store",
            methods=("GET", "HEAD"),
            handler=_usage(service),
            summary="What the store's models take, and what no model needs",
            tag="server",
            response=wire.StoreUse,
        ),
        Operation(
            path="/admin/store/prune",
            methods=("POST",),
            handler=_prune(service),
            summary="Remove from the store what no model needs",
            tag="server",
            request=PruneRequest,
            response=wire.Pruned,
        ),
    ]


def _usage(service: ModelService) -> Handler:
    async def handle(_exchange: Exchange) -> Answer:
        return json_answer(await service.usage())

    return handle


def _prune(service: ModelService) -> Handler:
    async def handle(exchange: Exchange) -> Answer:
        given = await exchange.aside(_PRUNE.decode, exchange.body)
        return json_answer(await service.prune(dry_run=bool(given.dry_run), partials=bool(given.partials)))

    return handle
