"""The batcher on the toy model: who computes when, and what comes of it."""

from typing import Any

import pytest

from corral.wire.link import JobFailed, Overflow
from tests.support.toy_engine import BOS, END, Toy, ToyContext, ToySampler, answer

LONG = "abcdefgh" * 25  # 200 tokens


def batches_of(toy: Toy) -> list[list[tuple[int, int, int]]]:
    return toy.context.batches


@pytest.mark.parametrize("adds_bos", [False, True], ids=["no-bos", "bos"])
@pytest.mark.parametrize("prompt", ["a", "hello", LONG], ids=["one", "short", "long"])
def test_job_answers_what_the_model_says(prompt: str, adds_bos: bool) -> None:
    outcome = Toy(adds_bos=adds_bos).run(prompt)
    assert outcome.finish
    assert (outcome.text, outcome.finish.reason) == answer(prompt, adds_bos=adds_bos)
    assert outcome.finish.prompt_tokens == len(prompt) + adds_bos


def test_prefix_tokens_go_before_the_prompt_and_bring_their_own_bos() -> None:
    prefix = (BOS, *b"hello")
    outcome = Toy(adds_bos=True).run(" you", prefix_tokens=prefix)
    assert outcome.finish
    assert outcome.finish.prompt_tokens == 10
    assert outcome.text == answer(" you", prefix_tokens=prefix, adds_bos=True)[0]


@pytest.mark.parametrize("token", [-1, 256, 2**31 - 1, 2**40])
def test_prefix_token_that_the_model_does_not_have_is_refused(token: int) -> None:
    toy = Toy()
    refusal = toy.run("x", prefix_tokens=(97, token)).refusal
    assert isinstance(refusal, JobFailed)
    assert str(token) in refusal.reason
    assert not toy.context.batches


@pytest.mark.parametrize("adds_bos", [False, True], ids=["no-bos", "bos"])
def test_suffix_is_put_where_the_vocabulary_has_it(adds_bos: bool) -> None:
    toy = Toy(adds_bos=adds_bos)
    outcome = toy.run("before", suffix="after")
    assert outcome.text == answer("<before|after>", adds_bos=adds_bos)[0]
    assert outcome.finish
    assert outcome.finish.prompt_tokens == 14 + adds_bos
    after_prefix = toy.run("before", suffix="after", prefix_tokens=(BOS, 97)).finish
    assert after_prefix
    assert after_prefix.prompt_tokens == 16


def test_suffix_that_the_vocabulary_has_no_place_for_is_refused() -> None:
    toy = Toy()
    toy.words.has_infill = False
    refusal = toy.run("before", suffix="after").refusal
    assert isinstance(refusal, JobFailed)
    assert refusal.is_asked_wrong
    assert "suffix" in refusal.reason


def test_prompt_without_tokens_is_refused() -> None:
    assert isinstance(Toy().run("").refusal, JobFailed)


def test_prompt_that_cannot_be_tokenized_fails_alone() -> None:
    toy = Toy()
    running = toy.submit("hello")
    toy.words.unreadable = "?"
    refusal = toy.run("what?").refusal
    assert refusal == JobFailed(2, "llama.cpp cannot tokenize a text of 5 bytes")
    assert toy.outcomes[running].text == answer("hello")[0]


@pytest.mark.parametrize(("size", "is_refused"), [(255, False), (256, True), (1000, True)])
def test_prompt_that_leaves_no_room_overflows_with_both_numbers(size: int, is_refused: bool) -> None:
    toy = Toy()
    outcome = toy.run("a" * size, num_predict=1, num_ctx=256)
    assert outcome.refusal == (Overflow(1, size, 256) if is_refused else None)
    assert bool(toy.context.batches) != is_refused


@pytest.mark.parametrize("num_predict", [0, 1, 5])
def test_num_predict_bounds_the_answer(num_predict: int) -> None:
    outcome = Toy().run("count", num_predict=num_predict)
    assert outcome.finish
    assert (outcome.text, outcome.finish.reason) == answer("count", num_predict=num_predict)
    assert outcome.finish.eval_tokens == num_predict


def test_num_predict_zero_computes_the_prompt_for_the_next_job() -> None:
    toy = Toy()
    toy.run(LONG, num_predict=0)
    after = toy.run(LONG).finish
    assert after
    assert after.cached_tokens == 199


