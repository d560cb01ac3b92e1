"""Groups of jobs take turns, each for the same time."""

from itertools import pairwise

from corral.engine.llamacpp.worker.batch.turns import Turns

BASE, HALF, FULL = (0.0,), (0.5,), (1.0,)


class Groups:
    """Turns, with a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.turns = Turns(lambda: self.now_s)

    def after(self, seconds: float) -> list[tuple[float, ...]]:
        self.now_s += seconds
        return self.turns.order()


def test_one_group_has_every_turn() -> None:
    groups = Groups()
    groups.turns.join(FULL)
    groups.turns.join(FULL)
    assert not groups.turns.is_mixed
    assert groups.after(1) == [FULL]


def test_groups_have_the_same_time_however_many_jobs_they_are() -> None:
    groups = Groups()
    for scales in (FULL, FULL, FULL, HALF, BASE):
        groups.turns.join(scales)
    assert groups.turns.is_mixed
    first = [groups.after(0.03)[0] for _ in range(90)]
    counts = [first.count(scales) for scales in (FULL, HALF, BASE)]
    assert max(counts) - min(counts) <= 3
    assert sum(now != before for before, now in pairwise(first)) in (29, 30)  # steps of one turn go together


def test_step_longer_than_a_turn_is_a_turn() -> None:
    groups = Groups()
    groups.turns.join(FULL)
    groups.turns.join(HALF)
    assert [groups.after(0.3)[0] for _ in range(4)] == [HALF, FULL, HALF, FULL]


def test_group_that_is_gone_leaves_its_turn_to_the_next_one() -> None:
    groups = Groups()
    for scales in (FULL, HALF, BASE):
        groups.turns.join(scales)
    groups.turns.leave(FULL)
    assert groups.after(0.07) == [HALF, BASE]  # with all of its time
    assert groups.after(0.02) == [BASE, HALF]
    groups.turns.leave(HALF)
    assert groups.after(0) == [BASE]
    assert not groups.turns.is_mixed


def test_group_that_comes_late_waits_for_a_turn() -> None:
    groups = Groups()
    groups.turns.join(FULL)
    groups.turns.join(HALF)
    groups.after(0.1)
    groups.turns.join(BASE)
    assert groups.after(0) == [HALF, FULL, BASE]
    groups.turns.leave(FULL)
    assert groups.after(0.1) == [BASE, HALF]
