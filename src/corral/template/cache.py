"""Keeps what was made of templates' sources, as long as they are few and short: anyone can send another one with a request."""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Final, Generic, TypeVar

from corral.core.errors import BadRequestError

T = TypeVar("T")
_MAX_KEPT_CHARS: Final = 512 << 10  # of all sources together; what is made of one is some fifty times as large


class SourceCache(Generic[T]):
    """What `make` made of each source, the least used forgotten first. Safe to use from several threads.

    That a source is wrong is kept as well: it is asked for at every request, as a good one is.
    """

    def __init__(self, make: Callable[[str], T], *, max_chars: int = _MAX_KEPT_CHARS) -> None:
        self._make = make
        self._max_chars = max_chars
        self._kept: OrderedDict[str, T | BadRequestError] = OrderedDict()
        self._chars = 0
        self._lock = Lock()

    def get(self, source: str) -> T:
        """Raises the BadRequestError that `make` raises."""
        with self._lock:
            made = self._kept.get(source)
            if made is not None:
                self._kept.move_to_end(source)
        if made is None:
            try:
                made = self._make(source)
            except BadRequestError as exc:
                made = BadRequestError(str(exc))  # without the frames that the other one holds
            self._keep(source, made)
        if isinstance(made, BadRequestError):
            raise BadRequestError(str(made))
        return made

    def _keep(self, source: str, made: T | BadRequestError) -> None:
        with self._lock:
            if source not in self._kept:
                self._kept[source] = made
                self._chars += len(source) + 1
            while self._chars > self._max_chars:
                forgotten, _ = self._kept.popitem(last=False)
                self._chars -= len(forgotten) + 1
