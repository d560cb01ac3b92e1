"""The end of the server: who is told, in one word, and what is not begun any more."""

import asyncio
from pathlib import Path

import pytest

from corral.core.errors import EngineCrashedError, ServerStoppingError
from corral.core.options import Options
from corral.core.settings import Settings
from corral.store import Model
from tests.support.models import make_model
from tests.support.sched_bench import Bench, StubbornLauncher, bench, settle

SOLE = Settings(num_parallel=1)


async def end_of(b: Bench, model: Model) -> str:
    """How a request for the model ends."""
    try:
        await b.use(model)
    except ServerStoppingError:
        return "stopping"
    return "fine"


async def serve_until_the_end(b: Bench, model: Model) -> str:
    """A request whose engine is closed under it."""
    try:
        async with b.scheduler.lease(model, Options.resolve()) as lease:
            while lease.engine.is_alive:  # noqa: ASYNC110  it tells nobody
                await asyncio.sleep(0)
            raise EngineCrashedError(mid_answer=True)
    except ServerStoppingError:
        return "stopping"


async def test_who_waits_for_a_place_is_told_and_nothing_is_loaded_again(tmp_path: Path) -> None:
    model = make_model(tmp_path, "a")
    async with bench(SOLE) as b:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(serve_until_the_end(b, model))
            await settle()
            waiting = [tasks.create_task(end_of(b, model)) for _ in range(3)]
            await settle()
            await b.scheduler.aclose()
        assert [task.result() for task in (running, *waiting)] == ["stopping"] * 4
        assert len(b.launcher.engines) == 1


async def test_who_waits_for_a_load_is_told(tmp_path: Path) -> None:
    model = make_model(tmp_path, "a")
    async with bench() as b:
        b.launcher.hold = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            has_begun = tasks.create_task(end_of(b, model))
            await settle()
            has_not = tasks.create_task(end_of(b, make_model(tmp_path, "b")))
            await asyncio.sleep(0)
            await b.scheduler.aclose()
        assert (has_begun.result(), has_not.result()) == ("stopping", "stopping")


async def test_who_waits_for_memory_is_told(tmp_path: Path) -> None:
    busy, new = make_model(tmp_path, "busy"), make_model(tmp_path, "new")
    async with bench(Settings(max_loaded_models=1)) as b:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(serve_until_the_end(b, busy))
            await settle()
            waiting = tasks.create_task(end_of(b, new))
            await settle()
            await b.scheduler.aclose()
        assert waiting.result() == "stopping"


async def test_a_closed_scheduler_takes_no_more_requests(tmp_path: Path) -> None:
    loaded, new = make_model(tmp_path, "loaded"), make_model(tmp_path, "new")
    async with bench() as b:
        await b.use(loaded)
        b.scheduler.close()
        assert [await end_of(b, model) for model in (loaded, new)] == ["stopping", "stopping"]
        with pytest.raises(ServerStoppingError):
            async with b.scheduler.line(1).place(""):
                pass
        assert len(b.launcher.specs) == 1
        assert b.names() == ["loaded:latest"]  # until it is closed altogether


async def test_nothing_is_begun_while_an_engine_takes_its_time_to_end(tmp_path: Path) -> None:
    launcher = StubbornLauncher()
    model = make_model(tmp_path, "a")
    async with bench(SOLE, launcher) as b:
        async with asyncio.TaskGroup() as tasks:
            async with b.scheduler.lease(model, Options.resolve(), keep_alive_s=0):
                waiting = tasks.create_task(end_of(b, model))
                await settle()
                end = tasks.create_task(b.scheduler.aclose())
                await settle()
                late = tasks.create_task(end_of(b, model))
                await settle()
                assert waiting.done()
                assert late.done()
            await settle()
            assert not end.done()
            launcher.stubborn[0].may_end.set()
        assert len(launcher.specs) == 1
        assert not b.scheduler._background._tasks


async def test_a_failure_that_has_nothing_to_do_with_the_end_stays_as_it_is(tmp_path: Path) -> None:
    async with bench() as b:
        with pytest.raises(EngineCrashedError):
            async with b.scheduler.lease(make_model(tmp_path, "a"), Options.resolve()):
                raise EngineCrashedError


async def test_a_load_that_ends_after_the_close_gives_nobody_a_place(tmp_path: Path) -> None:
    async with bench() as b:
        b.launcher.hold = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(end_of(b, make_model(tmp_path, "a")))
            await settle()
            b.scheduler.close()
            b.launcher.hold.set()
        assert waiting.result() == "stopping"
