"""Who is loaded, for how long, and who waits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from corral.core.errors import ModelLoadError, QueueFullError
from corral.core.options import Options
from corral.core.settings import Settings
from corral.core.units import FOREVER_S
from corral.engine.fake import FakeLauncher
from corral.sched import Scheduler
from corral.store import Model
from tests.support.clock import FakeClock
from tests.support.models import make_model

MIB = 1 << 20


@dataclass(slots=True)
class FakeMemory:
    free_bytes: int = 1 << 40

    def available_bytes(self) -> int:
        return self.free_bytes


@dataclass(slots=True)
class Bench:
    """A scheduler over fakes."""

    scheduler: Scheduler
    launcher: FakeLauncher
    clock: FakeClock
    memory: FakeMemory

    def names(self) -> list[str]:
        return [r.model.name.short for r in self.scheduler.running()]

    async def use(self, model: Model, options: Options | None = None, *, keep_alive_s: float | None = None) -> int:
        async with self.scheduler.lease(model, options or Options.resolve(), keep_alive_s=keep_alive_s) as lease:
            return lease.num_ctx


@asynccontextmanager
async def bench(settings: Settings | None = None) -> AsyncIterator[Bench]:
    launcher, clock, memory = FakeLauncher(), FakeClock(), FakeMemory()
    scheduler = Scheduler(launcher, settings or Settings(), clock=clock, memory=memory)
    try:
        yield Bench(scheduler, launcher, clock, memory)
    finally:
        await scheduler.aclose()


async def settle() -> None:
    """Lets every task run until all of them wait for something outside."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_model_is_loaded_once_for_all_who_ask(tmp_path: Path) -> None:
    model = make_model(tmp_path, "a")
    async with bench() as b:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(5):
                tasks.create_task(b.use(model))
        assert len(b.launcher.specs) == 1
        assert b.names() == ["a:latest"]


async def test_keep_alive_counts_from_the_end_of_the_last_request(tmp_path: Path) -> None:
    model = make_model(tmp_path, "a")
    async with bench() as b:
        async with b.scheduler.lease(model, Options.resolve(), keep_alive_s=300):
            b.clock.advance(1000)
            assert b.names() == ["a:latest"]
        b.clock.advance(299)
        await settle()
        assert b.names() == ["a:latest"]
        b.clock.advance(2)
        await settle()
        assert b.names() == []
        assert not b.launcher.engines[0].is_alive


async def test_keep_alive_of_zero_unloads_at_once_and_for_ever_never(tmp_path: Path) -> None:
    zero, ever = make_model(tmp_path, "zero"), make_model(tmp_path, "ever")
    async with bench() as b:
        await b.use(zero, keep_alive_s=0)
        await b.use(ever, keep_alive_s=FOREVER_S)
        b.clock.advance(1e9)
        await settle()
        assert b.names() == ["ever:latest"]
        assert b.scheduler.running()[0].expires_unix_ns is None


async def test_each_request_overwrites_the_keep_alive(tmp_path: Path) -> None:
    model = make_model(tmp_path, "a")
    async with bench() as b:
        await b.use(model, keep_alive_s=FOREVER_S)
        await b.use(model, keep_alive_s=10)
        b.clock.advance(11)
        await settle()
        assert b.names() == []


async def test_unload_waits_for_running_requests(tmp_path: Path) -> None:
    model = make_model(tmp_path, "a")
    async with bench() as b:
        async with b.scheduler.lease(model, Options.resolve()) as lease:
            await b.scheduler.unload(model.name)
            assert b.scheduler.running()[0].is_stopping
            assert lease.engine.is_alive
        await settle()
        assert b.names() == []
        await b.scheduler.unload(model.name)  # not loaded: nothing to do


async def test_a_smaller_num_ctx_is_a_limit_and_a_larger_one_reloads_once(tmp_path: Path) -> None:
    model = make_model(tmp_path, "a", context_length=32768)
    async with bench() as b:
        assert await b.use(model, Options.resolve({"num_ctx": 2048})) == 2048
        assert await b.use(model, Options.resolve({"num_ctx": 8192})) == 8192
        assert await b.use(model, Options.resolve({"num_ctx": 2048})) == 2048
        assert [spec.n_ctx for spec in b.launcher.specs] == [2048, 8192]


async def test_num_ctx_is_padded_and_never_beyond_what_the_model_was_trained_for(tmp_path: Path) -> None:
    model = make_model(tmp_path, "a", context_length=1024)
    async with bench() as b:
        assert await b.use(model, Options.resolve({"num_ctx": 64})) == 256
        assert await b.use(model, Options.resolve({"num_ctx": 100_000})) == 1024


async def test_other_hardware_settings_reload_without_losing_context(tmp_path: Path) -> None:
    model = make_model(tmp_path, "a", context_length=32768)
    async with bench() as b:
        await b.use(model, Options.resolve({"num_ctx": 8192}))
        await b.use(model, Options.resolve({"num_ctx": 2048, "num_thread": 1}))
        assert [(s.n_ctx, s.num_thread) for s in b.launcher.specs] == [(8192, 0), (8192, 1)]
        assert len(b.names()) == 1


