"""What the API needs from below: the use cases behind its endpoints, as Protocols, so that tests can hand in scripted ones."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from corral.sched import Running
from corral.service.create import CreateRequest
from corral.service.embed import Embeddings, EmbedRequest
from corral.service.models import ShowResult
from corral.service.requests import ChatRequest, Event, GenerateRequest, Status
from corral.service.rerank import Ranks, RerankRequest
from corral.service.tokens import Detokenized, DetokenizeRequest, Tokenized, TokenizeRequest
from corral.service.tuning import TuneRequest
from corral.store import Listing
from corral.wire.care import Pruned, StoreUse


class InferenceService(Protocol):
    def chat(self, request: ChatRequest) -> AbstractAsyncContextManager[AsyncIterator[Event]]: ...

    def generate(self, request: GenerateRequest) -> AbstractAsyncContextManager[AsyncIterator[Event]]: ...

    def running(self) -> Sequence[Running]:
        """The models in memory, latest expiry first."""
        ...


class EmbedService(Protocol):
    async def embed(self, request: EmbedRequest) -> Embeddings: ...


class RerankService(Protocol):
    async def rerank(self, request: RerankRequest) -> Ranks: ...


class TokenService(Protocol):
    async def tokenize(self, request: TokenizeRequest) -> Tokenized: ...

    async def detokenize(self, request: DetokenizeRequest) -> Detokenized: ...


class ModelService(Protocol):
    async def list_models(self) -> Listing:
        """Newest first, and those that are damaged."""
        ...

    async def usage(self) -> StoreUse: ...

    async def prune(self, *, dry_run: bool, partials: bool) -> Pruned: ...

    async def show(
        self, name_text: str, *, verbose: bool, system: str, template: str, options: Mapping[str, Any]
    ) -> ShowResult: ...

    async def delete(self, name_text: str) -> None: ...

    async def copy(self, source: str, destination: str) -> None: ...


class PullService(Protocol):
    def pull(self, name_text: str, *, insecure: bool) -> AbstractAsyncContextManager[AsyncIterator[Status]]: ...


class PushService(Protocol):
    def push(self, name_text: str, *, insecure: bool) -> AbstractAsyncContextManager[AsyncIterator[Status]]: ...


class CreateService(Protocol):
    def create(self, request: CreateRequest) -> AbstractAsyncContextManager[AsyncIterator[Status]]: ...


class TuneService(Protocol):
    def tune(self, request: TuneRequest) -> AbstractAsyncContextManager[AsyncIterator[Status]]: ...


class BlobService(Protocol):
    async def has(self, digest: str) -> bool:
        """Raises BadRequestError for a digest that is none."""
        ...

    async def put(self, digest: str, chunks: AsyncIterator[bytes]) -> bool:
        """Keeps the bytes under that digest; false, without looking at them, where it is there already.

        Raises BadRequestError for a digest that is none, or not that of the bytes.
        """
        ...

    async def take(self, digest: str, path: str) -> bool:
        """The same for a file of this machine. Raises LocalFileError where it is not taken."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The use cases that the API is an edge to."""

    inference: InferenceService
    embed: EmbedService
    rerank: RerankService
    tokens: TokenService
    models: ModelService
    create: CreateService
    pull: PullService
    push: PushService
    blobs: BlobService
    tune: TuneService
