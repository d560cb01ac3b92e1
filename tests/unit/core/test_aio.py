"""Tasks that outlive the request that starts them, and work in threads."""

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from corral.core.aio import Background, ThreadLimiter, cancelling, to_its_end
from corral.core.errors import ServerStoppingError


async def test_background_ends_what_its_tasks_start_in_their_last_moments() -> None:
    ended = list[str]()
    errors = list[BaseException]()
    background = Background(errors.append)

    async def wait(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)
            if name == "first":
                background.start(wait("second"), name="second")
                await asyncio.sleep(0)

    background.start(wait("first"), name="first")
    await asyncio.sleep(0)
    await background.aclose()
    assert ended == ["first", "second"]
    assert not errors


async def test_background_tells_of_tasks_that_fail() -> None:
    errors = list[BaseException]()
    background = Background(errors.append)

    async def fail() -> None:
        raise OSError("no")

    background.start(fail(), name="fail")
    await asyncio.sleep(0)
    await background.aclose()
    assert [str(error) for error in errors] == ["no"]


async def test_work_that_goes_to_its_end_is_not_cancelled_with_its_caller() -> None:
    may_end, began = asyncio.Event(), asyncio.Event()
    done = list[str]()

    async def work() -> None:
        began.set()
        await may_end.wait()
        done.append("work")

    async def caller() -> None:
        try:
            await to_its_end(work(), name="work")
        finally:
            done.append("caller")

    async with cancelling(caller(), name="caller") as task:
        await began.wait()
        task.cancel()
        await asyncio.sleep(0)
        assert not done
        may_end.set()
    assert done == ["work", "caller"]
    assert task.cancelled()


async def test_work_that_goes_to_its_end_gives_its_result() -> None:
    async def work() -> int:
        return 7

    assert await to_its_end(work(), name="work") == 7


@dataclass
class Held:
    """A pool of one thread, and work that holds it."""

    pool: ThreadLimiter = field(default_factory=lambda: ThreadLimiter("test", 1))
    may_end: threading.Event = field(default_factory=threading.Event)
    has_begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def hold(self) -> bool:
        loop = asyncio.get_running_loop()
        return await self.pool.run(self._hold, loop)

    def _hold(self, loop: asyncio.AbstractEventLoop) -> bool:
        loop.call_soon_threadsafe(self.has_begun.set)
        return self.may_end.wait(10)


@pytest.fixture
async def held() -> AsyncIterator[Held]:
    held = Held()
    yield held
    held.may_end.set()
    held.pool.close()


async def test_closed_pool_says_that_the_server_stops(held: Held) -> None:
    async with asyncio.TaskGroup() as tasks:
        holding = tasks.create_task(held.hold())
        await held.has_begun.wait()
        async with cancelling(said(held.pool), name="waiting") as waiting:
            await asyncio.sleep(0)
            held.pool.close()
            with pytest.raises(ServerStoppingError):
                await waiting
        held.may_end.set()
    assert holding.result(), "what has begun runs to its end"
    with pytest.raises(ServerStoppingError):
        await said(held.pool)


async def said(pool: ThreadLimiter) -> str:
    return await pool.run(str, 1)


async def test_caller_that_is_cancelled_while_it_waits_for_a_thread_stays_cancelled(held: Held) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(held.hold())
        await held.has_begun.wait()
        async with cancelling(said(held.pool), name="waiting") as waiting:
            await asyncio.sleep(0)
            held.pool.close()
            waiting.cancel()
        held.may_end.set()
    assert waiting.cancelled()
