"""POST /v1/rerank: texts in the order in which they answer a query, in the form that Jina's and Cohere's clients know."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from corral.api.clients import priority_of
from corral.api.decode import RequestDecoder
from corral.api.errors import FieldError
from corral.api.exchange import PLAIN_JSON, Answer, Exchange, Handler, json_answer
from corral.api.openai.dialect import OPENAI
from corral.api.services import RerankService
from corral.api.values import keep_alive
from corral.service.rerank import Ranks, RerankRequest
from corral.wire import rerank as wire
from corral.wire.openai_embed import EmbeddingsUsage

_REQUEST: Final = RequestDecoder(wire.DocumentsRequest, OPENAI)


def rerank(service: RerankService) -> Handler:
    async def handle(exchange: Exchange) -> Answer:
        given, request = await exchange.read(_REQUEST, partial(rerank_request, client=exchange.client))
        ranks = await service.rerank(request)
        return json_answer(_ranked(request, ranks, with_texts=bool(given.return_documents)), content_type=PLAIN_JSON)

    return handle


def rerank_request(given: wire.DocumentsRequest, *, client: str) -> RerankRequest:
    """Raises FieldError."""
    if not given.query:
        raise FieldError("query", "query is missing; it must be a text")
    if not given.documents:
        raise FieldError("documents", "documents is missing; it must be a list of texts")
    if given.top_n is not None and given.top_n < 1:
        raise FieldError("top_n", f"top_n is {given.top_n}; it must be at least 1, or left out to get all documents")
    return RerankRequest(
        model=given.model or "",
        query=given.query,
        documents=_texts(given.documents),
        top_n=given.top_n,
        truncate=given.truncate is not False,
        options=given.options or {},
        keep_alive_s=keep_alive(given.keep_alive),
        client=client,
        priority=priority_of(given.priority),
    )


def _texts(given: Sequence[str | wire.SentDocument]) -> tuple[str, ...]:
    texts: list[str] = []
    for index, document in enumerate(given):
        text = document if isinstance(document, str) else document.text
        if text is None:
            raise FieldError(f"documents[{index}].text", f"documents[{index}].text is missing; only texts are ranked")
        texts.append(text)
    return tuple(texts)


def _ranked(request: RerankRequest, ranks: Ranks, *, with_texts: bool) -> wire.RankedDocuments:
    results = [
        wire.RankedEntry(
            index=one.index,
            relevance_score=one.score,
            document=wire.RankedText(request.documents[one.index]) if with_texts else None,
        )
        for one in ranks.results
    ]
    used = EmbeddingsUsage(prompt_tokens=ranks.prompt_tokens, total_tokens=ranks.prompt_tokens)
    return wire.RankedDocuments(object="list", model=request.model, results=results, usage=used)
