"""Loads that fail, stall or are given up: everyone who waits is told, and nothing is left behind."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from corral.core.errors import EngineCrashedError, EngineError, ModelLoadError
from corral.core.settings import Settings
from corral.core.types import LoadSpec
from corral.engine import ProgressCallback
from corral.engine.fake import FakeEngine, FakeLauncher
from tests.support.models import make_model
from tests.support.sched_bench import StubbornLauncher, bench, settle

BIRD = "unknown model architecture: 'bird'"


async def test_a_failed_load_is_told_to_all_who_wait_and_tried_again_by_the_next(tmp_path: Path) -> None:
    model = make_model(tmp_path, "a")
    async with bench() as b:
        b.launcher.failure, b.launcher.hold = ModelLoadError(BIRD), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(b.outcome(model)) for _ in range(3)]
            await settle()
            b.launcher.hold.set()
        assert [task.result() for task in waiting] == [BIRD] * 3
        assert len(b.launcher.specs) == 1
        assert await b.outcome(model) == "fine"


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        pytest.param(EngineError("the worker process could not start: no libgomp"), "no libgomp", id="engine-error"),
        pytest.param(EngineCrashedError(), "model runner has unexpectedly stopped", id="crash"),
        pytest.param(
            OSError(12, "Cannot allocate memory"), "a:latest cannot be loaded: .*Cannot allocate memory", id="os-error"
        ),
        pytest.param(OverflowError("int too big"), "a:latest cannot be loaded: .*int too big", id="overflow"),
        pytest.param(ZeroDivisionError(), "a:latest cannot be loaded: ZeroDivisionError", id="a-bug"),
    ],
)
async def test_a_load_that_fails_in_any_way_is_told_as_such(tmp_path: Path, failure: Exception, told: str) -> None:
    model = make_model(tmp_path, "a")
    async with bench() as b:
        b.launcher.failure = failure
        with pytest.raises(ModelLoadError, match=told):
            async with asyncio.timeout(5):
                await b.use(model)
        assert b.names() == []
        assert await b.outcome(model) == "fine"


async def test_a_model_whose_file_is_gone_is_told_and_can_come_back(tmp_path: Path) -> None:
    model = make_model(tmp_path, "a")
    model.model_path.unlink()
    async with bench() as b:
        with pytest.raises(ModelLoadError, match=r"a\.gguf"):
            await b.use(model)
        model.model_path.touch()
        assert await b.outcome(model) == "fine"


async def test_a_stalled_load_is_given_up(tmp_path: Path) -> None:
    model = make_model(tmp_path, "a")
    async with bench(Settings(load_timeout_s=0.01)) as b:
        b.launcher.hold = asyncio.Event()
        with pytest.raises(ModelLoadError, match="made no progress"):
            await b.use(model)


async def test_progress_that_comes_too_late_is_no_error(tmp_path: Path) -> None:
    launcher = TellsAfterTheEnd()
    async with bench(Settings(load_timeout_s=0.01), launcher) as b:
        with pytest.raises(ModelLoadError, match="made no progress"):
            await b.use(make_model(tmp_path, "a"))
        launcher.told[0](0.7)


async def test_a_model_retired_while_it_loads_is_forgotten_when_the_load_fails(tmp_path: Path) -> None:
    async with bench() as b:
        b.launcher.failure, b.launcher.hold = ModelLoadError(BIRD), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            old = tasks.create_task(b.outcome(make_model(tmp_path, "a", digest="1" * 64)))
            await settle()
            new = tasks.create_task(b.outcome(make_model(tmp_path, "a", digest="2" * 64)))
            await settle()
            b.launcher.hold.set()
        assert sorted([old.result(), new.result()]) == ["fine", BIRD]
        assert not b.scheduler._leaving


async def test_the_end_of_the_server_takes_up_a_close_that_was_cut_off(tmp_path: Path) -> None:
    launcher = StubbornLauncher()
    async with bench(launcher=launcher) as b:
        await b.use(make_model(tmp_path, "a"))
        b.clock.advance(301)
        await settle()
        async with asyncio.TaskGroup() as tasks:
            end = tasks.create_task(b.scheduler.aclose())
            await settle()
            assert not end.done()
            launcher.stubborn[0].may_end.set()
        assert not launcher.stubborn[0].is_alive


async def test_an_engine_that_fails_to_close_keeps_no_other_from_closing(tmp_path: Path) -> None:
    launcher = StubbornLauncher()
    async with bench(launcher=launcher) as b:
        for name in "ab":
            await b.use(make_model(tmp_path, name))
        bad, good = launcher.stubborn
        bad.failure = OSError("no")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(b.scheduler.aclose())
            await settle()
            good.may_end.set()
        assert not good.is_alive


@dataclass(slots=True)
class TellsAfterTheEnd(FakeLauncher):
    """Progress comes when the load is given up already, as from a socket."""

    told: list[ProgressCallback] = field(default_factory=list)

    async def launch(self, spec: LoadSpec, on_progress: ProgressCallback) -> FakeEngine:
        self.told.append(on_progress)
        try:
            return await asyncio.Event().wait()  # type: ignore[return-value]
        finally:
            on_progress(0.5)
