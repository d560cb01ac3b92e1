"""Who is served next of those who wait: by priority, and within one priority by turns among clients. Pure.

Clients share what there is by what it costs, in tokens: the one that was served least goes next, and what one client asks is
served in the order in which it came. Nobody saves up a claim: who comes back is as far as the one whose turn it was last.
A lower number is an earlier priority. Later ones do not wait for ever: who was passed over often enough goes first once.
Source: Sheng et al., Fairness in Serving Large Language Models, 2024: the virtual token counter.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

MOST_PASSES: Final = 8  # times in a row that earlier priorities pass over a later one
_MOST_REMEMBERED: Final = 1024  # clients

T = TypeVar("T")


class Accounts:
    """What each client was served, in tokens. Of the clients that did not come for longest it forgets some."""

    def __init__(self) -> None:
        self._used: OrderedDict[str, float] = OrderedDict()
        self._level = 0.0  # what the client had used whose turn it was last

    def used(self, client: str) -> float:
        return self._used.get(client, self._level)

    def come(self, client: str) -> None:
        """A client of which nobody waits begins to."""
        self._used[client] = max(self.used(client), self._level)
        self._used.move_to_end(client)
        if len(self._used) > _MOST_REMEMBERED:
            self._used.popitem(last=False)

    def serve(self, client: str) -> None:
        """It is this client's turn."""
        self._level = max(self._level, self.used(client))

    def charge(self, client: str, tokens: float) -> None:
        """The client was served so many; negative, where it was charged for more before."""
        self._used[client] = self.used(client) + tokens


@dataclass(slots=True)
class _Rank(Generic[T]):
    """Those of one priority."""

    resumed: deque[T] = field(default_factory=deque)
    lines: dict[str, deque[T]] = field(default_factory=dict)
    passed: int = 0  # times since one of them was taken

    @property
    def is_overdue(self) -> bool:
        return self.passed >= MOST_PASSES


class FairLine(Generic[T]):
    """Whoever waits, each with its client and its priority. An item is there once."""

    def __init__(self) -> None:
        self.accounts = Accounts()
        self._ranks: dict[int, _Rank[T]] = {}
        self._where: dict[T, tuple[str, int]] = {}

    def __len__(self) -> int:
        return len(self._where)

    def __iter__(self) -> Iterator[T]:
        """All, in no order that says whose turn it is."""
        return iter(self._where)

    def where(self, item: T) -> tuple[str, int]:
        """The client and the priority of one that waits."""
        return self._where[item]

    def add(self, item: T, client: str, priority: int, *, is_resumed: bool = False) -> None:
        """`is_resumed`: it was served before and has to go on, so it comes before all others of its priority."""
        self._where[item] = client, priority
        rank = self._ranks.setdefault(priority, _Rank())
        if is_resumed:
            rank.resumed.append(item)
            return
        if client not in rank.lines:
            self.accounts.come(client)
            rank.lines[client] = deque()
        rank.lines[client].append(item)

    def order(self) -> Iterator[T]:
        """Whose turn it is, then whose turn it would be without that one, and so on. Over when anything changes."""
        for rank in self._in_turn():
            yield from rank.resumed
            for client in self._clients(rank):
                yield from rank.lines[client]

    def heads(self) -> Iterator[T]:
        """The same, but only the first of each client and priority."""
        for rank in self._in_turn():
            yield from rank.resumed
            for client in self._clients(rank):
                yield rank.lines[client][0]

    def take(self, item: T) -> bool:
        """One of them is served now; true where it goes before others because its priority was passed over too often."""
        client, priority = self._where[item]
        rank = self._ranks[priority]
        was_overdue = rank.is_overdue
        for number, later in self._ranks.items():
            if number > priority:
                later.passed += 1
        rank.passed = 0
        self.accounts.serve(client)
        self.discard(item)
        return was_overdue

    def discard(self, item: T) -> bool:
        """Takes it out, if it is there."""
        found = self._where.pop(item, None)
        if found is None:
            return False
        client, priority = found
        rank = self._ranks[priority]
        if item in rank.resumed:
            rank.resumed.remove(item)
        else:
            line = rank.lines[client]
            line.remove(item)
            if not line:
                del rank.lines[client]
        if not rank.lines and not rank.resumed:
            del self._ranks[priority]
        return True

    def _in_turn(self) -> list[_Rank[T]]:
        found = sorted(self._ranks.items(), key=lambda pair: (not pair[1].is_overdue, pair[0]))
        return [rank for _, rank in found]

    def _clients(self, rank: _Rank[T]) -> list[str]:
        """The one served least first; of equals the one that has waited longer."""
        return sorted(rank.lines, key=self.accounts.used) if len(rank.lines) > 1 else list(rank.lines)
