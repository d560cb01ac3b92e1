import asyncio

import pytest

from corral.core.aio import Begun, Ready, begin
from corral.core.errors import EngineCrashedError


async def test_work_that_need_not_wait_is_ready() -> None:
    async def work() -> int:
        return 1

    step = begin(work())
    assert isinstance(step, Ready)
    assert step.value == 1


async def test_work_that_waits_goes_on_where_it_was() -> None:
    seen = []

    async def work() -> int:
        seen.append("begun")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return 2

    step = begin(work())
    assert isinstance(step, Begun)
    assert seen == ["begun"]
    assert await step == 2


async def test_what_work_raises_at_once_is_raised_at_once() -> None:
    async def work() -> int:
        raise EngineCrashedError

    with pytest.raises(EngineCrashedError):
        begin(work())


async def test_what_work_raises_later_is_raised_when_it_is_awaited() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        raise EngineCrashedError

    step = begin(work())
    assert isinstance(step, Begun)
    with pytest.raises(EngineCrashedError):
        await step


async def test_a_future_that_is_done_in_between_is_no_wait_any_more() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    step = begin(future)
    assert isinstance(step, Begun)
    future.set_result(3)
    assert await step == 3


@pytest.mark.parametrize("waits_again", [False, True])
async def test_an_error_can_be_thrown_into_the_wait(waits_again: bool) -> None:
    cleaned = []

    async def work() -> int:
        try:
            await asyncio.Event().wait()
        finally:
            if waits_again:
                await asyncio.sleep(0)
            cleaned.append(True)
        return 0

    step = begin(work())
    assert isinstance(step, Begun)
    with pytest.raises(ConnectionError):
        await step.thrown(ConnectionError())
    assert cleaned == [True]


@pytest.mark.parametrize("waits_again", [False, True])
async def test_a_cancellation_reaches_the_work_and_may_be_survived(waits_again: bool) -> None:
    waiting = asyncio.Event()

    async def work() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if waits_again:
                await asyncio.sleep(0)
            return "survived"
        raise AssertionError

    async def wait() -> str:
        step = begin(work())
        assert isinstance(step, Begun)
        waiting.set()
        return await step

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(wait())
        await waiting.wait()
        task.cancel()
    assert task.result() == "survived"
