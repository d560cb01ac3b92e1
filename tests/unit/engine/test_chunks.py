"""How much of a prompt a step takes, so that others wait for a bounded time: on machines that are quick, slow and very slow."""

from collections.abc import Callable

import pytest

from corral.engine.llamacpp.worker.batch.chunks import Chunks


def gaps(chunks: Chunks, cost_s: Callable[[int, int], float], *, tokens: int = 3000, streams: int = 4) -> list[float]:
    """What the steps take in which a prompt is read beside answers; `cost_s` is of tokens, behind so many of the prompt."""
    found: list[float] = []
    read = 0
    while read < tokens:
        size = min(tokens - read, chunks.budget(is_shared=True))
        found.append(cost_s(size + streams, read))
        chunks.learn(size, found[-1], is_shared=True)
        read += size
    return found


QUICK = 0.004, 0.0005  # seconds a step, and a token of it
SLOW = 0.25, 0.06
VERY_SLOW = 1.5, 0.4


@pytest.mark.parametrize(("step_s", "token_s"), [QUICK, SLOW, VERY_SLOW], ids=["quick", "slow", "very-slow"])
@pytest.mark.parametrize("has_read", [False, True], ids=["first-prompt", "later-prompt"])
def test_gap_is_bounded_from_the_first_step_on(step_s: float, token_s: float, has_read: bool) -> None:
    chunks = Chunks(512)
    plain_s = step_s + 4 * token_s
    for _ in range(20):
        chunks.learn_plain(plain_s)
    if has_read:
        for _ in range(3):
            size = chunks.budget(is_shared=False)
            chunks.learn(size, step_s + size * token_s, is_shared=False)
    found = gaps(chunks, lambda tokens, _: step_s + tokens * token_s)
    bound_s = max(0.08, 2 * plain_s, plain_s + 8 * token_s)  # for the fewest tokens that a prompt gets
    assert max(found[:1]) <= 3 * bound_s, "nothing is known of small steps yet"
    assert max(found[1:]) <= 1.5 * bound_s
    assert max(found[4:]) <= 1.1 * bound_s


def test_prompt_is_read_almost_as_quickly_as_if_nobody_waited() -> None:
    step_s, token_s = QUICK
    alone_s = 3000 / 512 * step_s + 3000 * token_s
    assert sum(gaps(Chunks(512), lambda tokens, _: step_s + tokens * token_s)) < 1.2 * alone_s


def test_gap_stays_bounded_where_a_long_prompt_is_read_slower_towards_its_end() -> None:
    found = gaps(Chunks(512), lambda tokens, read: 0.004 + tokens * (0.0003 + read * 1e-7), tokens=20_000)
    assert max(found) < 0.08 * 65 / 40 + 0.01, "a tile rather than two thirds of one"


def test_one_slow_step_is_soon_forgotten() -> None:
    chunks = Chunks(512)
    for _ in range(20):
        chunks.learn(100, 0.05, is_shared=True)
    usual = chunks.budget(is_shared=True)
    chunks.learn(100, 2.0, is_shared=True)
    for _ in range(10):
        chunks.learn(100, 0.05, is_shared=True)
    assert chunks.budget(is_shared=True) > 0.9 * usual


def test_whoever_comes_while_nobody_answers_waits_a_second_at_most() -> None:
    chunks = Chunks(512)
    taken: list[float] = []
    for _ in range(20):
        size = chunks.budget(is_shared=False)
        taken.append(0.1 + size * 0.01)
        chunks.learn(size, taken[-1], is_shared=False)
    assert max(taken) <= 1.4
    assert max(taken[5:]) <= 1.05


def test_step_never_has_more_than_a_batch_and_never_nothing() -> None:
    quick, slow = Chunks(16), Chunks(16)
    quick.learn(16, 1e-9, is_shared=False)
    slow.learn(16, 1e9, is_shared=False)
    assert [quick.budget(is_shared=is_shared) for is_shared in (False, True)] == [16, 16]
    assert [slow.budget(is_shared=is_shared) for is_shared in (False, True)] == [16, 8]


@pytest.mark.parametrize(("is_shared", "more"), [(True, 1), (False, 0)], ids=["beside-answers", "alone"])
def test_pieces_are_whole_tiles_of_attention(is_shared: bool, more: int) -> None:
    for speed in range(600, 8000, 50):
        chunks = Chunks(2048)
        chunks.learn(speed, 1.0, is_shared=is_shared)
        size = chunks.budget(is_shared=is_shared)
        assert size % 64 == more or size < 40, f"{size} at {speed} tokens a second"


def test_one_long_prompt_is_read_in_tiles_though_small_pieces_are_slow() -> None:
    """Behind many tokens, 8 of several prompts take almost as long as 64 of one."""
    chunks = Chunks(512)
    chunks.learn_plain(0.015)
    chunks.learn(512, 1.0, is_shared=False)
    for _ in range(10):
        chunks.learn(8, 0.1, is_shared=True)
    assert chunks.budget(is_shared=True) < 40
    assert chunks.budget(is_shared=True, has_tiles=True) == 65
    for _ in range(10):
        chunks.learn(65, 0.2, is_shared=True, has_tiles=True)
    assert chunks.budget(is_shared=True, has_tiles=True) == 65
