"""Drafts on the batcher: an answer is what it is without them, whatever was guessed, and takes fewer steps where it was so."""

from random import Random
from typing import Any

import pytest

from corral.core.types import Grammar, Thought
from corral.engine.llamacpp.worker.batch.generation import STUCK
from corral.engine.llamacpp.worker.speculation.speculation import Speculation
from corral.wire.link import Gain, JobFailed, StepFrame
from tests.support.drafts import AnyDrafts
from tests.support.toy_engine import Toy, ToyContext, ToyWords, answer

LONG = next(prompt for prompt in map(str, range(1000)) if len(answer(prompt)[0]) > 60)
SAID = answer(LONG)[0]
NAMES = Grammar(text='start: "the name is " /[a-z]{3}/ " and the age is " /[0-9]/ ", which is all"')


def toy_of(drafts: AnyDrafts | None = None, **more: Any) -> Toy:
    return Toy(speculation=drafts or AnyDrafts(), **more)


def gains(toy: Toy) -> list[Gain]:
    """Of all steps until nothing is left to do."""
    found: list[Gain] = []
    while toy.batcher.has_work:
        for frame in toy.batcher.step():
            assert isinstance(frame, StepFrame)
            found += frame.gains
    return found


def steps_of(toy: Toy) -> int:
    return sum(len(made.batches) for made in toy.made)


@pytest.mark.parametrize("right", [0, 1, 5, 100])
def test_answer_is_the_same_whatever_was_guessed(right: int) -> None:
    outcome = toy_of(AnyDrafts(right=right)).run(LONG)
    assert outcome.finish
    assert (outcome.text, outcome.finish.reason) == answer(LONG)
    assert outcome.finish.eval_tokens == len(SAID) + 1


def test_right_guesses_save_steps_and_are_counted() -> None:
    toy, plain = toy_of(AnyDrafts(most=4)), Toy()
    finish = toy.run(LONG).finish
    plain.run(LONG)
    assert steps_of(toy) <= steps_of(plain) / 4
    assert finish
    assert finish.confirmed_tokens >= len(SAID) * 0.7
    assert finish.draft_tokens >= finish.confirmed_tokens


def test_each_token_is_a_gain_of_its_own() -> None:
    toy = toy_of()
    toy.submit(LONG)
    assert [gain.text for gain in gains(toy)] == [*SAID, ""]


def test_first_token_is_drawn_without_a_draft() -> None:
    toy = toy_of()
    toy.submit(LONG * 5)
    toy.step(3)
    assert toy.context.batches[1] == [(0, 5 * len(LONG) - 1, 1)]
    assert toy.context.batches[2][0][2] > 1


def test_memory_holds_what_was_said_and_nothing_else_after_each_step() -> None:
    drafts = AnyDrafts(right=2, most=6)
    toy = toy_of(drafts)
    number = toy.submit(LONG)
    toy.step(3)
    while not toy.outcomes[number].is_over:
        said = LONG + toy.outcomes[number].text
        held = bytes(toy.context.kv[0]).decode()
        assert said[:-1] == held
        toy.step()


def test_what_was_said_is_reused_and_what_was_wrongly_guessed_is_not() -> None:
    toy = toy_of(AnyDrafts(right=1, most=5))
    text = toy.run(LONG, num_predict=20).text
    after = toy.run(LONG + text + "!")
    assert after.text == answer(LONG + text + "!")[0]
    assert after.finish
    assert after.finish.cached_tokens == len(LONG + text) - 1


@pytest.mark.parametrize("num_predict", [0, 1, 2, 3, 9])
def test_num_predict_bounds_drafts_too(num_predict: int) -> None:
    toy = toy_of()
    outcome = toy.run(LONG, num_predict=num_predict)
    assert outcome.finish
    assert (outcome.text, outcome.finish.reason) == answer(LONG, num_predict=num_predict)
    assert outcome.finish.eval_tokens == num_predict
    assert outcome.finish.draft_tokens <= max(0, num_predict - 2)


