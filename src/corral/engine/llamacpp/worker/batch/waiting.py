"""Jobs that wait for a place among the running ones: whose turn it is, and who has to make room for whom.

The order is that of core.fairness. A running job makes room for one with an earlier priority, and where its client has several
running, for the first one of a client that has none. It goes on from where it was, before all others of its priority, and is
left alone then for a while: so everybody advances. Pure; what happens to a job's tokens is the batcher's.
"""

from collections import Counter
from collections.abc import Collection, Container, Iterator
from typing import Final

from corral.core.fairness import FairLine
from corral.engine.llamacpp.worker.batch.generation import Generation

_LEAST_RUN: Final = 32  # tokens that are drawn for a job that went on, or whose turn was overdue, before it makes room again


class Waiting:
    """Jobs that are ready but for a slot to compute in."""

    def __init__(self) -> None:
        self._line: FairLine[Generation] = FairLine()
        self._lifted: list[Generation] = []

    def __len__(self) -> int:
        return len(self._line)

    def __iter__(self) -> Iterator[Generation]:
        return iter(self._line)

    def add(self, generation: Generation) -> None:
        job = generation.job
        self._line.add(generation, job.client, job.priority, is_resumed=generation.is_displaced)

    def remove(self, generation: Generation) -> None:
        self._line.discard(generation)

    def next(self, passed: Container[int]) -> Generation | None:
        """Whose turn it is, those aside whose job ids are `passed`."""
        return next((generation for generation in self._line.order() if generation.job_id not in passed), None)

    def take(self, generation: Generation, reused: int) -> None:
        """It runs from now on; so many of its tokens need not be computed. One that was displaced has paid for its prompt."""
        was_overdue = self._line.take(generation)
        if was_overdue or generation.is_displaced:
            generation.keeps_place_until = generation.drawn + _LEAST_RUN
        if not generation.is_displaced:
            self._line.accounts.charge(generation.job.client, len(generation.tokens) - reused)

    def leave(self, generation: Generation) -> None:
        """A job that has run is over."""
        self._line.accounts.charge(generation.job.client, generation.drawn)

    # Those who wait and those who run

    def lift(self, generation: Generation, slots: Container[int], running: Collection[Generation]) -> None:
        """Who computes in these slots what the waiting one waits for, does it with that one's priority, as long as it waits."""
        for other in running:
            if other.slot in slots and other.urgency > generation.job.priority:
                other.urgency = generation.job.priority
                self._lifted.append(other)

    def drop_lifts(self) -> None:
        for generation in self._lifted:
            generation.urgency = generation.job.priority
        self._lifted.clear()

    def victim(self, generation: Generation, running: Collection[Generation]) -> Generation | None:
        """The running job that has to make room for the waiting one, if any has to: of those that may the one begun last."""
        job = generation.job
        later = [g for g in running if g.urgency > job.priority and g.may_be_displaced]
        if later:
            latest = max(g.urgency for g in later)
            return [g for g in later if g.urgency == latest][-1]
        counts = Counter(g.job.client for g in running if g.job.priority == job.priority)
        if not counts or counts[job.client]:
            return None
        several = max(counts.values())
        if several < 2:
            return None
        equal = [g for g in running if g.urgency == job.priority == g.job.priority and g.may_be_displaced]
        found = [g for g in equal if counts[g.job.client] == several]
        return found[-1] if found else None
