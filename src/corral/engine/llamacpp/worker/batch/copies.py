"""Copies of one sequence into others: its state is saved once, for as many copies as are wanted in a row. Pure."""

from typing import Any, Generic, TypeVar

from corral.core.errors import EngineError
from corral.engine.llamacpp.worker.batch.memory import KvContext

C = TypeVar("C", bound=KvContext)


class Copies(Generic[C]):
    def __init__(self) -> None:
        self._last: tuple[int, int, Any] | None = None  # the slot that was copied, its tokens, its state

    def has(self, slot: int, held: int) -> bool:
        """Is the slot's state at hand, with so many tokens?"""
        return self._last is not None and self._last[:2] == (slot, held)

    def make(self, context: C, source: int, target: int, held: int) -> bool:
        """Has the free target hold what the source does; false where that cannot be done."""
        if context.fork(source, target):
            return True
        if not self.has(source, held):
            try:
                self._last = (source, held, context.save(source))
            except EngineError:
                return False
        assert self._last is not None
        return context.restore(target, self._last[2])

    def forget(self, slot: int) -> None:
        """The slot will hold something else."""
        if self._last and self._last[0] == slot:
            self._last = None

    def clear(self) -> None:
        self._last = None
