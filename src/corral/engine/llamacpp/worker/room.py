"""Is there memory for more KV cells, and what gives way to them: the prefix cache that is parked in RAM. Worker side, pure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from corral.engine.llamacpp.worker.allowance import Allowance


class Parked(Protocol):
    @property
    def size_bytes(self) -> int: ...
    def fit(self, size_bytes: int | None = None) -> None: ...


@dataclass(frozen=True, slots=True)
class KvRoom:
    """`free_bytes`: of the memory where the cells are, which is that of the cache too if they `share_ram`."""

    cell_bytes: float
    allowance: Allowance
    free_bytes: Callable[[], int]
    parked: Parked | None
    share_ram: bool

    def could_have(self, cells_now: int, cells_then: int) -> bool:
        """Could there be so many cells in the place of so many, if all that is parked gave way? Nothing does yet."""
        parked_bytes = self.parked.size_bytes if self.parked else 0
        free = self.free_bytes() + (parked_bytes if self.share_ram else 0)
        return self._wanted(cells_now, cells_then) <= self.allowance.left_of(free, parked_bytes)

    def clear(self, cells_now: int, cells_then: int) -> bool:
        """Has as much give way as it takes; false where that is not enough."""
        wanted = self._wanted(cells_now, cells_then)
        left = self.allowance.left_of(self.free_bytes())
        if wanted > left and self.parked and self.could_have(cells_now, cells_then):
            self.parked.fit(max(0, self.parked.size_bytes - (wanted - left)))
            left = self.allowance.left_of(self.free_bytes())
        return wanted <= left

    def _wanted(self, cells_now: int, cells_then: int) -> int:
        return int((cells_then - cells_now) * self.cell_bytes)
