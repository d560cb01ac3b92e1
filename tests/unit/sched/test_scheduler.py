"""Who is loaded, for how long, and who waits."""

import asyncio
from pathlib import Path

import pytest

from corral.core.errors import QueueFullError
from corral.core.options import Options
from corral.core.settings import Settings
from corral.core.units import FOREVER_S
from tests.support.models import make_model
from tests.support.sched_bench import bench, settle


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


async def test_a_dead_engine_is_replaced_by_the_next_request(tmp_path: Path) -> None:
    model = make_model(tmp_path, "a")
    async with bench() as b:
        async with b.scheduler.lease(model, Options.resolve()):
            b.launcher.engines[0].is_alive = False
        assert b.names() == []
        await b.use(model)
        assert len(b.launcher.engines) == 2


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


async def test_a_request_that_is_refused_for_a_full_line_changes_nothing(tmp_path: Path) -> None:
    busy, other = make_model(tmp_path, "busy", context_length=32768), make_model(tmp_path, "other")
    async with bench(Settings(num_parallel=1, max_queue=1)) as b, asyncio.TaskGroup() as tasks:
        async with b.scheduler.lease(busy, Options.resolve(), keep_alive_s=300):
            waiting = tasks.create_task(b.use(busy, keep_alive_s=300))
            await settle()
            for model, options in [(busy, None), (busy, Options.resolve({"num_ctx": 8192})), (other, None)]:
                with pytest.raises(QueueFullError):
                    await b.use(model, options, keep_alive_s=0)
            await settle()
            assert len(b.launcher.specs) == 1
            assert not b.scheduler.running()[0].is_stopping
        await waiting
        await settle()
        assert b.names() == ["busy:latest"]


async def test_a_model_that_sees_is_loaded_with_its_projector_and_room_for_images(tmp_path: Path) -> None:
    model = make_model(tmp_path, "m", reads_images=True)
    async with bench() as b:
        assert await b.use(model, Options.resolve({"num_ctx": 64})) == 2048
        assert await b.use(make_model(tmp_path, "text"), Options.resolve({"num_ctx": 64})) == 256
        assert [spec.projector_paths for spec in b.launcher.specs] == [(str(model.model_path),), ()]