async def test_a_load_does_not_hold_up_a_loaded_model(tmp_path: Path) -> None:
    loaded, slow = make_model(tmp_path, "loaded"), make_model(tmp_path, "slow")
    async with bench() as b:
        await b.use(loaded)
        b.launcher.hold = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(b.use(slow))
            await settle()
            await b.use(loaded)
            assert not waiting.done()
            b.launcher.hold.set()


async def test_a_load_goes_on_when_the_client_that_asked_leaves(tmp_path: Path) -> None:
    model = make_model(tmp_path, "a")
    async with bench() as b:
        b.launcher.hold = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            leaver = tasks.create_task(b.use(model))
            await settle()
            leaver.cancel()
        b.launcher.hold.set()
        await settle()
        assert b.names() == ["a:latest"]
        b.clock.advance(301)
        await settle()
        assert b.names() == []


async def test_a_failed_load_is_told_to_all_who_wait_and_tried_again_by_the_next(tmp_path: Path) -> None:
    model = make_model(tmp_path, "a")
    async with bench() as b:
        b.launcher.failure = "unknown model architecture: 'bird'"
        results = [await outcome(b, model), await outcome(b, model)]
        assert results == ["unknown model architecture: 'bird'", "fine"]


async def outcome(b: Bench, model: Model) -> str:
    try:
        await b.use(model)
    except ModelLoadError as error:
        return str(error)
    return "fine"


async def test_a_dead_engine_is_replaced_by_the_next_request(tmp_path: Path) -> None:
    model = make_model(tmp_path, "a")
    async with bench() as b:
        async with b.scheduler.lease(model, Options.resolve()):
            b.launcher.engines[0].is_alive = False
        assert b.names() == []
        await b.use(model)
        assert len(b.launcher.engines) == 2


async def test_a_stalled_load_is_given_up(tmp_path: Path) -> None:
    model = make_model(tmp_path, "a")
    async with bench(Settings(load_timeout_s=0.01)) as b:
        b.launcher.hold = asyncio.Event()
        with pytest.raises(ModelLoadError, match="made no progress"):
            await b.use(model)


async def test_the_idle_model_with_least_keep_alive_left_makes_room(tmp_path: Path) -> None:
    short, long, new = (make_model(tmp_path, name) for name in ("short", "long", "new"))
    async with bench(Settings(max_loaded_models=2)) as b:
        await b.use(long, keep_alive_s=1000)
        await b.use(short, keep_alive_s=10)
        await b.use(new)
        assert sorted(b.names()) == ["long:latest", "new:latest"]


async def test_a_load_waits_for_a_busy_model_when_memory_is_short(tmp_path: Path) -> None:
    busy, new = make_model(tmp_path, "busy"), make_model(tmp_path, "new")
    async with bench(Settings(max_loaded_models=1)) as b:
        async with asyncio.TaskGroup() as tasks:
            async with b.scheduler.lease(busy, Options.resolve()):
                waiting = tasks.create_task(b.use(new))
                await settle()
                assert len(b.launcher.specs) == 1
            await waiting
        assert b.names() == ["new:latest"]


async def test_a_model_that_can_never_fit_is_refused_and_evicts_nobody(tmp_path: Path) -> None:
    small, huge = make_model(tmp_path, "small"), make_model(tmp_path, "huge", file_bytes=900 * MIB)
    async with bench() as b:
        await b.use(small)
        b.memory.free_bytes = 500 * MIB
        with pytest.raises(ModelLoadError, match=r"requires more system memory \(.* GiB\) than is available \(0.5 GiB\)"):
            await b.use(huge)
        assert b.names() == ["small:latest"]


async def test_places_are_shared_out_and_the_line_is_bounded(tmp_path: Path) -> None:
    model = make_model(tmp_path, "a")
    async with bench(Settings(num_parallel=1, max_queue=1)) as b, asyncio.TaskGroup() as tasks:
        async with b.scheduler.lease(model, Options.resolve()):
            second = tasks.create_task(b.use(model))
            await settle()
            with pytest.raises(QueueFullError):
                await b.use(model)
            assert not second.done()
        await second


async def test_a_client_that_leaves_the_line_frees_its_place(tmp_path: Path) -> None:
    model = make_model(tmp_path, "a")
    async with bench(Settings(num_parallel=1, max_queue=1)) as b:
        async with asyncio.TaskGroup() as tasks, b.scheduler.lease(model, Options.resolve()):
            leaver = tasks.create_task(b.use(model))
            await settle()
            leaver.cancel()
            await settle()
            stayer = tasks.create_task(b.use(model))
            await settle()
            assert not stayer.done()
        assert stayer.done()


async def test_a_new_version_of_a_name_replaces_the_old(tmp_path: Path) -> None:
    async with bench() as b:
        await b.use(make_model(tmp_path, "a", digest="1" * 64))
        await b.use(make_model(tmp_path, "a", digest="2" * 64))
        assert len(b.launcher.specs) == 2
        assert [r.model.digest for r in b.scheduler.running()] == ["2" * 64]
