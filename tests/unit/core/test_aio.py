"""Tasks that outlive the request that starts them."""

import asyncio

from corral.core.aio import Background, cancelling, to_its_end


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
