"""Answers that a grammar or a thought has a say in, on the batcher: what is computed together, and what goes on as ever."""

import json

import pytest

from corral.core.types import Grammar, Thought
from corral.wire.link import JobFailed
from tests.support.toy_engine import BOS, END, Toy, ToyWords, answer

NAMES = Grammar(text='start: "the name is " /[a-z]{3}/ " and the age is " /[0-9]/ ", which is all"')
FIXED = Grammar(text='start: "one and only"')
LOOP = Grammar(text='start: "ab" start')
LONG = next(prompt for prompt in map(str, range(1000)) if len(answer(prompt)[0]) > 12)


def steps_of(toy: Toy) -> list[int]:
    """Tokens in each batch so far."""
    return [sum(count for _, _, count in batch) for made in toy.made for batch in made.batches]


@pytest.mark.parametrize("jump", [True, False])
def test_answer_meets_its_grammar(jump: bool) -> None:
    outcome = Toy().run("hello", grammars=(NAMES,), jump=jump)
    assert outcome.text.startswith("the name is ")
    assert outcome.text.endswith(", which is all")
    assert outcome.finish
    assert (outcome.finish.reason, outcome.finish.eval_tokens) == ("stop", len(outcome.text))


def test_answer_is_the_same_with_and_without_jumps() -> None:
    jumped, walked = [Toy().run("hello", grammars=(NAMES,), jump=jump) for jump in (True, False)]
    assert jumped.text == walked.text
    assert jumped.finish
    assert walked.finish
    assert jumped.finish.eval_tokens == walked.finish.eval_tokens


def test_what_is_dictated_is_computed_with_the_token_before_it() -> None:
    toy, walking = Toy(), Toy()
    text = toy.run("hello", grammars=(NAMES,)).text
    walking.run("hello", grammars=(NAMES,), jump=False)
    assert len(steps_of(walking)) == 1 + len(text)  # the prompt but its last token; then a step a token
    drawn = 3 + 1
    assert len(steps_of(toy)) <= 1 + 1 + drawn
    assert max(steps_of(toy)) >= len(" and the age is ")


def test_others_draw_in_the_step_of_a_jump() -> None:
    toy = Toy()
    free = toy.submit("free", num_predict=30)
    bound = toy.submit("bound", grammars=(NAMES,))
    toy.finish()
    assert toy.outcomes[free].text == answer("free", num_predict=30)[0]
    assert toy.outcomes[bound].text.endswith("which is all")


def test_jump_that_is_larger_than_a_batch_is_read_in_pieces() -> None:
    long = "x" * 300
    toy = Toy(num_batch=64)
    assert toy.run("hello", grammars=(Grammar(text=f'start: "{long}" /[a-c]/'),)).text[:-1] == long
    assert max(steps_of(toy)) <= 64 + 4


def test_many_jumps_share_a_batch_without_overflowing_it() -> None:
    toy = Toy(num_batch=64, most=8, first=8)
    text = "y" * 60
    numbers = [
        toy.submit(f"{at} hello", grammars=(Grammar(text=f'start: /[a-c]/ "{text}" /[a-c]/ "{text}"'),)) for at in range(8)
    ]
    toy.finish()
    assert {len(toy.outcomes[number].text) for number in numbers} == {122}


@pytest.mark.parametrize("limit", [0, 1, 5, 12, 13, 100])
@pytest.mark.parametrize("jump", [True, False])
def test_num_predict_cuts_what_is_dictated(limit: int, jump: bool) -> None:
    outcome = Toy().run("hello", grammars=(FIXED,), num_predict=limit, jump=jump)
    assert outcome.text == "one and only"[:limit]
    assert outcome.finish
    assert outcome.finish.reason == ("stop" if limit >= 12 else "length")


@pytest.mark.parametrize("jump", [True, False])
def test_stop_string_in_what_is_dictated_ends_the_answer(jump: bool) -> None:
    outcome = Toy().run("hello", grammars=(FIXED,), stop=("d o",), jump=jump)
    assert outcome.text == "one an"
    assert outcome.finish
    assert outcome.finish.reason == "stop"


@pytest.mark.parametrize("jump", [True, False])
def test_full_context_ends_or_shifts_in_what_is_dictated(jump: bool) -> None:
    long = Grammar(text=f'start: "{"z" * 60}"')
    ended = Toy().run("hello", grammars=(long,), num_ctx=32, shift=False, jump=jump)
    assert ended.finish
    assert (ended.finish.reason, len(ended.text)) == ("length", 32 - len("hello"))
    shifted = Toy().run("hello", grammars=(long,), num_ctx=32, jump=jump)
    assert shifted.text == "z" * 60


