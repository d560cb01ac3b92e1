"""How many threads a step gets, on machines whose speed is made up."""

from collections.abc import Callable

import pytest

from corral.engine.llamacpp.worker.batch.threads import ThreadCount

Machine = Callable[
    [int], tuple[float, float]
]  # seconds a step takes with so many threads, and the share of it that they compute


def quiet(threads: int) -> tuple[float, float]:
    return 0.010 / threads, 0.97


def crowded(threads: int) -> tuple[float, float]:
    """Another program has one core of four."""
    return (0.010 / threads, 0.97) if threads < 4 else (0.05, 0.5)


def on_gpu(_threads: int) -> tuple[float, float]:
    """The threads wait, however many there are."""
    return 0.005, 0.1


def run(count: ThreadCount, machine: Machine, steps: int) -> list[int]:
    used = []
    for _ in range(steps):
        used.append(count.now)
        elapsed_s, share = machine(count.now)
        count.learn(1, elapsed_s, elapsed_s * share * count.now)
    return used


def test_a_quiet_machine_gets_all_threads_always() -> None:
    assert set(run(ThreadCount(4), quiet, 2000)) == {4}


def test_a_crowded_machine_gets_as_many_as_are_free() -> None:
    count = ThreadCount(4)
    run(count, crowded, 10)
    used = run(count, crowded, 1000)
    assert used.count(3) > 0.95 * len(used)


def test_all_threads_come_back_when_the_others_are_gone() -> None:
    count = ThreadCount(4)
    run(count, crowded, 1000)
    used = run(count, quiet, 600)
    assert used[-1] == 4


def test_more_than_one_core_can_be_given_up() -> None:
    def full(threads: int) -> tuple[float, float]:
        return 0.01 * threads, 0.97 if threads == 1 else 0.5

    assert run(ThreadCount(4), full, 300)[-1] == 1


def test_threads_that_wait_for_something_else_are_hardly_ever_tried_out() -> None:
    used = run(ThreadCount(4), on_gpu, 2000)
    assert used.count(4) > 0.98 * len(used)


@pytest.mark.parametrize("count", [ThreadCount(4, is_fixed=True), ThreadCount(1)], ids=["asked for", "only one"])
def test_a_number_without_choice_stays(count: ThreadCount) -> None:
    first = count.now
    assert set(run(count, crowded, 500)) == {first}


def test_a_step_that_was_interrupted_changes_nothing() -> None:
    count = ThreadCount(4)
    run(count, quiet, 100)
    count.learn(1, 1.0, 0.1)
    assert count.now == 4


def test_a_batch_that_changes_size_in_a_trial_ends_it() -> None:
    count = ThreadCount(4)
    run(count, crowded, 3)
    assert count.now == 3
    count.learn(7, 0.001, 0.004)
    assert count.now == 4