def test_stop_string_ends_the_answer_before_itself() -> None:
    whole = answer("count")[0]
    outcome = Toy().run("count", stop=(whole[3:6],))
    assert outcome.text == whole[:3]
    assert outcome.finish
    assert (outcome.finish.reason, outcome.finish.eval_tokens) == ("stop", 6)


def test_sampler_sees_the_whole_prompt_and_each_token_once_and_is_closed() -> None:
    toy = Toy()
    toy.run("hello")
    toy.run("hello you")
    seen = [prompt + answer(prompt)[0] + chr(END) for prompt in ("hello", "hello you")]
    assert [bytes(sampler.seen).decode() for sampler in toy.samplers] == seen


# Reuse


def test_next_turn_computes_only_what_is_new() -> None:
    toy = Toy()
    said = toy.run("hello").text
    toy.context.batches.clear()
    second = toy.run(f"hello{said} and then?")
    assert second.text == answer(f"hello{said} and then?")[0]
    assert second.finish
    assert second.finish.cached_tokens == len("hello" + said)
    assert batches_of(toy)[0] == [(0, len("hello" + said), 9)]


def test_same_prompt_again_computes_its_last_token_alone() -> None:
    toy = Toy()
    first = toy.run(LONG)
    toy.context.batches.clear()
    again = toy.run(LONG)
    assert again.text == first.text
    assert batches_of(toy)[0] == [(0, 199, 1)]


def test_first_token_is_drawn_from_a_batch_of_its_own_token_also_when_nothing_is_cached() -> None:
    toy = Toy()
    toy.submit("hello")
    toy.step(2)
    assert batches_of(toy) == [[(0, 0, 4)], [(0, 4, 1)]]


def test_job_waits_for_a_shared_beginning_and_forks() -> None:
    toy = Toy()
    one, two = toy.submit(LONG + "x"), toy.submit(LONG + "y")
    toy.finish()
    finish = toy.outcomes[two].finish
    assert finish
    assert finish.cached_tokens >= 192
    assert toy.outcomes[one].text == answer(LONG + "x")[0]
    assert toy.outcomes[two].text == answer(LONG + "y")[0]


def test_job_that_waits_goes_on_when_the_one_it_waits_for_is_cancelled() -> None:
    toy = Toy()
    one, two = toy.submit(LONG + "x"), toy.submit(LONG + "y")
    toy.step(2)  # 128 of 200 tokens
    toy.batcher.cancel(one)
    toy.finish()
    finish = toy.outcomes[two].finish
    assert finish
    assert finish.cached_tokens == 128
    assert toy.outcomes[two].text == answer(LONG + "y")[0]
    assert not toy.outcomes[one].is_over


@pytest.mark.parametrize("broken", ["restores", "saves"])
def test_copy_that_fails_costs_time_only(broken: str) -> None:
    settings: dict[str, Any] = {broken: False}
    toy = Toy(**settings)
    numbers = [toy.submit(LONG + last) for last in "xyz"]
    toy.finish()
    assert [toy.outcomes[number].text for number in numbers] == [answer(LONG + last)[0] for last in "xyz"]


# Growth


@pytest.mark.parametrize("broken", ["", "restores", "saves"], ids=["whole", "cannot-restore", "cannot-save"])
def test_growth_in_mid_answer_changes_no_answer(broken: str) -> None:
    settings: dict[str, Any] = {broken: False} if broken else {}
    toy = Toy(first=1, most=8, **settings)
    prompts = [f"{number} prompt" * 3 for number in range(6)]
    numbers = []
    for prompt in prompts:
        numbers.append(toy.submit(prompt))
        toy.step(3)
    toy.finish()
    assert len(toy.made) > 2
    assert [toy.outcomes[number].text for number in numbers] == [answer(prompt)[0] for prompt in prompts]


def test_jobs_beyond_what_memory_holds_wait_their_turn() -> None:
    toy = Toy(first=2, most=8, memory_for=2 * 4096)
    prompts = [f"{number} prompt" for number in range(6)]
    numbers = [toy.submit(prompt) for prompt in prompts]
    ended: list[int] = []
    while toy.batcher.has_work:
        toy.step()
        ended += [number for number in numbers if toy.outcomes[number].is_over and number not in ended]
    assert [toy.outcomes[number].text for number in numbers] == [answer(prompt)[0] for prompt in prompts]
    assert set(ended[:2]) <= {1, 2, 3}


