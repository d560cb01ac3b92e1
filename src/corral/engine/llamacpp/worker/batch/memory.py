"""KV memory that grows with what is wanted of it: sequences, and cells that each of them has.

llama.cpp's context has a fixed size and takes all of its memory at once, so a small one is made first, and a larger one in its
place when more is needed; what the old one held is carried over as saved states. A sequence whose state cannot be carried
over is lost, and computed again by whoever needs it.
Memory that is not there must not be asked for: the system gives it all the same, and kills the process when it is used.
"""

import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar

from corral.core.errors import EngineError, ModelLoadError

log: Final = logging.getLogger(__name__)
_RETRY_S: Final = 30.0
_ASK_S: Final = 1.0  # where there was no memory for it, but nothing was tried: to ask is cheap, but not for every step
_STEP: Final = 256  # llama.cpp rounds cells up to a multiple of this


class MemoryLostError(RuntimeError):
    """There is no context any more to compute in. No failure of one job: the worker ends, and a new one is started."""


class KvContext(Protocol):
    """What KV memory needs of a llama.cpp context."""

    sequences: int
    cells: int

    def cut(self, sequence: int, begin: int) -> bool: ...
    def forget(self, sequence: int) -> None: ...
    def fork(self, source: int, target: int) -> bool: ...
    def save(self, sequence: int) -> Any: ...
    def restore(self, sequence: int, state: Any) -> bool: ...
    def close(self) -> None: ...


C = TypeVar("C", bound=KvContext)


class KvMemory(Generic[C]):
    """Owns the context, which `make` makes for so many sequences of so many cells each.

    `most_sequences` and `most_cells` are what it may grow to. `allows` says whether there could be memory, at that moment, to
    have so many cells in all (its second argument) in the place of so many (its first). `clears` is told what was decided,
    makes others give way to it, and says whether there is memory for it now.
    """

    def __init__(
        self,
        make: Callable[[int, int], C],
        *,
        sequences: int,
        cells: int,
        most_sequences: int,
        most_cells: int,
        allows: Callable[[int, int], bool] = lambda _now, _then: True,
        clears: Callable[[int, int], bool] = lambda _now, _then: True,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make = make
        self._most_sequences = most_sequences
        self._most_cells = most_cells
        self._allows = allows
        self._clears = clears
        self._now_s = now_s
        self._refused = (0, 0.0)  # cells in all that there was no memory for, and until when they are not tried again
        self._not_allowed = (0, 0.0)  # the same, of those that were asked for only
        self.context = make(min(sequences, most_sequences), min(cells, most_cells))

    def grow(self, held: Collection[int], *, sequences: int = 0, cells: int = 0) -> set[int]:
        """Makes room for as many sequences and cells, where that may be; gives those of the `held` sequences that were lost.

        It grows to what is wanted, but never by a little: so what grows token by token is carried over a few times only, and
        no more is taken than that needs, for fresh memory is slow. Without memory for more the context stays as large as it
        is, and growing so far is not tried again for some time. Raises MemoryLostError where even that is not to be had.
        """
        old_sequences, old_cells = self.context.sequences, self.context.cells
        size = self._larger(sequences, cells)
        if size is None:
            return set()
        new_sequences, new_cells = size
        states = {sequence: state for sequence in held if (state := self._saved(sequence)) is not None}
        now, then = old_sequences * old_cells, new_sequences * new_cells
        if not (self._allows(now, then) and self._clears(now, then)):  # what is saved takes memory too
            self._refuse(new_sequences, new_cells)
            return set()
        self.context.close()
        try:
            self.context = self._make(new_sequences, new_cells)
        except ModelLoadError:
            self._refuse(new_sequences, new_cells)
            self.context = self._again(old_sequences, old_cells)
        return {sequence for sequence in held if sequence not in states} | self._lost(states)

    def _larger(self, sequences: int, cells: int) -> tuple[int, int] | None:
        """What it may grow to: by a good deal, or else by no more than is wanted. None where it stays as it is."""
        old_sequences, old_cells = self.context.sequences, self.context.cells
        padded = -(-cells // _STEP) * _STEP
        for more_sequences, more_cells in ((2.0, 1.5), (1.0, 1.0)):
            new_sequences = min(_grown(old_sequences, sequences, more_sequences), max(self._most_sequences, old_sequences))
            new_cells = min(_grown(old_cells, padded, more_cells), max(self._most_cells, old_cells))
            old, new = old_sequences * old_cells, new_sequences * new_cells
            if new == old or self._holds(self._refused, new):
                return None
            if padded <= old_cells and self._holds(self._not_allowed, new):  # a job without its cells would fail
                continue
            if self._allows(old, new):
                return new_sequences, new_cells
            self._not_allowed = new, self._now_s() + _ASK_S
        return None

    def _refuse(self, sequences: int, cells: int) -> None:
        log.warning("no memory for %d sequences of %d tokens; it stays as it is", sequences, cells)
        self._refused = sequences * cells, self._now_s() + _RETRY_S

    def _again(self, sequences: int, cells: int) -> C:
        try:
            return self._make(sequences, cells)
        except ModelLoadError as exc:
            raise MemoryLostError(f"the memory for {sequences} sequences of {cells} tokens was given back and is gone") from exc

    def _holds(self, refusal: tuple[int, float], total: int) -> bool:
        refused, until_s = refusal
        return 0 < refused <= total and self._now_s() < until_s

    def _saved(self, sequence: int) -> Any | None:
        try:
            return self.context.save(sequence)
        except EngineError:
            return None

    def _lost(self, states: Mapping[int, Any]) -> set[int]:
        return {sequence for sequence, state in states.items() if not self.context.restore(sequence, state)}


def _grown(old: int, wanted: int, factor: float) -> int:
    """What there is if that is enough, else what is wanted, and at least `factor` times as much as there is."""
    return old if wanted <= old else max(wanted, int(old * factor))
