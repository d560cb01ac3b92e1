"""The use cases chat and generate without a model: they answer with the events that a test gives them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from corral.sched import Running
from corral.service.requests import ChatRequest, Event, GenerateRequest


class Scripted:
    """Answers every request with the same events; an error among them is raised in its place, an asyncio.Event waited for."""

    def __init__(self, *script: Event | Exception | asyncio.Event, refusal: Exception | None = None) -> None:
        self.script = script
        self.scripts: dict[int, Sequence[Event | Exception | asyncio.Event]] = {}  # of single requests, by their number
        self.refusal = refusal
        self.requests: list[ChatRequest | GenerateRequest] = []
        self.open = 0
        self.is_open = asyncio.Event()

    @asynccontextmanager
    async def chat(self, request: ChatRequest | GenerateRequest) -> AsyncIterator[AsyncIterator[Event]]:
        script = self.scripts.get(len(self.requests), self.script)
        self.requests.append(request)
        if self.refusal:
            raise self.refusal
        self.open += 1
        self.is_open.set()
        try:
            yield self._events(script)
        finally:
            self.open -= 1

    generate = chat

    def running(self) -> Sequence[Running]:
        return []

    async def _events(self, script: Sequence[Event | Exception | asyncio.Event]) -> AsyncIterator[Event]:
        for item in script:
            if isinstance(item, asyncio.Event):
                await item.wait()
            elif isinstance(item, Exception):
                raise item
            else:
                yield item
