"""POST /api/rerank: texts in the order in which they answer a query."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from corral.api.clients import priority_of
from corral.api.decode import RequestDecoder
from corral.api.exchange import Answer, Exchange, Handler, json_answer
from corral.api.ollama.dialect import OLLAMA
from corral.api.services import RerankService
from corral.api.values import keep_alive
from corral.core.errors import BadRequestError
from corral.service.rerank import Ranks, RerankRequest
from corral.wire import text as wire

_RERANK: Final = RequestDecoder(wire.RerankRequest, OLLAMA)


def rerank(service: RerankService) -> Handler:
    async def handle(exchange: Exchange) -> Answer:
        given, request = await exchange.read(_RERANK, partial(_request, client=exchange.client))
        ranks = await service.rerank(request)
        return json_answer(_response(request, ranks, with_documents=bool(given.return_documents)))

    return handle


def _request(given: wire.RerankRequest, *, client: str) -> RerankRequest:
    return RerankRequest(
        model=given.model or "",
        query=given.query or "",
        documents=_documents(given.documents or ()),
        top_n=given.top_n,
        truncate=given.truncate is not False,
        raw_scores=bool(given.raw_scores),
        options=given.options or {},
        keep_alive_s=keep_alive(given.keep_alive),
        client=client,
        priority=priority_of(given.priority),
    )


def _documents(given: Sequence[str | wire.RerankDocument]) -> tuple[str, ...]:
    """Raises BadRequestError for an object that has no text: an image, as some rankers read, would be passed over."""
    texts: list[str] = []
    for index, document in enumerate(given):
        text = document if isinstance(document, str) else document.text
        if text is None:
            raise BadRequestError(f"documents[{index}] has no text")
        texts.append(text)
    return tuple(texts)


def _response(request: RerankRequest, ranks: Ranks, *, with_documents: bool) -> wire.RerankResponse:
    results = [
        wire.RerankResult(
            index=one.index,
            relevance_score=one.score,
            document=wire.RankedDocument(text=request.documents[one.index]) if with_documents else None,
        )
        for one in ranks.results
    ]
    return wire.RerankResponse(
        model=request.model,
        results=results,
        total_duration=ranks.total_ns,
        load_duration=ranks.load_ns,
        prompt_eval_count=ranks.prompt_tokens,
    )
