"""How much more memory a worker may take, as the server says: its share of the budget for all models. Worker side, pure."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class Allowance:
    limit_bytes: int  # of all that the worker takes, now; 0: as much as is free
    taken_bytes: Callable[[], int]

    def left_of(self, free_bytes: int, returned_bytes: int = 0) -> int:
        """What may be taken of so much free memory, once so much of what is taken was given back."""
        if not self.limit_bytes:
            return free_bytes
        return min(free_bytes, self.limit_bytes - self.taken_bytes() + returned_bytes)
