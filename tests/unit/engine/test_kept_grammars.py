"""Compiled grammars are kept while there is memory for them."""

import gc
from typing import cast

from llguidance import LLMatcher

from corral.engine.llamacpp.worker.grammar.kept import Compiled, Kept

MB = 1 << 20
NONE = cast(LLMatcher, None)


class Backs:
    """How often memory was given back."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def key(number: int) -> tuple[str, str]:
    return "lark", str(number)


def test_many_small_ones_are_kept() -> None:
    kept = Kept(Backs())
    for number in range(1000):
        kept.add(key(number), Compiled(NONE, 10_000))
    assert all(kept.knows(key(number)) for number in range(1000))


def test_large_ones_drive_out_what_was_not_used_for_longest() -> None:
    kept = Kept(Backs())
    for number in range(4):
        kept.add(key(number), Compiled(NONE, 20 * MB))
    assert kept.get(key(0))
    kept.add(key(4), Compiled(NONE, 30 * MB))
    assert [kept.knows(key(number)) for number in range(5)] == [True, False, True, True, True]


def test_one_that_is_too_large_is_not_kept() -> None:
    kept = Kept(Backs())
    kept.add(key(1), Compiled(NONE, 10 * MB))
    kept.add(key(2), Compiled(NONE, 200 * MB))
    assert not kept.knows(key(2))


def test_slow_work_makes_one_larger() -> None:
    kept = Kept(Backs())
    first, second = Compiled(NONE, MB), Compiled(NONE, MB)
    kept.add(key(1), first)
    kept.add(key(2), second)
    first.learn(0.3)
    second.learn(0.3)
    kept.fit()
    assert [kept.knows(key(number)) for number in (1, 2)] == [False, True]


def test_worn_ones_are_not_used_again() -> None:
    kept = Kept(Backs())
    used, bad = Compiled(NONE, MB, uses=64), Compiled(NONE, MB)
    kept.add(key(1), used)
    kept.add(key(2), bad)
    bad.wear_out()
    assert kept.get(key(1)) is kept.get(key(2)) is None


def test_memory_of_a_large_one_is_given_back_once_nobody_uses_it() -> None:
    backs = Backs()
    kept = Kept(backs)
    answers = Compiled(NONE, MB)
    kept.add(key(1), answers)
    kept.add(key(2), Compiled(NONE, MB))
    answers.learn(1.0)
    kept.fit()
    gc.collect()
    assert not kept.knows(key(1))
    assert backs.count == 0
    del answers
    gc.collect()
    assert backs.count == 1
    kept.add(key(3), Compiled(NONE, 96 * MB))
    gc.collect()
    assert not kept.knows(key(2))
    assert backs.count == 1
