"""Engines whose speed follows from how they were loaded: what there is to measure, without a model and without waiting."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec

from corral.core.types import Job, LoadSpec, Step
from corral.engine.fake import FakeEngine, FakeLauncher, Script
from tests.support.clock import FakeClock


@dataclass(slots=True)
class PacedEngine(FakeEngine):
    """Each token of a prompt takes 1 ms, each of an answer 10 ms; divided by its speed."""

    speed: float = 1.0
    clock: FakeClock = field(default_factory=FakeClock)
    on_job: Callable[[Job], None] = lambda _job: None

    @asynccontextmanager
    async def generate(self, job: Job) -> AsyncIterator[AsyncIterator[Step]]:
        self.on_job(job)
        self.scripts.append(Script([f"{number} " for number in range(max(1, job.num_predict))]))
        async with FakeEngine.generate(self, job) as steps:
            yield self._paced(steps)

    async def _paced(self, steps: AsyncIterator[Step]) -> AsyncIterator[Step]:
        async for step in steps:
            if step.finish is None:
                yield step
                continue
            prompt_ns = int(step.finish.prompt_tokens * 1_000_000 / self.speed)
            eval_ns = int(step.finish.eval_tokens * 10_000_000 / self.speed)
            self.clock.now_ns += prompt_ns + eval_ns
            yield Step(step.text, msgspec.structs.replace(step.finish, prompt_ns=prompt_ns, eval_ns=eval_ns))


@dataclass(slots=True)
class PacedLauncher(FakeLauncher):
    """`speeds`: by a setting and its value, how many times as fast an engine with it is."""

    speeds: Mapping[tuple[str, object], float] = field(default_factory=dict)
    clock: FakeClock = field(default_factory=FakeClock)
    on_job: Callable[[Job], None] = lambda _job: None

    async def launch(self, spec: LoadSpec, on_progress: Callable[[float], None]) -> FakeEngine:
        made = await FakeLauncher.launch(self, spec, on_progress)
        speed = 1.0
        for (name, value), factor in self.speeds.items():
            speed *= factor if getattr(spec, name) == value else 1.0
        self.engines[-1] = PacedEngine(made.info, speed=speed, clock=self.clock, on_job=self.on_job)
        return self.engines[-1]
