"""Embeddings: from texts to vectors of length 1.

The vectors are held as 32-bit floats until the last one is there: a text that cannot be embedded fails the whole request, with
a status. So what a request may ask for is bounded before anything is computed.
The order of the checks is Ollama's. Source: ollama@v0.32 server/routes.go, EmbedHandler and EmbeddingsHandler.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, Final

from corral.core.aio import ThreadLimiter
from corral.core.clock import Clock, SystemClock
from corral.core.errors import (
    BadRequestError,
    CapabilityError,
    ContextOverflowError,
    ModelNotFoundError,
    NotFoundError,
)
from corral.core.options import Options
from corral.core.types import EmbedJob
from corral.engine import Engine
from corral.sched import Scheduler
from corral.service.lookup import ModelLookup
from corral.service.second_try import tried_twice
from corral.store import RANK_POOLING, Model, Store

_MOST_BYTES: Final = 1 << 29  # of one request's vectors
_FLOAT_BYTES: Final = 4


class NotFiniteError(BadRequestError):
    """The model gave numbers that are none."""

    def __init__(self) -> None:
        super().__init__("embedding contains NaN or Inf values")


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedRequest:
    """No texts at all: load the model."""

    model: str  # as the client spelled it
    texts: tuple[str, ...] = ()
    truncate: bool = True  # cut each text to what the model can read
    dimensions: int = 0  # numbers of a vector to keep; 0, or as many as there are: all
    options: Mapping[str, Any] = field(default_factory=dict)
    keep_alive_s: float | None = None  # None: the server's default
    client: str = ""  # who asks: clients share evenly what there is
    priority: int = 0  # lower goes first


@dataclass(frozen=True, slots=True, kw_only=True)
class Embeddings:
    """One vector a text, in order; in pieces of whole vectors."""

    pieces: tuple[bytes, ...] = ()  # float32, little-endian, row by row
    count: int = 0
    dimensions: int = 0  # numbers in a vector
    total_ns: int = 0  # from the request's arrival
    load_ns: int = 0  # waiting for the model, queueing included
    prompt_tokens: int = 0


class EmbedService:
    """The use case."""

    def __init__(self, store: Store, scheduler: Scheduler, *, clock: Clock | None = None) -> None:
        self._scheduler = scheduler
        self._clock: Clock = clock or SystemClock()
        self._threads = ThreadLimiter("corral-embed", 1)  # reads models, and imports numpy
        self._lookup = ModelLookup(store, self._threads)
        self._vectors: ModuleType | None = None

    def close(self) -> None:
        self._threads.close()

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Raises NotFoundError, CapabilityError, BadRequestError for what cannot be embedded, and what a lease raises."""
        began_ns = self._clock.monotonic_ns()
        model = await self._model(request.model)
        if model.gguf.pooling_type == RANK_POOLING:
            raise CapabilityError(f'"{request.model}" does not support embeddings: it ranks texts by a query')
        _check_size(model, request)
        options = Options.resolve(model.parameters, request.options)
        made = await tried_twice(model, lambda: self._made(model, options, request))
        return replace(made, total_ns=self._clock.monotonic_ns() - began_ns) if made.count else made

    async def _made(self, model: Model, options: Options, request: EmbedRequest) -> Embeddings:
        async with self._scheduler.lease(
            model, options, keep_alive_s=request.keep_alive_s, client=request.client, priority=request.priority
        ) as lease:
            if not request.texts:
                return Embeddings()
            job = EmbedJob(texts=request.texts, num_ctx=lease.num_ctx, truncate=request.truncate)
            made = await self._computed(lease.engine, job, request.dimensions)
            lease.place.spend(made.prompt_tokens)
            return replace(made, load_ns=lease.load_ns)

    async def _computed(self, engine: Engine, job: EmbedJob, dimensions: int) -> Embeddings:
        vectors = await self._arithmetic()
        pieces: list[bytes] = []
        prompt_tokens = 0
        try:
            async with engine.embed(job) as arriving:
                async for came in arriving:
                    if not vectors.is_finite(came.data):
                        raise NotFiniteError
                    pieces.append(vectors.cut_and_normalised(came.data, came.count, dimensions))
                    prompt_tokens += came.prompt_tokens
        except ContextOverflowError as exc:
            raise BadRequestError("the input length exceeds the context length") from exc
        count = len(job.texts)
        size = sum(map(len, pieces)) // _FLOAT_BYTES // count
        return Embeddings(pieces=tuple(pieces), count=count, dimensions=size, prompt_tokens=prompt_tokens)

    async def _arithmetic(self) -> ModuleType:
        """numpy takes memory and a moment to import: a server that embeds nothing is spared both."""
        if self._vectors is None:
            self._vectors = await self._threads.run(importlib.import_module, "corral.service.vectors")
        return self._vectors

    async def _model(self, name: str) -> Model:
        try:
            return await self._lookup.find(name)
        except ModelNotFoundError:
            if not name:
                raise
            raise NotFoundError(f'model "{name}" not found, try pulling it first') from None


def _check_size(model: Model, request: EmbedRequest) -> None:
    row_bytes = max(1, model.gguf.embedding_length) * _FLOAT_BYTES
    most = _MOST_BYTES // row_bytes
    if len(request.texts) > most:
        raise BadRequestError(
            f"the request has {len(request.texts)} inputs, and {most} are taken of a model with vectors of "
            f"{model.gguf.embedding_length} numbers; send them in several requests"
        )
