"""What the API needs from below: the use cases behind its endpoints, as Protocols, so that tests can hand in scripted ones."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from corral.sched import Running
from corral.service.create import CreateRequest
from corral.service.models import ShowResult
from corral.service.requests import ChatRequest, Event, GenerateRequest, Status
from corral.store import Model


class InferenceService(Protocol):
    def chat(self, request: ChatRequest) -> AbstractAsyncContextManager[AsyncIterator[Event]]: ...

    def generate(self, request: GenerateRequest) -> AbstractAsyncContextManager[AsyncIterator[Event]]: ...

    def running(self) -> Sequence[Running]:
        """The models in memory, latest expiry first."""
        ...


class ModelService(Protocol):
    async def list_models(self) -> Sequence[Model]:
        """Newest first."""
        ...

    async def show(
        self, name_text: str, *, verbose: bool, system: str, template: str, options: Mapping[str, Any]
    ) -> ShowResult: ...

    async def delete(self, name_text: str) -> None: ...

    async def copy(self, source: str, destination: str) -> None: ...


class PullService(Protocol):
    def pull(self, name_text: str, *, insecure: bool) -> AbstractAsyncContextManager[AsyncIterator[Status]]: ...


class CreateService(Protocol):
    def create(self, request: CreateRequest) -> AbstractAsyncContextManager[AsyncIterator[Status]]: ...


class BlobService(Protocol):
    async def has(self, digest: str) -> bool:
        """Raises BadRequestError for a digest that is none."""
        ...

    async def put(self, digest: str, chunks: AsyncIterator[bytes]) -> bool:
        """Keeps the bytes under that digest; false, without looking at them, where it is there already.

        Raises BadRequestError for a digest that is none, or not that of the bytes.
        """
        ...
