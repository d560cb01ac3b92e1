"""A scheduler over fakes: the bench of its tests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from corral.core.errors import ModelLoadError
from corral.core.options import Options
from corral.core.settings import Settings
from corral.core.types import LoadSpec
from corral.engine import ProgressCallback
from corral.engine.fake import FakeEngine, FakeLauncher
from corral.sched import Scheduler
from corral.store import Model
from tests.support.clock import FakeClock

MIB = 1 << 20


@dataclass(slots=True)
class FakeMemory:
    free_bytes: int = 1 << 40
    gpus_bytes: int = 0

    def available_bytes(self) -> int:
        return self.free_bytes

    def gpu_bytes(self) -> int:
        return self.gpus_bytes


@dataclass(slots=True)
class Bench:
    scheduler: Scheduler
    launcher: FakeLauncher
    clock: FakeClock
    memory: FakeMemory

    def names(self) -> list[str]:
        return [r.model.name.short for r in self.scheduler.running()]

    async def use(self, model: Model, options: Options | None = None, *, keep_alive_s: float | None = None) -> int:
        async with self.scheduler.lease(model, options or Options.resolve(), keep_alive_s=keep_alive_s) as lease:
            return lease.num_ctx

    async def outcome(self, model: Model) -> str:
        """What a request for the model is told."""
        try:
            await self.use(model)
        except ModelLoadError as error:
            return str(error)
        return "fine"


@asynccontextmanager
async def bench(
    settings: Settings | None = None, launcher: FakeLauncher | None = None, *, real_memory: bool = False
) -> AsyncIterator[Bench]:
    """With `real_memory` the scheduler asks this machine and the launcher what there is, not `Bench.memory`."""
    launcher, clock, memory = launcher or FakeLauncher(), FakeClock(), FakeMemory()
    scheduler = Scheduler(launcher, settings or Settings(), clock=clock, memory=None if real_memory else memory)
    try:
        yield Bench(scheduler, launcher, clock, memory)
    finally:
        await scheduler.aclose()


async def settle() -> None:
    """Lets every task run until all of them wait for something outside."""
    for _ in range(20):
        await asyncio.sleep(0)


@dataclass(slots=True)
class StubbornEngine(FakeEngine):
    """Ends only when it may, or not at all."""

    may_end: asyncio.Event = field(default_factory=asyncio.Event)
    failure: Exception | None = None

    async def aclose(self) -> None:
        if self.failure:
            raise self.failure
        await self.may_end.wait()
        self.is_alive = False


@dataclass(slots=True)
class StubbornLauncher(FakeLauncher):
    stubborn: list[StubbornEngine] = field(default_factory=list)

    async def launch(self, spec: LoadSpec, on_progress: ProgressCallback) -> FakeEngine:
        fake = await FakeLauncher.launch(self, spec, on_progress)
        self.stubborn.append(StubbornEngine(fake.info))
        return self.stubborn[-1]
