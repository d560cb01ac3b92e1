"""Several answers of one request: when each begins, and what becomes of all when one fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import pytest

from corral.core.errors import BadRequestError
from corral.service.requests import Delta, Event
from corral.service.several import all_answers


class Desk:
    """Answers that begin when they may, and what was taken of them."""

    def __init__(self, *, failing: int = -1) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.taken: dict[int, list[str]] = {}
        self.may_speak = asyncio.Event()
        self._failing = failing

    def start(self, number: int) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        return self._running(number)

    @asynccontextmanager
    async def _running(self, number: int) -> AsyncIterator[AsyncIterator[Event]]:
        self.begun.append(number)
        try:
            yield self._events(number)
        finally:
            self.ended.append(number)

    async def _events(self, number: int) -> AsyncIterator[Event]:
        if number == 0:
            await self.may_speak.wait()
        if number == self._failing:
            raise BadRequestError("no")
        yield Delta(content=f"a{number}")
        yield Delta(content=f"b{number}")

    async def take(self, index: int, first: Event, rest: AsyncIterator[Event]) -> None:
        events = [first, *[event async for event in rest]]
        self.taken[index] = [event.content for event in events if isinstance(event, Delta)]

    async def run(self, count: int) -> None:
        await all_answers([partial(self.start, number) for number in range(count)], self.take)


@pytest.mark.parametrize("count", [1, 2, 40])
async def test_every_answer_is_taken_whole(count: int) -> None:
    desk = Desk()
    desk.may_speak.set()
    await desk.run(count)
    assert desk.taken == {number: [f"a{number}", f"b{number}"] for number in range(count)}
    assert sorted(desk.ended) == list(range(count))


async def test_the_others_begin_once_the_first_has_begun_to_speak() -> None:
    desk = Desk()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await desk.run(3)
    assert (desk.begun, desk.ended) == ([0], [0])


@pytest.mark.parametrize("failing", [0, 1, 20])
async def test_one_that_fails_ends_all_with_its_error(failing: int) -> None:
    desk = Desk(failing=failing)
    desk.may_speak.set()
    with pytest.raises(BadRequestError, match=r"^no$"):
        await desk.run(40)
    assert sorted(desk.begun) == sorted(desk.ended)
    assert failing not in desk.taken
