"""Places, of which there are a few, and the line of requests that wait for one.

A place is one of the sequences that an engine decodes at once, or a share of some other work. Who waits is served as
core.fairness says: earlier priorities first, clients by turns, and in the order of arrival within one client. So a client
with a hundred requests delays another's single one by one place at most.
Where an engine displaces running jobs, some need not wait for a place: one with an earlier priority than a running one, and
the first one of a client that has none running where another has several. It is let through beyond the places, and the
engine makes another wait for it.
All lines of a server share one bound: a request that would exceed it is refused at once (QueueFullError).
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from corral.core.errors import QueueFullError, ServerStoppingError
from corral.core.fairness import FairLine

_LEARN: Final = 0.1  # weight of the newest request in what one costs on average
_KEPT: Final = 8  # a waiting room is larger by one of so many for clients of whom nobody waits yet


class WaitingRoom:
    """Counts everyone who waits in this server: for a model to load, for a place on it, or for what comes before that."""

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._clients: Counter[str] = Counter()
        self.waiting = 0

    def enter(self, client: str) -> None:
        """Raises QueueFullError when nobody more may wait. One client alone cannot keep all others out."""
        kept = 0 if self._clients[client] else self._max_waiting // _KEPT
        if self.waiting >= self._max_waiting + kept:
            raise QueueFullError
        self._clients[client] += 1
        self.waiting += 1

    def leave(self, client: str) -> None:
        self.waiting -= 1
        self._clients[client] -= 1
        if not self._clients[client]:
            del self._clients[client]


@dataclass(slots=True, eq=False)
class Place:
    """What a client was given. Whoever works on it says what it cost; where nobody does it was one like the others."""

    client: str
    priority: int
    charged: float  # tokens
    spent: int | None = None

    def spend(self, tokens: int) -> None:
        self.spent = (self.spent or 0) + tokens


class FairQueue:
    """Hands out `places`; whoever finds none waits its turn. Once closed it hands out none."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._may_displace = False
        self._is_closed = False
        self._held: set[Place] = set()
        self._line: FairLine[asyncio.Future[Place | None]] = FairLine()
        self._mean_cost = 1.0

    def __len__(self) -> int:
        return len(self._line)

    def open(self, places: int, *, may_displace: bool) -> None:
        """There are so many places from now on. `may_displace`: whoever should not wait gets one beyond them."""
        self._places = places
        self._may_displace = may_displace
        self._hand_out()

    def take_free(self, client: str = "", priority: int = 0) -> Place | None:
        """A place if one is free and nobody waits."""
        if len(self._held) >= self._places or self._line or self._is_closed:
            return None
        accounts = self._line.accounts
        accounts.come(client)
        accounts.serve(client)
        return self._give(client, priority)

    async def take(self, client: str = "", priority: int = 0) -> Place:
        """Waits for a place. A caller that is cancelled gives up its turn, or a place it was just given.

        Raises ServerStoppingError when the queue is closed, or has been when the turn came.
        """
        if self._is_closed:
            raise ServerStoppingError
        if place := self.take_free(client, priority):
            return place
        turn: asyncio.Future[Place | None] = asyncio.get_running_loop().create_future()
        self._line.add(turn, client, priority)
        self._hand_out()
        try:
            given = await turn
        except asyncio.CancelledError:
            if not self._line.discard(turn) and turn.done() and not turn.cancelled() and (lost := turn.result()):
                self.give_back(lost)
            raise
        if self._is_closed or given is None:
            if given:
                self.give_back(given)
            raise ServerStoppingError
        return given

    def close(self) -> None:
        """Whoever waits is told that the server stops, and so is who comes."""
        self._is_closed = True
        for turn in list(self._line):
            self._line.discard(turn)
            if not turn.done():
                turn.set_result(None)

    def give_back(self, place: Place) -> None:
        """Frees a place: whose turn it is gets it."""
        self._held.remove(place)
        if place.spent is not None:
            self._mean_cost += _LEARN * (place.spent - self._mean_cost)
            self._line.accounts.charge(place.client, place.spent - place.charged)
        self._hand_out()

    def _hand_out(self) -> None:
        while self._line and (turn := self._next()):
            client, priority = self._line.where(turn)
            self._line.take(turn)
            if not turn.done():
                turn.set_result(self._give(client, priority))

    def _give(self, client: str, priority: int) -> Place:
        place = Place(client, priority, charged=self._mean_cost)
        self._line.accounts.charge(client, place.charged)
        self._held.add(place)
        return place

    def _next(self) -> "asyncio.Future[Place | None] | None":
        """Who gets a place now."""
        if len(self._held) < self._places:
            return next(self._line.order())
        if not self._may_displace or len(self._held) >= 2 * self._places:
            return None
        return next((turn for turn in self._line.heads() if self._overtakes(*self._line.where(turn))), None)

    def _overtakes(self, client: str, priority: int) -> bool:
        """Would it run, if the engine ran those of earlier priorities first, and one of each client before a second one?"""
        room = self._places - sum(place.priority < priority for place in self._held)
        same = [place.client for place in self._held if place.priority == priority]
        return len(same) < room or (client not in same and len(set(same)) < room)


class Line:
    """Places for work that comes before an engine is asked for. Who waits for one counts in the waiting room."""

    def __init__(self, room: WaitingRoom, places: int) -> None:
        self._room = room
        self._queue = FairQueue(places)

    @asynccontextmanager
    async def place(self, client: str, priority: int = 0) -> AsyncIterator[None]:
        """A place for the length of the block. Raises QueueFullError when too many wait, and ServerStoppingError."""
        place = self._queue.take_free(client, priority)
        if place is None:
            self._room.enter(client)
            try:
                place = await self._queue.take(client, priority)
            finally:
                self._room.leave(client)
        try:
            yield
        finally:
            self._queue.give_back(place)

    def close(self) -> None:
        self._queue.close()
