"""Things that are worth keeping for a while, within a bound. Pure."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class Lately(Generic[V]):
    """What was used last, up to so many bytes in all, and at least the newest."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()
        self.size_bytes = 0

    def get(self, key: Hashable) -> V | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        self._kept.move_to_end(key)
        return kept[0]

    def put(self, key: Hashable, value: V, size_bytes: int) -> None:
        self.drop(key)
        self._kept[key] = value, size_bytes
        self.size_bytes += size_bytes
        while self.size_bytes > self._most_bytes and len(self._kept) > 1:
            self.drop(next(iter(self._kept)))

    def drop(self, key: Hashable) -> None:
        if kept := self._kept.pop(key, None):
            self.size_bytes -= kept[1]
