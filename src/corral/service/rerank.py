"""Ranking: texts in the order in which they answer a query, by a model that reads both together.

Raw scores are what the model's classifier gives. They are any numbers, so a score is their logistic function unless the raw
ones are asked for: between 0 and 1, in the same order. A model whose last layer does that itself is left alone.
"""

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from corral.core.aio import ThreadLimiter
from corral.core.clock import Clock, SystemClock
from corral.core.errors import BadRequestError, CapabilityError, EngineError
from corral.core.options import Options
from corral.core.types import EmbedJob, Vectors
from corral.engine import Engine
from corral.sched import Scheduler
from corral.service.lookup import ModelLookup
from corral.service.second_try import tried_twice
from corral.store import Model, Store

_GIVE_SHARES: Final = frozenset({"qwen3", "qwen3vl"})  # architectures. Source: llama.cpp llama-graph.cpp, build_pooling
_FLOAT_BYTES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankRequest:
    """No documents at all: load the model."""

    model: str  # as the client spelled it
    query: str = ""
    documents: tuple[str, ...] = ()
    top_n: int | None = None  # so many of the best; None: all
    truncate: bool = True  # cut a document that is too long to be read with the query
    raw_scores: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    keep_alive_s: float | None = None  # None: the server's default
    client: str = ""  # who asks: clients share evenly what there is
    priority: int = 0  # lower goes first


@dataclass(frozen=True, slots=True)
class Ranked:
    """A document and how well it answers the query."""

    index: int  # among the request's documents
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """The documents, best first; of equal ones the first first."""

    results: tuple[Ranked, ...] = ()
    total_ns: int = 0  # from the request's arrival
    load_ns: int = 0  # waiting for the model, queueing included
    prompt_tokens: int = 0


class RerankService:
    """The use case."""

    def __init__(self, store: Store, scheduler: Scheduler, *, clock: Clock | None = None) -> None:
        self._scheduler = scheduler
        self._clock: Clock = clock or SystemClock()
        self._threads = ThreadLimiter("corral-rerank", 1)  # reads models
        self._lookup = ModelLookup(store, self._threads)

    def close(self) -> None:
        self._threads.close()

    async def rerank(self, request: RerankRequest) -> Ranks:
        """Raises BadRequestError, ModelNotFoundError, CapabilityError, ContextOverflowError, and what a lease raises."""
        began_ns = self._clock.monotonic_ns()
        model = await self._lookup.named(request.model)
        if not model.gguf.ranks:
            raise CapabilityError(f'"{request.model}" does not support rerank')
        if request.documents and not request.query:
            raise BadRequestError("query is required")
        if request.top_n is not None and request.top_n < 1:
            raise BadRequestError(f"top_n must be 1 or more, not {request.top_n}; leave it out to get all documents")
        options = Options.resolve(model.parameters, request.options)
        made = await tried_twice(model, lambda: self._made(model, options, request))
        return replace(made, total_ns=self._clock.monotonic_ns() - began_ns) if request.documents else made

    async def _made(self, model: Model, options: Options, request: RerankRequest) -> Ranks:
        async with self._scheduler.lease(
            model, options, keep_alive_s=request.keep_alive_s, client=request.client, priority=request.priority
        ) as lease:
            if not request.documents:
                return Ranks()
            job = EmbedJob(texts=request.documents, query=request.query, num_ctx=lease.num_ctx, truncate=request.truncate)
            scores, prompt_tokens = await _computed(lease.engine, job)
            lease.place.spend(prompt_tokens)
        ranked = sorted((Ranked(*pair) for pair in enumerate(scores)), key=lambda one: -one.score)[: request.top_n]
        if not request.raw_scores and model.gguf.architecture not in _GIVE_SHARES:
            ranked = [Ranked(one.index, _logistic(one.score)) for one in ranked]
        return Ranks(results=tuple(ranked), load_ns=lease.load_ns, prompt_tokens=prompt_tokens)


async def _computed(engine: Engine, job: EmbedJob) -> tuple[list[float], int]:
    scores: list[float] = []
    prompt_tokens = 0
    async with engine.embed(job) as arriving:
        async for came in arriving:
            scores += _first_numbers(came)
            prompt_tokens += came.prompt_tokens
    for index, score in enumerate(scores):
        if not math.isfinite(score):
            raise EngineError(f"the model gave no number as the score of document {index}")
    return scores, prompt_tokens


def _first_numbers(came: Vectors) -> Iterator[float]:
    """Of each vector the first number; the others are of classes that say nothing of the query."""
    row_bytes = len(came.data) // came.count
    return (struct.unpack_from("<f", came.data, at)[0] for at in range(0, row_bytes * came.count, row_bytes))


def _logistic(score: float) -> float:
    """Between 0 and 1, in the order of the scores."""
    return 1 / (1 + math.exp(-score)) if score >= 0 else math.exp(score) / (1 + math.exp(score))
