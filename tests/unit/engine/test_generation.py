from collections.abc import Callable
from typing import Any

import pytest

from corral.core.types import Begun, Job
from corral.engine.llamacpp.worker.batch.generation import Generation


def generation(prompt_tokens: int = 5, *, now_ns: Callable[[], int] = lambda: 0, **job: Any) -> Generation:
    settings: dict[str, Any] = {"prompt": "", "num_ctx": 100} | job
    return Generation(1, Job(**settings), list(range(prompt_tokens)), now_ns=now_ns)


@pytest.mark.parametrize(
    ("num_predict", "limit"),
    [(0, 0), (1, 1), (1000, 1000), (1001, 1000), (-1, 1000), (-2, 1000), (2**40, 1000)],
)
def test_limit_is_num_predict_or_ten_contexts(num_predict: int, limit: int) -> None:
    assert generation(num_predict=num_predict).limit == limit


@pytest.mark.parametrize(
    ("num_keep", "adds_bos", "kept"),
    [
        pytest.param(4, False, 4, id="default"),
        pytest.param(4, True, 5, id="bos-counts-extra"),
        pytest.param(0, False, 0, id="none"),
        pytest.param(-1, True, 20, id="the-whole-prompt"),
        pytest.param(50, True, 20, id="no-more-than-the-prompt"),
    ],
)
def test_shift_keeps_num_keep_tokens(num_keep: int, adds_bos: bool, kept: int) -> None:
    assert generation(20, num_keep=num_keep).kept_at_front(adds_bos=adds_bos) == kept


@pytest.mark.parametrize("num_ctx", [1, 2, 3, 4, 5, 50])
def test_shift_always_leaves_room_to_go_on(num_ctx: int) -> None:
    assert 0 <= generation(60, num_keep=-1, num_ctx=num_ctx).kept_at_front(adds_bos=True) <= max(0, num_ctx - 4)


def test_missing_is_all_but_the_last_token() -> None:
    job = generation(5)
    job.begin(slot=3, cached=1)
    assert (job.slot, job.computed, job.cached, job.missing) == (3, 1, 1, 3)


def test_take_ends_at_the_limit_and_shows_what_was_held_back() -> None:
    job = generation(num_predict=2, stop=("bx",))
    assert job.take(7, b"a") == ("a", None)
    assert job.take(8, b"b") == ("b", "length")
    assert job.tokens[-2:] == [7, 8]


def test_take_of_an_end_token_stops_and_leaves_it_out_of_the_tokens() -> None:
    job = generation(3, stop=("zz",))
    assert job.take(9, b"z") == ("", None)
    assert job.take(0, None) == ("z", "stop")
    assert job.tokens == [0, 1, 2, 9]
    assert job.finish("stop").eval_tokens == 2


def test_take_of_a_stop_string_wins_over_the_limit() -> None:
    assert generation(num_predict=1, stop=("b",)).take(7, b"ab") == ("a", "stop")


def test_finish_names_the_stop_string() -> None:
    one = generation(stop=("ab", "x"))
    assert one.take(7, b"a") == ("", None)
    assert one.take(8, b"b.") == ("", "stop")
    assert one.finish("stop").stop_text == "ab"
    other = generation(stop=("ab",))
    other.take(7, b"a")
    assert other.take(9, None) == ("a", "stop")
    assert other.finish("stop").stop_text == ""


def test_its_beginning_is_told_once() -> None:
    one = generation(7)
    one.begin(0, 4)
    assert [one.tell_begun(), one.tell_begun()] == [Begun(7, 4), None]


@pytest.mark.parametrize(
    ("tokens", "is_stuck"),
    [
        pytest.param([7] * 100, False, id="100-times"),
        pytest.param([7] * 101, True, id="101-times"),
        pytest.param([7] * 100 + [8] + [7] * 100, False, id="with-another-between"),
        pytest.param([7, 8] * 200, False, id="two-in-turns"),
    ],
)
def test_is_stuck_when_one_token_comes_too_often_in_a_row(tokens: list[int], is_stuck: bool) -> None:
    job = generation(num_ctx=1000)
    for token in tokens:
        job.take(token, b"a")
    assert job.is_stuck == is_stuck


def test_token_that_ends_the_prompt_does_not_count_as_said() -> None:
    job = Generation(1, Job(prompt="", num_ctx=1000), [7] * 200)
    job.take(7, b"a")
    assert not job.is_stuck


def test_is_full_at_num_ctx_tokens() -> None:
    job = generation(98)
    assert (job.take(1, b"a"), job.is_full) == (("a", None), False)
    assert (job.take(1, b"a"), job.is_full) == (("a", None), True)


def test_drop_forgets_computed_tokens() -> None:
    job = generation(10)
    job.begin(0, 9)
    job.drop(2, 5)
    assert job.tokens == [0, 1, 5, 6, 7, 8, 9]
    assert job.computed == 6


def test_finish_tells_the_time_until_the_first_token_from_the_time_after_it() -> None:
    times = iter([1_000, 1_500, 4_500])
    job = generation(5, now_ns=lambda: next(times))
    job.begin(0, 2)
    job.take(7, b"a")
    job.take(7, b"b")
    finish = job.finish("length")
    assert (finish.prompt_tokens, finish.cached_tokens, finish.eval_tokens) == (5, 2, 2)
    assert (finish.prompt_ns, finish.eval_ns, finish.reason) == (500, 3_000, "length")


def test_finish_without_an_answer_has_no_time_for_one() -> None:
    times = iter([1_000, 1_700])
    job = generation(num_predict=0, now_ns=lambda: next(times))
    job.begin(0, 0)
    finish = job.finish("length")
    assert (finish.prompt_ns, finish.eval_tokens, finish.eval_ns) == (700, 0, 0)
