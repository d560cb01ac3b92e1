"""How many threads a step gets, on machines whose speed is made up."""

from collections.abc import Callable

import pytest

from corral.engine.llamacpp.threads import ThreadCount

Machine = Callable[[int], float]  # seconds a step takes with so many threads


def quiet(threads: int) -> float:
    return 0.010 / threads


def crowded(threads: int) -> float:
    """Another program has one core of four."""
    return 0.010 / threads if threads < 4 else 0.05


def run(count: ThreadCount, machine: Machine, steps: int) -> list[int]:
    used = []
    for _ in range(steps):
        used.append(count.now)
        count.learn(1, machine(count.now))
    return used


def test_a_quiet_machine_gets_all_threads_almost_always() -> None:
    used = run(ThreadCount(4), quiet, 2000)
    assert used.count(4) > 0.98 * len(used)
    assert used[-1] == 4


def test_a_crowded_machine_gets_as_many_as_are_free() -> None:
    count = ThreadCount(4)
    run(count, crowded, 200)
    used = run(count, crowded, 1000)
    assert used.count(3) > 0.95 * len(used)


def test_steps_that_become_slow_are_answered_at_once() -> None:
    count = ThreadCount(4)
    run(count, quiet, 300)
    used = run(count, crowded, 12)
    assert used[-1] == 3


def test_all_threads_come_back_when_the_others_are_gone() -> None:
    count = ThreadCount(4)
    run(count, crowded, 1000)
    used = run(count, quiet, 600)
    assert used[-1] == 4


def test_more_than_one_core_can_be_given_up() -> None:
    count = ThreadCount(4)
    used = run(count, lambda threads: 0.01 if threads == 1 else 0.01 * threads, 300)
    assert used[-1] == 1


@pytest.mark.parametrize("count", [ThreadCount(4, is_fixed=True), ThreadCount(1)], ids=["asked for", "only one"])
def test_a_number_without_choice_stays(count: ThreadCount) -> None:
    first = count.now
    assert set(run(count, crowded, 500)) == {first}


def test_one_slow_step_changes_nothing() -> None:
    count = ThreadCount(4)
    run(count, quiet, 100)
    count.learn(1, 1.0)
    assert count.now == 4


def test_a_batch_that_changes_size_in_a_trial_ends_it() -> None:
    count = ThreadCount(4)
    run(count, quiet, 16)
    assert count.now == 3
    count.learn(7, 0.001)
    assert count.now == 4
