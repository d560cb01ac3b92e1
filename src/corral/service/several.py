"""The several answers of one request, beside each other.

Each answer is a use case of its own. The others begin once the first has its first event: what was read of a shared prompt is
there for them then, and what is refused is refused before anything is sent.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeAlias

from corral.service.requests import Event

Running: TypeAlias = AbstractAsyncContextManager[AsyncIterator[Event]]
Start: TypeAlias = Callable[[], Running]
Take: TypeAlias = Callable[[int, Event, AsyncIterator[Event]], Awaitable[None]]

_AT_ONCE: Final = 16  # answers of one request that may wait for a place, or run


async def all_answers(starts: Sequence[Start], take: Take) -> None:
    """Begins each answer, and takes its events. Raises what the first of them to fail raises; the others end with it."""
    has_begun = asyncio.Event()
    waiting = iter(enumerate(starts))

    async def one(index: int, start: Start) -> None:
        async with start() as events:
            first = await anext(events)
            has_begun.set()
            await take(index, first, events)

    first = next(waiting)
    if len(starts) == 1:
        await one(*first)
        return
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(one(*first), name="answer-0")
            for number in range(1, min(_AT_ONCE, len(starts))):
                tasks.create_task(_in_turn(one, waiting, has_begun), name=f"answers-{number}")
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def _in_turn(
    one: Callable[[int, Start], Awaitable[None]], waiting: Iterator[tuple[int, Start]], may_begin: asyncio.Event
) -> None:
    """One answer after another, of those that none has begun yet."""
    await may_begin.wait()
    for index, start in waiting:
        await one(index, start)
