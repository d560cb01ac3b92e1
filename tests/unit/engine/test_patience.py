"""Answers whose grammars take too much work end."""

import pytest

from corral.core.errors import BadRequestError
from corral.engine.llamacpp.worker.grammar.patience import Patience


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def work(self, took_s: float) -> str:
        self.now_s += took_s
        return "done"


def test_quick_questions_are_answered_without_end() -> None:
    clock = Clock()
    patience = Patience(clock, clock)
    assert {patience.ask(lambda: clock.work(0.009)) for _ in range(10_000)} == {"done"}
    assert patience.slow_s == 0


@pytest.mark.parametrize(("took_s", "times"), [(0.6, 2), (0.12, 5), (0.04, 17)])
def test_slow_questions_end_the_answer_after_half_a_second(took_s: float, times: int) -> None:
    clock = Clock()
    patience = Patience(clock, clock)
    for _ in range(times - 1):
        patience.ask(lambda: clock.work(took_s))
    with pytest.raises(BadRequestError, match=f"takes too much work: {took_s * 1000:.0f} ms for a token, .* 0.5 s at most"):
        patience.ask(lambda: clock.work(took_s))


def test_busy_machine_ends_no_answer() -> None:
    clock, idle = Clock(), Clock()
    patience = Patience(clock, idle)
    assert {patience.ask(lambda: clock.work(5)) for _ in range(100)} == {"done"}


def test_what_slow_questions_took_is_known() -> None:
    clock = Clock()
    patience = Patience(clock, clock)
    for _ in range(2):
        patience.ask(lambda: clock.work(0.11))
    assert patience.slow_s == pytest.approx(0.2)