@pytest.mark.parametrize("right", [0, 3, 100])
@pytest.mark.parametrize("begin", [3, 4, 5, 6, 7])
def test_stop_string_within_a_draft_ends_the_answer_before_itself(begin: int, right: int) -> None:
    stop = SAID[begin : begin + 3]
    toy = toy_of(AnyDrafts(right=right))
    outcome = toy.run(LONG, stop=(stop,))
    assert outcome.text == answer(LONG, stop=(stop,))[0]
    assert outcome.finish
    assert outcome.finish.stop_text == stop
    assert outcome.finish.eval_tokens == SAID.index(stop) + 3


@pytest.mark.parametrize("shift", [True, False])
@pytest.mark.parametrize("right", [0, 2, 100])
@pytest.mark.parametrize("size", [20, 21, 24, 37])
def test_full_context_is_shifted_as_without_drafts(size: int, right: int, shift: bool) -> None:
    prompt = LONG + "x" * 10
    told: dict[str, Any] = {"num_ctx": size, "shift": shift, "num_predict": 200}
    outcome = toy_of(AnyDrafts(right=right)).run(prompt, **told)
    assert outcome.finish
    assert (outcome.text, outcome.finish.reason) == answer(prompt, **told)


@pytest.mark.parametrize("draft", [0, 1, 3, -1])
def test_job_bounds_its_own_drafts(draft: int) -> None:
    toy = toy_of()
    number = toy.submit(LONG, draft=draft)
    toy.finish()
    longest = max(count for batch in toy.context.batches[len(LONG) // 64 + 1 :] for _, _, count in batch) - 1
    assert longest == (toy.context.most_logits - 1 if draft < 0 else draft)
    finish = toy.outcomes[number].finish
    assert finish
    assert bool(finish.draft_tokens) == (draft != 0)


def test_logprobs_are_those_of_each_token() -> None:
    toy, plain = toy_of(AnyDrafts(right=3, most=5)), Toy()
    for each in (toy, plain):
        each.submit(LONG, logprobs=1)
    drafted, walked = ([logprob.piece for gain in gains(each) for logprob in gain.logprobs] for each in (toy, plain))
    assert drafted == walked


@pytest.mark.parametrize("jump", [True, False])
@pytest.mark.parametrize("seed", range(12))
def test_grammar_and_thought_have_their_say_in_a_draft(seed: int, jump: bool) -> None:
    random = Random(seed)
    job: dict[str, Any] = {"jump": jump, "num_predict": random.choice([-1, 12])}
    if random.random() < 0.7:
        job["grammars"] = (NAMES,)
    if random.random() < 0.5:
        job["thought"] = Thought(open="<t>", close="</t>", is_open=random.random() < 0.5, budget=random.choice([-1, 4]))
    plain = Toy().run(LONG, **job)
    outcome = toy_of(AnyDrafts(random)).run(LONG, **job)
    assert outcome.text == plain.text
    assert outcome.finish
    assert plain.finish
    assert outcome.finish.eval_tokens == plain.finish.eval_tokens
    assert outcome.finish.thought_tokens == plain.finish.thought_tokens


class Dictation(AnyDrafts):
    """Guesses what the grammar will dictate."""

    def _guessed(self, job: Any, size: int, right: int) -> list[int]:
        said = bytes(job.tokens[job.prompt_tokens :]).decode()
        known = "the name is "
        end = said.find(" and the age is ")
        rest = known[len(said) :] if known.startswith(said) else said and (" and the age is " if end < 0 else "")
        return list((rest or "zz").encode())[:size]


def test_tokens_that_a_grammar_dictates_may_confirm_a_draft() -> None:
    toy, plain = toy_of(Dictation()), Toy()
    assert toy.run(LONG, grammars=(NAMES,)).text == plain.run(LONG, grammars=(NAMES,)).text
    assert steps_of(toy) <= steps_of(plain)


def test_answer_that_repeats_a_token_without_end_is_given_up_at_the_same_token() -> None:
    def always(_: object) -> int:
        return ord("a")

    class Same(AnyDrafts):
        def _guessed(self, job: Any, size: int, right: int) -> list[int]:
            return [ord("a")] * size

    toy, plain = Toy(speculation=Same(), model=always), Toy(model=always)
    texts = []
    for each in (toy, plain):
        outcome = each.run("aaa")
        assert outcome.refusal == JobFailed(1, STUCK)
        texts.append(outcome.text)
    assert texts[0] == texts[1]


def test_streams_have_drafts_of_their_own_and_no_more_logits_than_there_are() -> None:
    toy = toy_of(spare_logits=6)
    prompts = [f"{number} prompt" for number in range(4)]
    numbers = [toy.submit(prompt) for prompt in prompts]
    toy.finish()
    assert [toy.outcomes[number].text for number in numbers] == [answer(prompt)[0] for prompt in prompts]


def test_no_draft_while_a_prompt_is_read() -> None:
    toy = toy_of()
    toy.submit(LONG)
    toy.step(3)
    toy.submit("x" * 300)
    toy.context.batches.clear()
    toy.step(4)
    assert [batch[0][2] for batch in toy.context.batches[:4]] == [1, 1, 1, 1]


def test_memory_that_cannot_forget_a_draft_computes_again_and_drafts_no_more() -> None:
    drafts = AnyDrafts(right=1, most=4)
    toy = toy_of(drafts, cuts=False)
    outcome = toy.run(LONG)
    assert outcome.text == SAID
    assert drafts.is_off
    assert [count for batch in toy.context.batches for _, position, count in batch if position == 0] == [1, 4]


def test_model_that_keeps_a_state_is_never_guessed() -> None:
    toy = Toy(can_drop=False, speculation=None)
    assert toy.run("ab" * 30).text == answer("ab" * 30)[0]


def test_failure_with_a_draft_loses_that_job_alone() -> None:
    toy = toy_of()
    number = toy.submit(LONG)
    toy.step(3)
    toy.context.failures = 1
    toy.finish()
    assert isinstance(toy.outcomes[number].refusal, JobFailed)
    assert toy.run(LONG).text == SAID


class Clock:
    """Each computed batch takes as long as a CPU's tiles take."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.toy: Toy | None = None

    def __call__(self) -> float:
        return self.now_s

    def on_decode(self) -> None:
        assert self.toy
        rows = sum(count for _, _, count in self.toy.context.batches[-1])
        self.now_s += 0.005 * (rows // 4 * 1.4 + rows % 4)


def copied(tokens: Any) -> int:
    """A model that repeats its prompt, to 60 tokens."""
    held = bytes(tokens)
    size = held.index(b"|") + 1
    return held[len(held) - size] if len(held) < size + 60 else 0


def real(**more: Any) -> tuple[Toy, Clock]:
    clock = Clock()
    toy = Toy(speculation=Speculation(), clock_s=clock, on_decode=clock.on_decode, **more)
    clock.toy = toy
    return toy, clock


def test_copying_is_quicker_by_lookup() -> None:
    prompt = "".join(Random(1).choices("abcdefghijklmnopqrstuvwxyz", k=80)) + "|"
    toy, clock = real(model=copied)
    toy.run(prompt)  # what steps take is not known before
    clock.now_s = 0.0
    outcome = toy.run(prompt)
    assert outcome.text == prompt[:60]
    drafted_s, clock.now_s = clock.now_s, 0.0
    plain = toy.run(prompt, draft=0)
    assert plain.text == outcome.text
    assert drafted_s < clock.now_s / 1.5
    assert outcome.finish
    assert outcome.finish.confirmed_tokens > 30


def test_free_text_costs_nothing_by_lookup() -> None:
    prompt = LONG
    toy, clock = real()
    for number in range(12):
        toy.run(f"{number}{prompt}")
    clock.now_s, drafted_s = 0.0, 0.0
    for number in range(20, 32):
        toy.run(f"{number}{prompt}")
    drafted_s, clock.now_s = clock.now_s, 0.0
    for number in range(20, 32):
        toy.run(f"{number}{prompt}", draft=0)
    assert drafted_s < 1.06 * clock.now_s


def test_context_is_told_as_it_is() -> None:
    drafts = AnyDrafts(right=0)
    toy = toy_of(drafts, is_even=False, spare_logits=3)
    toy.run(LONG)
    context: ToyContext = toy.context
    assert drafts.told[-1] == (1, context.sequences + 3, context.cells, False)
    assert drafts.learned[-1] > 0


def test_words_are_read_as_ever() -> None:
    words = ToyWords(adds_bos=True)
    assert toy_of(words=words, adds_bos=True).run(LONG).text == answer(LONG, adds_bos=True)[0]