def test_jumps_leave_what_was_computed_to_the_next_prompt() -> None:
    toy = Toy()
    text = toy.run("hello" * 20, grammars=(NAMES,)).text
    again = toy.run("hello" * 20 + text + " and more")
    assert again.finish
    assert again.finish.cached_tokens == 100 + len(text) - len(", which is all") - 1  # the last ones were never computed


def test_job_that_is_cancelled_while_its_grammar_is_compiled_leaves_nothing() -> None:
    toy = Toy()
    number = toy.submit("hello", grammars=(NAMES,))
    assert toy.batcher.has_work
    toy.batcher.cancel(number)
    assert not toy.batcher.has_work
    toy.finish()


def test_job_that_is_cancelled_in_a_jump_is_parked() -> None:
    toy = Toy()
    number = toy.submit("hello", grammars=(NAMES,))
    while not toy.outcomes[number].text:
        toy.step()
    toy.batcher.cancel(number)
    toy.finish()
    assert toy.run("hello").text == answer("hello")[0]


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        pytest.param(Grammar(text="start: nothing"), "nothing", id="lark"),
        pytest.param(Grammar(text='start: %json {"type": "array", "uniqueItems": true}'), "uniqueItems", id="schema"),
        pytest.param(Grammar(text="root ::= nothing", kind="gbnf"), "'nothing' not found", id="gbnf"),
        pytest.param(Grammar(text="start: /(?=a)/"), "look-around", id="regex"),
    ],
)
def test_grammar_that_is_refused_fails_its_job_alone(grammar: Grammar, reason: str) -> None:
    toy = Toy()
    bad, good = toy.submit("bad", grammars=(grammar,)), toy.submit("good")
    toy.finish()
    refusal = toy.outcomes[bad].refusal
    assert isinstance(refusal, JobFailed)
    assert refusal.is_asked_wrong
    assert reason in refusal.reason
    assert "\n" not in refusal.reason
    assert toy.outcomes[good].text == answer("good")[0]


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        pytest.param(Grammar(text='start: "a" T\nT: /[a-z]+/ & /[0-9]+/'), "nothing meets it", id="dead end"),
        pytest.param(Grammar(text='start: start "a"'), "nothing meets it", id="no beginning"),
    ],
)
def test_grammar_that_cannot_go_on_ends_its_job_alone(grammar: Grammar, reason: str) -> None:
    toy = Toy()
    bad, good = toy.submit("bad", grammars=(grammar,)), toy.submit("good")
    toy.finish()
    refusal = toy.outcomes[bad].refusal
    assert isinstance(refusal, JobFailed)
    assert refusal.is_asked_wrong
    assert reason in refusal.reason
    assert toy.outcomes[good].text == answer("good")[0]


def test_grammar_that_dictates_without_end_is_too_much_work() -> None:
    toy = Toy()
    number = toy.submit("hello", grammars=(LOOP,))
    toy.finish()
    refusal = toy.outcomes[number].refusal
    assert isinstance(refusal, JobFailed)
    assert "too much work" in refusal.reason


def test_one_token_for_ever_is_no_error_where_it_is_dictated() -> None:
    outcome = Toy().run("hello", grammars=(Grammar(text=f'start: "{"a" * 300}"'),))
    assert outcome.text == "a" * 300


@pytest.mark.parametrize("draws_twice", [True, False])
@pytest.mark.parametrize("jump", [True, False])
def test_penalties_see_each_token_of_the_answer_once(jump: bool, draws_twice: bool) -> None:
    toy = Toy()
    number = toy.submit("hello", grammars=(NAMES,), jump=jump)
    while not toy.samplers:
        toy.step()
    toy.samplers[0].draws_twice = draws_twice
    toy.finish()
    assert bytes(toy.samplers[0].seen).decode() == "hello" + toy.outcomes[number].text


def test_logprobs_come_for_each_token_also_of_what_is_dictated() -> None:
    toy = Toy()
    toy.submit("hello", grammars=(NAMES,), logprobs=1)
    toy.finish()
    assert max(steps_of(toy)) <= len("hello")


# Thoughts


def test_thought_is_counted_and_its_budget_holds() -> None:
    thought = Thought(open="<think>", close="</think>", is_open=True, budget=4)
    outcome = Toy().run(LONG, thought=thought)
    free = answer(LONG)[0]
    assert outcome.text.startswith(free[:4] + "</think>")
    assert outcome.finish
    assert outcome.finish.thought_tokens == 4 + len("</think>")


