"""Which blobs clients count on: those that they have brought, or were told are there, and that no model has been made of since.

Such a blob is not removed with a model that happens to have it too. It is spared for an hour; after that, or once a model is
made of it, it goes with the last model that has it. Known to one server alone: what another one was told, its own sweep keeps
by the file's time.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Final

from corral.store.layout import digest_hex, digest_of

WANTED_S: Final = 3600.0


class Wanted:
    """Safe to use from several threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # a blob is not removed between being wanted and being found
        self._since_s: dict[str, float] = {}  # oldest first

    def add(self, digest: str) -> None:
        """To be called before the blob is looked for, or gets its name."""
        digest = digest_of(digest_hex(digest))
        with self._lock:
            self._forget_old()
            self._since_s.pop(digest, None)
            self._since_s[digest] = self._clock()

    def drop(self, digests: Iterable[str]) -> None:
        """A model has them now."""
        with self._lock:
            for digest in digests:
                self._since_s.pop(digest, None)

    def remove_others(self, digests: set[str], remove: Callable[[str], None]) -> set[str]:
        """Calls `remove` for each that nobody wants, and gives those."""
        with self._lock:
            self._forget_old()
            others = digests - self._since_s.keys()
            for digest in others:
                remove(digest)
            return others

    def _forget_old(self) -> None:
        before_s = self._clock() - WANTED_S
        while self._since_s and (first := next(iter(self._since_s.items())))[1] < before_s:
            del self._since_s[first[0]]