def test_jobs_beyond_the_most_wait_their_turn() -> None:
    toy = Toy(first=2, most=2)
    prompts = [f"{number} prompt" for number in range(6)]
    numbers = [toy.submit(prompt) for prompt in prompts]
    toy.finish()
    assert [toy.outcomes[number].text for number in numbers] == [answer(prompt)[0] for prompt in prompts]
    assert max(len(batch) for batch in batches_of(toy)) == 2


def test_job_that_waits_for_a_beginning_keeps_its_turn() -> None:
    toy = Toy(first=2, most=2)
    toy.submit(LONG + "x", num_predict=1)
    waits = toy.submit(LONG + "y", num_predict=3)
    toy.submit("xyzzy")  # says 56 letters
    last = toy.submit("another", num_predict=3)
    while not toy.outcomes[waits].is_over:
        assert not toy.outcomes[last].is_over
        toy.step()


# Shift


@pytest.mark.parametrize("job", [{}, {"num_keep": 0}, {"num_keep": -1}, {"num_keep": 9}], ids=str)
@pytest.mark.parametrize("num_ctx", [8, 20])
def test_full_context_drops_its_older_half_and_goes_on(num_ctx: int, job: dict[str, Any]) -> None:
    toy = Toy()
    for prompt in ("hello", "prompt", "abc"):
        outcome = toy.run(prompt, num_ctx=num_ctx, num_predict=70, **job)
        assert outcome.finish
        assert (outcome.text, outcome.finish.reason) == answer(prompt, num_ctx=num_ctx, num_predict=70, **job)
    assert [entry for entry in toy.context.log if entry[0] == "shift"]


@pytest.mark.parametrize("num_ctx", [2, 3, 4, 5])
def test_tiny_context_answers_without_harm(num_ctx: int) -> None:
    toy = Toy()
    outcome = toy.run("a", num_ctx=num_ctx, num_predict=20)
    assert outcome.finish
    assert outcome.finish.prompt_tokens == 1
    assert toy.run("hello").text == answer("hello")[0]


@pytest.mark.parametrize(
    ("can_shift", "shift"), [pytest.param(True, False, id="not-wanted"), pytest.param(False, True, id="not-possible")]
)
def test_full_context_without_shift_ends_with_length(can_shift: bool, shift: bool) -> None:
    prompt = "prompt"
    outcome = Toy(can_shift=can_shift).run(prompt, num_ctx=12, shift=shift, stop=("never",))
    assert outcome.finish
    assert (outcome.text, outcome.finish.reason) == answer(prompt, num_ctx=12, shift=False)
    assert outcome.finish.reason == "length"


def test_shifted_sequence_is_no_beginning_for_anybody() -> None:
    toy = Toy()
    toy.run("prompt", num_ctx=12, num_predict=30)
    assert [entry for entry in toy.context.log if entry[0] == "shift"]
    after = toy.run("prompt more")
    assert after.text == answer("prompt more")[0]
    assert after.finish
    assert after.finish.cached_tokens == 0


# Going round in circles


