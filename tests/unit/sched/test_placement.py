"""Which model goes, and which load waits, when memory is short."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from corral.core.errors import ModelLoadError
from corral.core.options import Options
from corral.core.settings import Settings
from corral.engine.fake import FakeLauncher
from corral.sched.placement import SystemMemory
from corral.store import Model, ModelName
from tests.support.models import make_model
from tests.support.sched_bench import MIB, Bench, StubbornLauncher, bench, settle


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


async def test_a_load_that_fits_goes_ahead_of_one_that_waits(tmp_path: Path) -> None:
    busy, small = make_model(tmp_path, "busy"), make_model(tmp_path, "small")
    large = make_model(tmp_path, "large", file_bytes=400 * MIB)
    async with bench(Settings(memory_budget_bytes=500 * MIB)) as b:
        b.launcher.size_bytes = 100 * MIB
        async with asyncio.TaskGroup() as tasks, b.scheduler.lease(busy, Options.resolve()):
            waiting = tasks.create_task(b.use(large))
            await settle()
            await b.use(small)
            assert not waiting.done()
        assert "large:latest" in b.names()


async def test_a_load_that_took_less_than_was_thought_lets_another_in(tmp_path: Path) -> None:
    first, second = (make_model(tmp_path, name, file_bytes=300 * MIB) for name in ("first", "second"))
    async with bench() as b:
        b.memory.free_bytes = 500 * MIB
        b.launcher.size_bytes, b.launcher.hold = 100 * MIB, asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            user = tasks.create_task(hold(b, first))
            waiting = tasks.create_task(b.use(second))
            await settle()
            assert len(b.launcher.specs) == 1
            b.launcher.hold.set()
            await waiting
            user.cancel()
        assert sorted(b.names()) == ["first:latest", "second:latest"]


async def hold(b: Bench, model: Model) -> None:
    """Uses the model until it is cancelled."""
    async with b.scheduler.lease(model, Options.resolve()):
        await asyncio.Event().wait()


async def test_an_engine_that_has_grown_counts_with_what_it_takes_now(tmp_path: Path) -> None:
    grower, new = make_model(tmp_path, "grower"), make_model(tmp_path, "new", file_bytes=100 * MIB)
    async with bench(Settings(memory_budget_bytes=500 * MIB)) as b:
        b.launcher.size_bytes = 100 * MIB
        await b.use(grower)
        b.launcher.engines[0].resize(400 * MIB)
        await b.use(new)
        assert b.names() == ["new:latest"]


async def test_an_engine_that_shrinks_lets_in_a_load_that_waits(tmp_path: Path) -> None:
    busy, new = make_model(tmp_path, "busy"), make_model(tmp_path, "new", file_bytes=100 * MIB)
    async with bench(Settings(memory_budget_bytes=500 * MIB)) as b, asyncio.TaskGroup() as tasks:
        b.launcher.size_bytes = 400 * MIB
        async with b.scheduler.lease(busy, Options.resolve()):
            waiting = tasks.create_task(b.use(new))
            await settle()
            assert len(b.launcher.specs) == 1
            b.launcher.engines[0].resize(100 * MIB)
            await waiting
        assert len(b.launcher.specs) == 2


async def test_what_is_left_of_a_budget_is_shared_out_and_is_never_more_than_there_is(tmp_path: Path) -> None:
    one, two = (make_model(tmp_path, name, file_bytes=100 * MIB) for name in ("one", "two"))
    budget = 1000 * MIB
    async with bench(Settings(memory_budget_bytes=budget)) as b:
        b.launcher.size_bytes = 150 * MIB
        await b.use(one)
        assert [spec.limit_bytes for spec in b.launcher.specs] == [budget]
        await b.use(two)
        first, second = b.launcher.engines
        assert b.launcher.specs[1].limit_bytes == second.limit_bytes == first.limit_bytes == budget // 2
        first.resize(450 * MIB)
        assert (first.limit_bytes, second.limit_bytes) == fairly(budget, 450 * MIB, second_reserved(b))
        await b.scheduler.unload(two.name)
        assert first.limit_bytes == budget
        await b.use(one)  # a limit is nothing that a request asks for
        assert len(b.launcher.specs) == 2


def second_reserved(b: Bench) -> int:
    return b.scheduler._runners[ModelName.parse("two")].reserved_bytes


def fairly(budget: int, one: int, two: int) -> tuple[int, int]:
    half = (budget - one - two) // 2
    assert half > 0
    assert one + two + 2 * half <= budget
    return one + half, two + half


async def test_what_one_full_sequence_takes_is_kept_for_a_model_that_has_not_taken_it_yet(tmp_path: Path) -> None:
    one, two = (make_model(tmp_path, name, file_bytes=300 * MIB) for name in ("one", "two"))
    async with bench(Settings(memory_budget_bytes=500 * MIB)) as b:
        b.launcher.size_bytes = 100 * MIB
        await b.use(one)
        await b.use(two)
        assert b.names() == ["two:latest"]


async def test_without_a_budget_there_is_no_limit(tmp_path: Path) -> None:
    async with bench() as b:
        await b.use(make_model(tmp_path, "a"))
        assert b.launcher.specs[0].limit_bytes == b.launcher.engines[0].limit_bytes == 0


async def test_what_is_on_its_way_out_is_waited_for_before_another_is_evicted(tmp_path: Path) -> None:
    launcher = StubbornLauncher(size_bytes=100 * MIB)
    first, spared, new = (make_model(tmp_path, name, file_bytes=20 * MIB) for name in ("first", "spared", "new"))
    async with bench(Settings(memory_budget_bytes=250 * MIB), launcher) as b:
        await b.use(first, keep_alive_s=10)
        await b.use(spared, keep_alive_s=1000)
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(b.use(new))
            await settle()
            await b.use(spared, keep_alive_s=1000)  # news: it is idle again
            await settle()
            assert not waiting.done()
            launcher.stubborn[0].may_end.set()
        assert sorted(b.names()) == ["new:latest", "spared:latest"]
        for engine in launcher.stubborn:
            engine.may_end.set()


async def test_nobody_is_evicted_in_vain(tmp_path: Path) -> None:
    """The small idle model would go first, but the large one must go anyway and is enough."""
    small, large = make_model(tmp_path, "small"), make_model(tmp_path, "large")
    new = make_model(tmp_path, "new", file_bytes=300 * MIB)
    async with bench(Settings(memory_budget_bytes=500 * MIB)) as b:
        b.launcher.size_bytes = 50 * MIB
        await b.use(small, keep_alive_s=10)
        b.launcher.size_bytes = 400 * MIB
        await b.use(large, keep_alive_s=1000)
        await b.use(new)
        assert sorted(b.names()) == ["new:latest", "small:latest"]


async def test_a_model_that_is_always_busy_lets_another_in_after_a_while(tmp_path: Path) -> None:
    """Two requests for it take turns, so that it is never idle; what waits has its turn all the same."""
    busy, new = make_model(tmp_path, "busy"), make_model(tmp_path, "new")
    async with bench(Settings(max_loaded_models=1)) as b, asyncio.TaskGroup() as tasks:
        async with b.scheduler.lease(busy, Options.resolve()):
            waiting = tasks.create_task(b.use(new, keep_alive_s=0))
            await settle()
            await b.use(busy)  # it still takes requests
            b.clock.advance(11)
            await settle()
            next_one = tasks.create_task(b.use(busy))
            await settle()
            assert not next_one.done()
        await waiting
        await next_one
        assert [spec.model_path for spec in b.launcher.specs] == [str(m.model_path) for m in (busy, new, busy)]


async def test_an_idle_model_goes_before_a_busy_one_however_long_a_load_has_waited(tmp_path: Path) -> None:
    busy, idle = make_model(tmp_path, "busy"), make_model(tmp_path, "idle")
    new = make_model(tmp_path, "new", file_bytes=200 * MIB)
    async with bench(Settings(memory_budget_bytes=500 * MIB)) as b:
        b.launcher.size_bytes = 150 * MIB
        async with asyncio.TaskGroup() as tasks, b.scheduler.lease(busy, Options.resolve()):
            async with b.scheduler.lease(idle, Options.resolve()):
                waiting = tasks.create_task(b.use(new))
                await settle()
            b.clock.advance(11)
            await waiting
            assert sorted(b.names()) == ["busy:latest", "new:latest"]


async def test_the_cache_of_an_idle_model_is_room_for_another(tmp_path: Path) -> None:
    launcher = StubbornLauncher()
    cached, new = make_model(tmp_path, "cached"), make_model(tmp_path, "new", file_bytes=300 * MIB)
    async with bench(launcher=launcher) as b:
        await b.use(cached)
        engine = launcher.stubborn[0]
        engine.info = msgspec.structs.replace(engine.info, cache_bytes=1000 * MIB)
        b.memory.free_bytes = 200 * MIB
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(b.use(new))
            await settle()
            b.memory.free_bytes += 1000 * MIB
            engine.may_end.set()
        assert b.names() == ["new:latest"]
        launcher.stubborn[1].may_end.set()


# With a GPU


def on_gpu(b: Bench, *, size_mib: int, vram_mib: int) -> None:
    """What the next engines take."""
    b.launcher.size_bytes, b.launcher.vram_bytes = size_mib * MIB, vram_mib * MIB


async def test_models_that_fit_a_gpu_together_stay_and_one_more_evicts(tmp_path: Path) -> None:
    a, b_, c = (make_model(tmp_path, name, file_bytes=300 * MIB) for name in "abc")
    async with bench() as b:
        b.memory.free_bytes, b.memory.gpus_bytes = 100 * MIB, 1000 * MIB
        on_gpu(b, size_mib=400, vram_mib=400)
        await b.use(a, keep_alive_s=1000)
        await b.use(b_, keep_alive_s=10)
        assert sorted(b.names()) == ["a:latest", "b:latest"]
        await b.use(c)
        assert sorted(b.names()) == ["a:latest", "c:latest"]


async def test_a_model_larger_than_the_gpu_has_it_alone_and_spills_to_memory(tmp_path: Path) -> None:
    small, large = make_model(tmp_path, "small"), make_model(tmp_path, "large", file_bytes=1200 * MIB)
    async with bench() as b:
        b.memory.free_bytes, b.memory.gpus_bytes = 500 * MIB, 1000 * MIB
        on_gpu(b, size_mib=100, vram_mib=100)
        await b.use(small)
        on_gpu(b, size_mib=1300, vram_mib=1000)
        await b.use(large)
        assert b.names() == ["large:latest"]
        on_gpu(b, size_mib=100, vram_mib=100)
        await b.use(small)
        assert b.names() == ["small:latest"]


async def test_a_model_larger_than_gpu_and_memory_together_is_refused_and_evicts_nobody(tmp_path: Path) -> None:
    small, huge = make_model(tmp_path, "small"), make_model(tmp_path, "huge", file_bytes=1600 * MIB)
    async with bench() as b:
        b.memory.free_bytes, b.memory.gpus_bytes = 500 * MIB, 1000 * MIB
        on_gpu(b, size_mib=100, vram_mib=100)
        await b.use(small)
        with pytest.raises(ModelLoadError, match=r"requires more system memory \(1.6 GiB\) than is available \(1.5 GiB\)"):
            await b.use(huge)
        assert b.names() == ["small:latest"]


async def test_a_model_kept_off_the_gpu_takes_memory_and_leaves_the_gpu_to_the_others(tmp_path: Path) -> None:
    on, off = make_model(tmp_path, "on"), make_model(tmp_path, "off", file_bytes=300 * MIB)
    async with bench() as b:
        b.memory.free_bytes, b.memory.gpus_bytes = 500 * MIB, 1000 * MIB
        on_gpu(b, size_mib=900, vram_mib=900)
        await b.use(on)
        on_gpu(b, size_mib=400, vram_mib=0)
        await b.use(off, Options.resolve({"num_gpu": 0}))
        assert sorted(b.names()) == ["off:latest", "on:latest"]
        b.memory.free_bytes = 100 * MIB
        with pytest.raises(ModelLoadError, match="requires more system memory"):
            await b.use(make_model(tmp_path, "more", file_bytes=600 * MIB), Options.resolve({"num_gpu": 0}))


async def test_the_gpu_is_known_before_the_first_model_is_placed(tmp_path: Path) -> None:
    """A model that fits only there is not refused because no worker has told of it yet."""
    large = make_model(tmp_path, "large", file_bytes=1 << 42)
    async with bench(launcher=LateToTell(), real_memory=True) as b:
        await b.use(large)
        assert b.names() == ["large:latest"]


def test_models_have_most_of_a_gpu_and_the_rest_is_for_what_computing_takes() -> None:
    assert SystemMemory(lambda: 1000).gpu_bytes() == 900
    assert SystemMemory().gpu_bytes() == 0
    assert SystemMemory().available_bytes() > 0


@dataclass(slots=True)
class LateToTell(FakeLauncher):
    """Knows of its GPU only when it has been asked for devices."""

    async def devices(self) -> tuple[str, ...]:
        self.gpu_total_bytes = 1 << 48
        return ("a GPU",)
