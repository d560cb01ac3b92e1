"""Places on an engine, and the line of requests that wait for one.

A place is one of the sequences that an engine decodes at once. Who waits is served by turns among clients, and in the
order of arrival within one client, so that a client with a hundred requests delays another's single one by one place.
All lines of a server share one bound: a request that would exceed it is refused at once (QueueFullError).
"""

import asyncio
from collections import OrderedDict, deque

from corral.core.errors import QueueFullError


class WaitingRoom:
    """Counts everyone who waits in this server, for a model to load or for a place on it."""

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
    """Hands out `places`; whoever finds none waits its turn."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def take_free(self) -> bool:
        """Takes a place if one is free and nobody waits."""
        if self._free and not self._lines:
            self._free -= 1
            return True
        return False

    async def take(self, client: str) -> None:
        """Waits for a place. A caller that is cancelled gives up its turn, or a place it was just given."""
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