class Stuck(ToySampler):
    """Draws `a` for ever, but every `every`-th time `b`."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every = every
        self.drawn = 0

    def draw(self, _context: ToyContext, _index: int) -> int:
        self.drawn += 1
        return ord("b") if self.drawn % self.every == 0 else ord("a")


def test_answer_that_repeats_one_token_is_given_up_after_what_it_said() -> None:
    toy = Toy(make_sampler=lambda: Stuck(every=10**9))
    stuck = toy.submit("hello", num_predict=-1)
    toy.finish()
    outcome = toy.outcomes[stuck]
    assert outcome.text == "a" * 101
    assert outcome.refusal == JobFailed(stuck, "prediction aborted, token repeat limit reached")
    again = toy.run("hello" + "a" * 60, num_predict=1)
    assert again.finish
    assert again.finish.cached_tokens == 64, "what was computed is sound, and kept"


def test_answer_that_repeats_itself_less_goes_on() -> None:
    outcome = Toy(make_sampler=lambda: Stuck(every=101)).run("hello", num_predict=500)
    assert outcome.finish
    assert outcome.finish.eval_tokens == 500


# Leaving


def test_cancel_in_mid_prefill_frees_the_slot_within_a_step() -> None:
    toy = Toy(first=1, most=1)
    gone, next_one = toy.submit(LONG), toy.submit("hello", num_predict=1)
    toy.step()
    toy.batcher.cancel(gone)
    toy.step(2)
    assert toy.outcomes[next_one].is_over
    assert toy.outcomes[next_one].text == answer("hello", num_predict=1)[0]
    assert not toy.outcomes[gone].is_over
    assert sum(count for batch in batches_of(toy) for _, _, count in batch) == 64 + 5


def test_cancel_parks_what_was_computed() -> None:
    toy = Toy()
    toy.submit(LONG)
    toy.step(2)
    toy.batcher.cancel(1)
    outcome = toy.run(LONG)
    assert outcome.text == answer(LONG)[0]
    assert outcome.finish
    assert outcome.finish.cached_tokens == 128


def test_cancel_of_a_waiting_job_takes_it_out() -> None:
    toy = Toy(first=1, most=1)
    toy.submit("hello")
    toy.submit("other")
    toy.batcher.cancel(2)
    toy.finish()
    assert toy.outcomes[1].text == answer("hello")[0]
    assert not toy.outcomes[2].is_over


@pytest.mark.parametrize("number", [1, 77], ids=["over", "unknown"])
def test_cancel_of_a_job_that_is_not_there_does_nothing(number: int) -> None:
    toy = Toy()
    toy.run("hello")
    toy.batcher.cancel(number)
    assert not toy.batcher.has_work


# Shares


def test_prompts_get_equal_shares_and_what_short_ones_leave() -> None:
    toy = Toy(num_batch=60)
    for prompt in ("abcdefghijk", "B" * 100, "C" * 100):
        toy.submit(prompt)
    toy.step()
    assert sorted(count for _, _, count in batches_of(toy)[0]) == [10, 25, 25]


def test_prompt_fills_the_whole_batch_while_nobody_draws() -> None:
    toy = Toy(num_batch=50)
    toy.submit("x" * 200)
    toy.step(2)
    assert batches_of(toy) == [[(0, 0, 50)], [(0, 50, 50)]]


def test_prompt_makes_running_answers_wait_a_bounded_time_only() -> None:
    clock = [0.0]

    def pass_time() -> None:  # 1 ms a token of the batch
        clock[0] += sum(count for _, _, count in toy.context.batches[-1]) / 1000

    toy = Toy(num_batch=400, cells=4096, clock_s=lambda: clock[0], on_decode=pass_time)
    toy.submit("y" * 317, num_predict=200)
    toy.step(5)
    toy.context.batches.clear()
    toy.submit("z" * 2000, num_ctx=4096, num_predict=1)
    toy.step(10)
    sizes = [sum(count for *_, count in batch) for batch in batches_of(toy)]
    assert all(60 <= size <= 100 for size in sizes)  # a gap of 80 ms
    assert all(sum(count == 1 for *_, count in batch) == 1 for batch in batches_of(toy))


def test_prompt_advances_beside_running_answers_however_slow_the_machine_is() -> None:
    clock = [0.0]

    def pass_time() -> None:
        clock[0] += sum(count for _, _, count in toy.context.batches[-1])  # a second a token

    toy = Toy(num_batch=400, cells=4096, clock_s=lambda: clock[0], on_decode=pass_time)
    toy.submit("y" * 317, num_predict=200)
    toy.step(5)
    toy.context.batches.clear()
    toy.submit("z" * 2000, num_ctx=4096, num_predict=1)
    toy.step()
    assert sorted(count for *_, count in batches_of(toy)[0]) == [1, 8]


# Failing


def test_decode_that_fails_fails_all_running_jobs_and_the_next_one_works() -> None:
    toy = Toy(first=2, most=2)
    one, two, waiting = toy.submit("hello"), toy.submit(LONG), toy.submit("waiting")
    toy.step(2)
    toy.context.failures = 1
    toy.finish()
    for number in (one, two):
        refusal = toy.outcomes[number].refusal
        assert isinstance(refusal, JobFailed)
        assert "llama_decode gave -3" in refusal.reason
    assert toy.outcomes[waiting].text == answer("waiting")[0]
    again = toy.run(LONG)
    assert again.text == answer(LONG)[0]
    assert again.finish
    assert again.finish.cached_tokens == 0


def test_decode_that_fails_keeps_what_was_parked() -> None:
    toy = Toy()
    said = toy.run(LONG).text
    toy.submit("hello")
    toy.context.failures = 1
    toy.finish()
    outcome = toy.run(LONG + said + "x")
    assert outcome.text == answer(LONG + said + "x")[0]
    assert outcome.finish
    assert outcome.finish.cached_tokens == len(LONG + said)
