import asyncio

import pytest

from corral.core.errors import RegistryError, ServerStoppingError
from corral.service.flights import Flights, Publish
from corral.service.requests import Status


class Work:
    """Publishes what a test tells it to, and remembers how it ended."""

    def __init__(self) -> None:
        self.started = 0
        self.publish: Publish
        self.finish = asyncio.Event()
        self.began = asyncio.Event()
        self.error: Exception | None = None
        self.was_cancelled = False

    async def __call__(self, publish: Publish) -> None:
        self.started += 1
        self.publish = publish
        self.began.set()
        try:
            await self.finish.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        if self.error:
            raise self.error


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def flights() -> Flights:
    return Flights("test")


def part(completed: int) -> Status:
    return Status(status="pulling x", digest="d", total=9, completed=completed)


async def test_a_slow_follower_gets_the_newest_of_each_kind(flights: Flights, work: Work) -> None:
    async with flights.join("x", work) as statuses:
        await work.began.wait()
        for status in (Status(status="first"), part(1), part(2), part(3), Status(status="last")):
            work.publish(status)
        work.finish.set()
        assert [status async for status in statuses] == [Status(status="first"), part(3), Status(status="last")]


async def test_a_late_follower_is_told_what_was(flights: Flights, work: Work) -> None:
    async with flights.join("x", work) as early:
        await work.began.wait()
        work.publish(part(1))
        assert await anext(early) == part(1)
        async with flights.join("x", work) as late:
            assert await anext(late) == part(1)
            work.finish.set()
            assert [status async for status in late] == []
    assert work.started == 1


async def test_everyone_hears_the_error(flights: Flights, work: Work) -> None:
    work.error = RegistryError("no")
    async with flights.join("x", work) as one, flights.join("x", work) as two:
        work.finish.set()
        for statuses in (one, two):
            with pytest.raises(RegistryError, match="no"):
                await anext(statuses)


async def test_work_goes_on_until_the_last_has_left(flights: Flights, work: Work) -> None:
    async with flights.join("x", work):
        async with flights.join("x", work):
            await work.began.wait()
        assert not work.was_cancelled
    assert work.was_cancelled


async def test_a_key_is_free_again_when_its_work_is_done(flights: Flights, work: Work) -> None:
    work.finish.set()
    async with flights.join("x", work) as statuses:
        assert [status async for status in statuses] == []
        async with flights.join("x", work) as again:
            assert [status async for status in again] == []
    assert work.started == 2


async def test_closing_ends_the_work_and_tells_its_followers(flights: Flights, work: Work) -> None:
    async with flights.join("x", work) as statuses:
        await work.began.wait()
        await flights.aclose()
        with pytest.raises(ServerStoppingError):
            await anext(statuses)
    assert work.was_cancelled
