"""Work that several requests share: the first one starts it, each follows it, and when the last has left it stops.

A flight publishes statuses. A follower that is slower than they come gets the newest of each kind, never a queue that grows.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Hashable
from contextlib import aclosing, asynccontextmanager
from typing import Final, TypeAlias

from corral.core.aio import Background
from corral.core.errors import CorralError, ServerStoppingError
from corral.service.requests import Status

log: Final = logging.getLogger(__name__)
Publish: TypeAlias = Callable[[Status], None]
Work: TypeAlias = Callable[[Publish], Coroutine[object, object, None]]


class _Inbox:
    """What one follower has not seen yet. Bounded: statuses with one text replace each other."""

    def __init__(self, seen_by_others: dict[str, Status]) -> None:
        self.pending = dict(seen_by_others)
        self.wake = asyncio.Event()
        self.wake.set()

    def put(self, status: Status) -> None:
        self.pending[status.status] = status
        self.wake.set()

    async def take(self) -> list[Status]:
        await self.wake.wait()
        self.wake.clear()
        taken, self.pending = list(self.pending.values()), {}
        return taken


class _Flight:
    """One piece of work and those who follow it."""

    def __init__(self, work: Work, background: Background, name: str) -> None:
        self.inboxes: set[_Inbox] = set()
        self._newest: dict[str, Status] = {}
        self._task = background.start(work(self.publish), name=name)
        self._task.add_done_callback(lambda _: self._wake_all())

    def publish(self, status: Status) -> None:
        self._newest[status.status] = status
        for inbox in self.inboxes:
            inbox.put(status)

    def _wake_all(self) -> None:
        for inbox in self.inboxes:
            inbox.wake.set()

    def join(self) -> _Inbox:
        inbox = _Inbox(self._newest)
        self.inboxes.add(inbox)
        return inbox

    async def follow(self, inbox: _Inbox) -> AsyncGenerator[Status, None]:
        """What is published from now on. Raises what the work raised."""
        while True:
            for status in await inbox.take():
                yield status
            if self._task.done() and not inbox.pending:
                break
        if self._task.cancelled():
            raise ServerStoppingError
        if error := self._task.exception():
            raise error

    def is_done(self) -> bool:
        return self._task.done()

    async def stop(self) -> None:
        """Cancels the work and waits until it has cleaned up."""
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])


class Flights:
    """The flights under way, by what they are about."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._flights: dict[Hashable, _Flight] = {}
        self._background = Background(self._heard)

    def _heard(self, error: BaseException) -> None:
        """Followers get every error; one that nobody foresaw is the operator's too."""
        if isinstance(error, CorralError):
            log.info("%s failed", self._name, extra={"error": str(error)})
        else:
            log.error("%s failed", self._name, exc_info=error)

    @asynccontextmanager
    async def join(self, key: Hashable, work: Work) -> AsyncIterator[AsyncIterator[Status]]:
        """Follows the flight of that key, starting it with `work` if there is none."""
        flight = self._flights.get(key)
        if flight is None or flight.is_done():
            flight = self._flights[key] = _Flight(work, self._background, self._name)
        inbox = flight.join()
        try:
            async with aclosing(flight.follow(inbox)) as statuses:
                yield statuses
        finally:
            flight.inboxes.discard(inbox)
            if not flight.inboxes:
                if self._flights.get(key) is flight:
                    del self._flights[key]
                await flight.stop()

    async def aclose(self) -> None:
        await self._background.aclose()
