"""Places, of which there are a few, and the line of requests that wait for one.

A place is one of the sequences that an engine decodes at once, or a share of some other work. Who waits is served by turns
among clients, and in the order of arrival within one client, so that a client with a hundred requests delays another's single
one by one place.
All lines of a server share one bound: a request that would exceed it is refused at once (QueueFullError).
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from corral.core.errors import QueueFullError, ServerStoppingError


class WaitingRoom:
    """Counts everyone who waits in this server: for a model to load, for a place on it, or for what comes before that."""

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self.waiting = 0

    def enter(self) -> None:
        """Raises QueueFullError when nobody more may wait."""
        if self.waiting >= self._max_waiting:
            raise QueueFullError
        self.waiting += 1

    def leave(self) -> None:
        self.waiting -= 1


class FairQueue:
    """Hands out `places`; whoever finds none waits its turn. Once closed it hands out none."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._is_closed = False
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def take_free(self) -> bool:
        """Takes a place if one is free and nobody waits."""
        if self._free and not self._lines and not self._is_closed:
            self._free -= 1
            return True
        return False

    async def take(self, client: str) -> None:
        """Waits for a place. A caller that is cancelled gives up its turn, or a place it was just given.

        Raises ServerStoppingError when the queue is closed, or has been when the turn came.
        """
        if self._is_closed:
            raise ServerStoppingError
        if self.take_free():
            return
        turn = asyncio.get_running_loop().create_future()
        self._lines.setdefault(client, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back()
            else:
                self._forget(client, turn)
            raise
        if self._is_closed:
            raise ServerStoppingError

    def close(self) -> None:
        """Whoever waits is told that the server stops, and so is who comes."""
        self._is_closed = True
        lines, self._lines = self._lines, OrderedDict()
        for turn in (turn for line in lines.values() for turn in line):
            if not turn.done():
                turn.set_result(None)  # it finds the queue closed

    def give_back(self) -> None:
        """Frees a place: the next client in turn gets it."""
        while self._lines:
            client, line = self._lines.popitem(last=False)
            turn = line.popleft()
            if line:
                self._lines[client] = line  # to the end: the others come first now
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _forget(self, client: str, turn: "asyncio.Future[None]") -> None:
        line = self._lines.get(client)
        if line and turn in line:
            line.remove(turn)
            if not line:
                del self._lines[client]


class Line:
    """Places for work that comes before an engine is asked for. Who waits for one counts in the waiting room."""

    def __init__(self, room: WaitingRoom, places: int) -> None:
        self._room = room
        self._queue = FairQueue(places)

    @asynccontextmanager
    async def place(self, client: str) -> AsyncIterator[None]:
        """A place for the length of the block. Raises QueueFullError when too many wait, and ServerStoppingError."""
        if not self._queue.take_free():
            self._room.enter()
            try:
                await self._queue.take(client)
            finally:
                self._room.leave()
        try:
            yield
        finally:
            self._queue.give_back()

    def close(self) -> None:
        self._queue.close()
