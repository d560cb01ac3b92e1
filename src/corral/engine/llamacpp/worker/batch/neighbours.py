"""Which slots lie beside which: llama.cpp computes a batch in one piece only where the sequences in it are neighbours. Pure.

The running slots are given in order.
"""

from collections.abc import Sequence


def gap_count(running: Sequence[int]) -> int:
    """Idle slots between the running ones."""
    return running[-1] - running[0] + 1 - len(running) if len(running) > 1 else 0


def beside(running: Sequence[int], sequences: int, count: int) -> list[int]:
    """So many idle slots, or what there are of them: those between the running ones first, then those next to them."""
    low, high = running[0], running[-1]
    inside = [slot for slot in range(low, high + 1) if slot not in running]
    return [*inside, *range(high + 1, sequences), *range(low - 1, -1, -1)][:count]


def nearest(free: Sequence[int], running: Sequence[int]) -> int:
    """The free slot that is nearest to the running ones."""
    return min(free, key=lambda slot: (min((abs(slot - other) for other in running), default=0), slot))


def move(running: Sequence[int], sequences: int) -> tuple[int, int]:
    """The running slot that should move, and where to, so that one gap less is between them. There must be one."""
    size = len(running)
    best = max(running, key=lambda begin: sum(begin <= slot < begin + size for slot in running))
    begin = min(best, sequences - size)
    outside = next(slot for slot in running if not begin <= slot < begin + size)
    return outside, next(slot for slot in range(begin, begin + size) if slot not in running)
