"""Compiled grammars that are kept for the next answer, as many as there is memory for.

What one takes is measured when it is compiled; later it grows with the slow work that is done on it, as llguidance remembers
the states that it has found. Memory of a large one goes back to the system once the last answer is done with it.
"""

import ctypes
import sys
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from llguidance import LLMatcher

_KEPT_BYTES: Final = 96 << 20
_LARGE_BYTES: Final = 8 << 20
_LEARNT_BYTES_PER_S: Final = 200 << 20  # of slow work, as measured with regexes and with long texts
_USES: Final = 64  # its copies share what they learn of its states, of which there is to be an end

Key = tuple[str, str]


@dataclass(slots=True, weakref_slot=True)
class Compiled:
    """A grammar at its beginning; answers work on copies."""

    matcher: LLMatcher
    size_bytes: int
    uses: int = 0
    slow_s: float = 0.0  # that answers have spent on it
    peak_bytes: list[int] = field(default_factory=lambda: [0])  # the most that it has taken, for whoever outlives it

    @property
    def taken_bytes(self) -> int:
        return self.size_bytes + int(self.slow_s * _LEARNT_BYTES_PER_S)

    def learn(self, slow_s: float) -> None:
        self.slow_s += slow_s
        self.peak_bytes[0] = self.taken_bytes

    def wear_out(self) -> None:
        """It is not to be used again."""
        self.uses = _USES

    @property
    def is_worn(self) -> bool:
        return self.uses >= _USES or self.taken_bytes > _KEPT_BYTES


class Kept:
    """`give_back` is called when a large one is gone, from whatever thread that happens in."""

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back = give_back
        self._known: OrderedDict[Key, Compiled] = OrderedDict()

    def knows(self, key: Key) -> bool:
        """Was it compiled before, and may be used again? Any thread may ask."""
        known = self._known.get(key)
        return known is not None and not known.is_worn

    def get(self, key: Key) -> Compiled | None:
        if not self.knows(key):
            return None
        self._known.move_to_end(key)
        return self._known[key]

    def add(self, key: Key, compiled: Compiled) -> None:
        compiled.peak_bytes[0] = compiled.taken_bytes
        weakref.finalize(compiled, self._gone, compiled.peak_bytes).atexit = False
        self._known[key] = compiled
        self._known.move_to_end(key)
        self.fit()

    def fit(self) -> None:
        """Drops those that were not used for longest, while all take too much."""
        while self._known and sum(one.taken_bytes for one in self._known.values()) > _KEPT_BYTES:
            self._known.popitem(last=False)

    def _gone(self, peak_bytes: list[int]) -> None:
        if peak_bytes[0] > _LARGE_BYTES:
            self._give_back()


class _MallInfo(ctypes.Structure):
    """glibc's mallinfo2."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    )


def allocated_bytes() -> int:
    """What native code has taken of the heap at the moment; 0 where the system does not tell."""
    if _LIBC is None or not hasattr(_LIBC, "mallinfo2"):
        return 0
    _LIBC.mallinfo2.restype = _MallInfo
    info = _LIBC.mallinfo2()
    return int(info.uordblks + info.hblkhd)


def trim() -> None:
    """Gives unused memory of the heap back to the system, where it does not do so by itself."""
    if _LIBC is not None and hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)


_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None
