"""Engines and models that no request is to use: trials, and blocks in which a model is left alone."""

import asyncio
from pathlib import Path
from typing import cast

import pytest

from corral.core.errors import ModelBusyError
from corral.core.options import Options
from corral.core.settings import Settings
from corral.core.tuning import Placement, Tuned
from corral.core.types import LoadSpec
from corral.engine.fake import FakeLauncher
from corral.sched import Scheduler, TunedModels
from corral.store import Model
from tests.support.models import make_model
from tests.support.sched_bench import Bench, FakeMemory, StubbornLauncher, bench, settle


async def try_out(b: Bench, model: Model) -> None:
    """A trial that goes on until it is cancelled."""
    spec = LoadSpec(model_path=str(model.model_path), n_ctx=512, n_parallel=1)
    async with b.scheduler.trial(model, spec):
        await asyncio.Event().wait()


async def test_a_trial_that_is_cancelled_twice_closes_and_others_load(tmp_path: Path) -> None:
    launcher = StubbornLauncher()
    tried, other = make_model(tmp_path, "tried"), make_model(tmp_path, "other")
    async with bench(Settings(max_loaded_models=1), launcher) as b:
        async with asyncio.TaskGroup() as tasks:
            trial = tasks.create_task(try_out(b, tried))
            await settle()
            for _ in range(2):
                trial.cancel()
                await settle()
            assert trial.done()
            waiting = tasks.create_task(b.use(other))
            await settle()
            assert not waiting.done()
            launcher.stubborn[0].may_end.set()
        assert b.names() == ["other:latest"]
        launcher.stubborn[1].may_end.set()


async def test_a_trial_ends_when_its_engine_has(tmp_path: Path) -> None:
    launcher = StubbornLauncher()
    async with bench(launcher=launcher) as b, asyncio.TaskGroup() as tasks:
        trial = tasks.create_task(try_out(b, make_model(tmp_path, "m")))
        await settle()
        trial.cancel()
        await settle()
        assert not trial.done()
        launcher.stubborn[0].may_end.set()


class SlowlyTuned:
    """Finds that nothing was measured, and takes until `may_answer` to say so."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()

    async def settings(self, _model: Model, _placement: Placement) -> Tuned:
        await self.may_answer.wait()
        return Tuned()

    def known(self, _model: Model) -> Tuned | None:
        return None


async def test_who_is_alone_is_told_of_a_request_that_came_just_before(tmp_path: Path) -> None:
    model, tuned = make_model(tmp_path, "m"), SlowlyTuned()
    scheduler = Scheduler(FakeLauncher(), Settings(), memory=FakeMemory(), tuned=cast("TunedModels", tuned))
    told = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_use(scheduler, model))
        await settle()
        with scheduler.alone(model.name, told.set):
            tuned.may_answer.set()
            await told.wait()
    await scheduler.aclose()


async def _use(scheduler: Scheduler, model: Model) -> None:
    async with scheduler.lease(model, Options.resolve()):
        pass


async def test_nobody_is_alone_with_a_model_in_use(tmp_path: Path) -> None:
    model = make_model(tmp_path, "m")
    async with bench() as b, b.scheduler.lease(model, Options.resolve()):
        with pytest.raises(ModelBusyError, match="m:latest is in use"), b.scheduler.alone(model.name, lambda: None):
            raise AssertionError
