"""Tasks that outlive the request that starts them."""

import asyncio

from corral.core.aio import Background


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
