"""Whose turn it is: jobs with different scales of the model's adapters take turns, as llama.cpp applies them to a whole batch.

Changing them costs it a new plan of the computation: half a millisecond a layer. So a turn lasts some steps, but no longer than
a prompt may make others wait. Each group of jobs gets the same time, however many they are. Pure.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

Scales = tuple[float, ...]

_TURN_S: Final = 0.08  # a step that takes longer is a turn by itself


class Turns:
    """Of the groups of the running jobs, each of which is known by its scales."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._jobs: OrderedDict[Scales, int] = OrderedDict()  # counts; the first group has its turn
        self._began_s = 0.0

    @property
    def is_mixed(self) -> bool:
        """There is more than one group."""
        return len(self._jobs) > 1

    def join(self, scales: Scales) -> None:
        self._jobs[scales] = self._jobs.get(scales, 0) + 1
        if len(self._jobs) == 1:
            self._began_s = self._now_s()

    def leave(self, scales: Scales) -> None:
        self._jobs[scales] -= 1
        if self._jobs[scales]:
            return
        if next(iter(self._jobs)) == scales:
            self._began_s = self._now_s()
        del self._jobs[scales]

    def order(self) -> list[Scales]:
        """All groups: the one whose turn it is, then those that may take it where that one has nothing to compute."""
        now_s = self._now_s()
        if now_s - self._began_s >= _TURN_S:
            self._jobs.move_to_end(next(iter(self._jobs)))
            self._began_s = now_s
        return list(self._jobs)