def test_thought_then_grammar() -> None:
    thought = Thought(open="<think>", close="</think>", is_open=True, budget=4)
    outcome = Toy().run(LONG, thought=thought, grammars=(FIXED,))
    thought_text, said = outcome.text.split("</think>")
    assert (thought_text, said.lstrip()) == (answer(LONG)[0][:4], "one and only")


def test_thought_that_would_end_the_answer_is_closed_before_a_grammar() -> None:
    prompt = next(prompt for prompt in map(str, range(1000)) if 2 < len(answer(prompt)[0]) < 20)
    free = answer(prompt)[0]
    thought = Thought(open="<think>", close="</think>", is_open=True)
    toy = Toy()
    outcome = toy.run(prompt, thought=thought, grammars=(FIXED,))
    thought_text, said = outcome.text.split("</think>")
    assert (thought_text, said.lstrip()) == (free, "one and only")
    assert outcome.finish
    assert outcome.finish.thought_tokens == len(free) + len("</think>")
    assert bytes(toy.samplers[0].seen).decode() == prompt + outcome.text


def test_answer_cut_short_in_dictated_thought_counts_no_more_than_was_said() -> None:
    thought = Thought(open="<think>", close="</think>", is_open=True, budget=2)
    outcome = Toy().run(LONG, thought=thought, num_predict=4)
    assert outcome.finish
    assert (outcome.finish.eval_tokens, outcome.finish.thought_tokens) == (4, 4)


# Markers and control tokens


def test_marker_binds_what_follows_it() -> None:
    marker = answer(LONG)[0][2:4]
    outcome = Toy().run(LONG, grammars=(Grammar(after=marker, text='start: "(" /[0-9]/ ")"'),))
    assert outcome.text[2:5] == marker + "("
    assert outcome.text[6] == ")"
    assert len(outcome.text) > 7


class NamedWords(ToyWords):
    """BOS has a name, and is nothing in a text."""

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> list[int]:
        return [BOS] if text == "<s>" else super().tokenize(text, add_special=add_special)

    def piece(self, token: int) -> bytes:
        return b"" if token == BOS else super().piece(token)

    def spelled(self, token: int) -> bytes:
        return b"<s>" if token == BOS else super().spelled(token)


@pytest.mark.parametrize(("spelled", "text"), [((), "ab"), (("<s>",), "a<s>b"), (("<end>", "<s>", "ab"), "a<s>b")])
def test_control_tokens_are_text_where_the_job_names_them(spelled: tuple[str, ...], text: str) -> None:
    tokens = iter([ord("a"), BOS, ord("b"), END])
    toy = Toy(words=NamedWords(), model=lambda _held: next(tokens))
    assert toy.run("hello", spelled=spelled).text == text


# Answers that repeat one token without end


def test_string_of_json_that_never_ends_is_ended() -> None:
    grammar = Grammar(text='start: "[" %json {"type": "string"} "]"', is_json=True)
    toy = Toy(model=lambda _held: ord("a"))
    outcome = toy.run("hello", grammars=(grammar,), num_predict=-1)
    assert json.loads(outcome.text) == ["a" * 100]
    assert outcome.finish
    assert outcome.finish.reason == "stop"
    assert bytes(toy.samplers[0].seen).decode() == "hello" + outcome.text


def test_string_that_may_not_end_yet_goes_on_otherwise() -> None:
    grammar = Grammar(text='start: %json {"type": "string", "minLength": 250}', is_json=True)
    text = json.loads(Toy(model=lambda _held: ord("a")).run("hello", grammars=(grammar,), num_predict=-1).text)
    assert (text[:100], text[101:201]) == ("a" * 100, "a" * 100)
    assert "a" not in (text[100], text[201])
    assert len(text) >= 250


def test_other_bound_answers_go_on_otherwise() -> None:
    outcome = Toy(model=lambda _held: ord("a")).run("hello", grammars=(Grammar(text="start: /[ab]{250}/"),), num_predict=-1)
    assert outcome.text == "a" * 100 + "b" + "a" * 100 + "b" + "a" * 48


def test_answer_that_keeps_coming_back_to_its_loop_is_given_up() -> None:
    outcome = Toy(model=lambda _held: ord("a")).run("hello", grammars=(Grammar(text="start: /[ab]+c/"),), num_predict=-1)
    assert isinstance(outcome.refusal, JobFailed)
    assert outcome.refusal.reason == "prediction aborted, token repeat limit reached"
    assert outcome.text == ("a" * 100 + "b") * 8 + "a" * 101
