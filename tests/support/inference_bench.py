"""Chat and generate over a scripted engine and models made by hand: what is asked, what the engine gets, what comes back."""

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

from corral.core.errors import ModelNotFoundError
from corral.core.settings import Settings
from corral.core.types import Job, LoadSpec, Message
from corral.engine.fake import FakeEngine, FakeLauncher, Script
from corral.sched import Scheduler
from corral.service import Inference
from corral.service.requests import ChatRequest, Delta, Event, GenerateRequest
from corral.store import Model, ModelName, Store

BOS: Final = -1


@dataclass(slots=True)
class Shelf:
    """A store of models made by hand."""

    models: dict[ModelName, Model]

    read: int = 0  # so many models were not known yet

    def cached(self, name: ModelName) -> Model | None:
        return self.models.get(name) if self.read else None

    def get(self, name: ModelName) -> Model:
        self.read += 1
        if name not in self.models:
            raise ModelNotFoundError(name.short)
        return self.models[name]


class BosEngine(FakeEngine):
    """Begins a text with a BOS, as most models want it."""

    async def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        return [BOS] * add_special + await super().tokenize(text, add_special=add_special, parse_special=parse_special)


class BosLauncher(FakeLauncher):
    async def launch(self, spec: LoadSpec, on_progress: Callable[[float], None]) -> FakeEngine:
        engine = await super().launch(spec, on_progress)
        self.engines[-1] = BosEngine(engine.info, scripts=self.scripts)
        return self.engines[-1]


@dataclass(slots=True)
class Bench:
    inference: Inference
    launcher: FakeLauncher

    @property
    def jobs(self) -> list[Job]:
        return [job for engine in self.launcher.engines for job in engine.jobs]

    @property
    def prompts(self) -> list[str]:
        return [job.prompt for job in self.jobs]

    async def chat(self, model: str, *messages: Message, **more: Any) -> list[Event]:
        async with self.inference.chat(ChatRequest(model=model, messages=messages, **more)) as events:
            return [event async for event in events]

    async def generate(self, model: str, prompt: str = "", **more: Any) -> list[Event]:
        async with self.inference.generate(GenerateRequest(model=model, prompt=prompt, **more)) as events:
            return [event async for event in events]


@asynccontextmanager
async def bench(
    *models: Model, scripts: Sequence[Script] = (), settings: Settings | None = None, **more: Any
) -> AsyncIterator[Bench]:
    """`more` goes to Inference."""
    launcher = BosLauncher(scripts=deque(scripts))
    scheduler = Scheduler(launcher, settings or Settings())
    inference = Inference(cast("Store", Shelf({model.name: model for model in models})), scheduler, **more)
    try:
        yield Bench(inference, launcher)
    finally:
        await scheduler.aclose()
        inference.close()


def user(text: str) -> Message:
    return Message(role="user", content=text)


def system(text: str) -> Message:
    return Message(role="system", content=text)


def text_of(events: Sequence[Event]) -> str:
    return "".join(event.content for event in events if isinstance(event, Delta))
