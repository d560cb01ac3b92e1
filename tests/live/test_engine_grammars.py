"""Answers that a grammar binds, thoughts before them and markers in them, by a real model and by made ones."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from corral.core.errors import BadRequestError
from corral.core.types import Grammar, Sampling, Thought, TokenLogprob
from corral.engine.llamacpp import LlamaCppEngine
from tests.support.gguf_files import write_random, write_scripted
from tests.support.live_engine import Answer, ask, job_of, launched

PROMPT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "full_name_of_the_person": {"type": "string", "minLength": 1, "maxLength": 12},
        "age_of_the_person_in_years": {"type": "integer", "minimum": 0, "maximum": 150},
        "hobbies": {"type": "array", "items": {"enum": ["reading", "swimming", "chess"]}, "maxItems": 2},
        "address": {
            "anyOf": [
                {"type": "null"},
                {"type": "object", "properties": {"city": {"type": "string", "maxLength": 8}}, "additionalProperties": False},
            ]
        },
    },
    "required": ["full_name_of_the_person", "age_of_the_person_in_years", "hobbies", "address"],
    "additionalProperties": False,
    "x-guidance": {"whitespace_flexible": False},
}
PERSON = Grammar(text=f"start: %json {json.dumps(SCHEMA)}")
THINK = Thought(open="<think>", close="</think>", is_open=True)


@pytest.fixture
async def model(smollm2: Path) -> AsyncIterator[LlamaCppEngine]:
    async with launched(smollm2, n_ctx=1024, n_parallel=8, num_thread=0) as engine:
        yield engine


async def answer(engine: LlamaCppEngine, text: str, **more: Any) -> Answer:
    return await ask(engine, PROMPT.format(text), **({"num_ctx": 1024, "num_predict": 300} | more))


def is_person(text: str) -> bool:
    person = json.loads(text)
    place = person["address"]
    return (
        list(person) == SCHEMA["required"]
        and 1 <= len(person["full_name_of_the_person"]) <= 12
        and 0 <= person["age_of_the_person_in_years"] <= 150
        and type(person["age_of_the_person_in_years"]) is int
        and set(person["hobbies"]) <= {"reading", "swimming", "chess"}
        and len(person["hobbies"]) <= 2
        and (place is None or set(place) <= {"city"})
    )


async def test_answers_of_a_hot_model_are_valid(model: LlamaCppEngine) -> None:
    answers = list[Answer]()

    async def one(seed: int) -> None:
        hot = Sampling(temperature=1.0, seed=seed, top_k=0, top_p=1.0)
        jump = seed % 4 > 0
        answers.append(await answer(model, f"Invent a person, number {seed}.", grammars=(PERSON,), sampling=hot, jump=jump))

    async with asyncio.TaskGroup() as group:
        for seed in range(16):
            group.create_task(one(seed))
    assert {(given.finish.reason, is_person(given.text)) for given in answers} == {("stop", True)}
    assert len({given.text for given in answers}) > 8


async def test_answer_is_the_same_with_and_without_jumps(model: LlamaCppEngine) -> None:
    jumped, walked = [
        await answer(model, "Describe Ann, who is 31 and plays chess.", grammars=(PERSON,), jump=jump) for jump in (True, False)
    ]
    assert jumped.text == walked.text
    assert jumped.finish.eval_tokens == walked.finish.eval_tokens


async def test_thought_comes_before_the_schema(model: LlamaCppEngine) -> None:
    thought = Thought(open="<think>", close="</think>", is_open=True, budget=20)
    given = await answer(model, "Describe Ann.", grammars=(PERSON,), thought=thought)
    thinking, said = given.text.split("</think>")
    assert thinking
    assert is_person(said)
    assert 20 < given.finish.thought_tokens <= 20 + len("</think>")
    assert given.finish.thought_tokens < given.finish.eval_tokens


async def test_thought_that_the_model_would_end_with_is_closed(model: LlamaCppEngine) -> None:
    free = await answer(model, "Say hi.")
    given = await answer(model, "Say hi.", grammars=(PERSON,), thought=THINK)
    thinking, said = given.text.split("</think>")
    assert thinking == free.text
    assert is_person(said)


async def test_answer_need_not_think_where_it_may(model: LlamaCppEngine) -> None:
    thought = Thought(open="<|think|>", close="<|/think|>", budget=10)
    given = await answer(model, "Describe Ann.", grammars=(PERSON,), thought=thought)
    assert is_person(given.text.split("<|/think|>")[-1])


@pytest.mark.parametrize("mirostat", [1, 2])
async def test_mirostat_draws_under_grammars_too(model: LlamaCppEngine, mirostat: int) -> None:
    given = await answer(model, "Describe Ann.", grammars=(PERSON,), sampling=Sampling(mirostat=mirostat, seed=1))
    assert is_person(given.text)


async def test_penalties_leave_an_answer_valid(model: LlamaCppEngine) -> None:
    sampling = Sampling(
        temperature=1.0, seed=3, repeat_penalty=1.5, frequency_penalty=1.0, dry_multiplier=1.0, repeat_last_n=-1
    )
    assert is_person((await answer(model, "Describe Ann.", grammars=(PERSON,), sampling=sampling)).text)


@pytest.mark.parametrize(
    ("grammar", "pattern"),
    [
        pytest.param(Grammar(text=r"start: /[0-9]{3}-[0-9]{4}/"), r"\d{3}-\d{4}", id="regex"),
        pytest.param(Grammar(text='start: "certainly" | "by no means"'), "certainly|by no means", id="choice"),
        pytest.param(Grammar(text='root ::= "- " [a-z\\u00e9]{1,9} "\\n"', kind="gbnf"), "- [a-zé]{1,9}\n", id="gbnf"),
        pytest.param(Grammar(text="start: /(a|b)(🦙|ü){2,3}/"), "[ab][🦙ü]{2,3}", id="characters of several bytes"),
    ],
)
async def test_answer_meets_its_grammar(model: LlamaCppEngine, grammar: Grammar, pattern: str) -> None:
    for seed in range(3):
        given = await answer(model, "Well?", grammars=(grammar,), sampling=Sampling(temperature=1.0, seed=seed))
        assert re.fullmatch(pattern, given.text)
        assert given.finish.reason == "stop"


async def test_grammar_that_is_refused_is_a_bad_request(model: LlamaCppEngine) -> None:
    bad = Grammar(text='start: %json {"type": "array", "uniqueItems": true}')
    with pytest.raises(BadRequestError, match="uniqueItems"):
        await answer(model, "x", grammars=(bad,))


async def test_grammar_that_cannot_go_on_ends_its_answer_alone(model: LlamaCppEngine) -> None:
    dead = Grammar(text='start: "a" T\nT: /[a-z]+/ & /[0-9]+/')
    async with model.generate(job_of(PROMPT.format("Count to ten."), num_predict=40, num_ctx=1024)) as running:
        with pytest.raises(BadRequestError, match="nothing meets it"):
            await answer(model, "x", grammars=(dead,))
        assert "".join([step.text async for step in running])


async def test_biases_that_leave_nothing_are_a_bad_request(model: LlamaCppEngine) -> None:
    never = tuple((text, float("-inf")) for text in ("yes", "y", "ye"))
    with pytest.raises(BadRequestError, match="logit_bias"):
        await answer(model, "x", grammars=(Grammar(text='start: "yes" /.*/ | "ye" "?"'),), sampling=Sampling(logit_bias=never))


async def test_bound_and_free_answers_run_together(model: LlamaCppEngine) -> None:
    alone = {number: (await answer(model, f"Count to {number}.", num_predict=30)).text for number in range(4)}
    bound, free = list[Answer](), dict[int, str]()

    async def ask_free(number: int) -> None:
        free[number] = (await answer(model, f"Count to {number}.", num_predict=30)).text

    async def ask_bound(seed: int) -> None:
        hot = Sampling(temperature=1.0, seed=seed)
        bound.append(await answer(model, f"Invent person {seed}.", grammars=(PERSON,), sampling=hot))

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(ask_free(number))
            group.create_task(ask_bound(number))
    assert all(is_person(given.text) for given in bound)
    same = sum(alone[number][:20] == free[number][:20] for number in range(4))
    assert same >= 3  # a batch of another size rounds differently, and a close call may fall the other way


async def test_bound_answer_that_is_left_makes_room(model: LlamaCppEngine) -> None:
    endless = Grammar(text="start: /[a-z ]+/ /[0-9]{900}/")
    async with model.generate(job_of(PROMPT.format("Go on."), num_ctx=1024, grammars=(endless,))) as running:
        async for step in running:
            if step.text:
                break
    assert (await answer(model, "Say hello.", num_predict=5)).finish.eval_tokens == 5


async def test_prompt_that_continues_a_bound_answer_uses_what_was_computed(model: LlamaCppEngine) -> None:
    prompt = PROMPT.format("Describe Ann, who is 31 and plays chess. " * 8)
    first = await ask(model, prompt, num_ctx=1024, grammars=(PERSON,))
    second = await ask(model, prompt + first.text + "<|im_end|>\n", num_ctx=1024, num_predict=4)
    assert second.finish.cached_tokens > first.finish.prompt_tokens


async def test_logprobs_of_a_bound_answer_are_the_models_own_of_each_token(model: LlamaCppEngine) -> None:
    job = job_of(PROMPT.format("Describe Ann."), num_ctx=1024, grammars=(PERSON,), logprobs=3)
    text, logprobs = "", list[TokenLogprob]()
    async with model.generate(job) as running:
        async for step in running:
            text += step.text
            logprobs += step.logprobs
    assert b"".join(token.piece for token in logprobs).decode() == text
    assert is_person(text)
    assert all(token.logprob <= 0 for token in logprobs)
    assert any(token.piece != token.top[0].piece for token in logprobs)  # the model would have gone on otherwise


# Models that say one text


async def test_marker_that_is_a_control_token_binds_what_follows_it(tmp_path: Path) -> None:
    path = write_scripted(tmp_path / "calls.gguf", "I call it. ", special=("<tool_call>", "</tool_call>"))
    grammar = Grammar(after="it. ", text='start: "<tool_call>{" /[a-z]{3}/ "}</tool_call>"')
    async with launched(path) as engine:
        given = await ask(
            engine, "hi", grammars=(grammar,), spelled=("<tool_call>", "</tool_call>", "<|im_end|>"), num_predict=60
        )
        hidden = await ask(engine, "hi", spelled=(), num_predict=4)
    assert re.match(r"I call it\. <tool_call>\{[a-z]{3}\}</tool_call>", given.text)
    assert "<" not in hidden.text


async def test_names_of_control_tokens_are_text_only_where_the_job_says_so(tmp_path: Path) -> None:
    """Random models say anything, control tokens too."""
    path = write_random(tmp_path / "random.gguf", vocab=300, special=tuple(f"<|s{number}|>" for number in range(40)))
    names = ("<|s1|>", "<|s2|>", "<|im_end|>", "no token")
    hot = Sampling(temperature=5.0, top_k=0, top_p=1.0, seed=1)
    async with launched(path, n_ctx=1024) as engine:
        texts = [
            (await ask(engine, "hi", num_ctx=1024, num_predict=600, sampling=hot, spelled=spelled)).text
            for spelled in ((), names)
        ]
    assert "<|" not in texts[0]
    shown = set(re.findall(r"<\|\w+\|>", texts[1]))
    assert shown
    assert shown <= {"<|s1|>", "<|s2|>"}
    assert re.sub(r"<\|\w+\|>", "", texts[1]) == texts[0]


async def test_budget_closes_the_thought_and_the_answer_goes_on(tmp_path: Path) -> None:
    path = write_random(tmp_path / "random.gguf", special=("<think>", "</think>"))
    thought = Thought(open="<think>", close="</think>", is_open=True, budget=10)
    async with launched(path) as engine:
        given = await ask(engine, "hello", thought=thought, num_predict=30, spelled=("</think>",))
        hidden = await ask(engine, "hello", thought=thought, num_predict=30)
    assert given.text.count("</think>") == 1
    assert (given.finish.thought_tokens, given.finish.eval_tokens) == (11, 30)
    assert hidden.text == given.text.replace("</think>", "")


async def test_context_shifts_in_a_bound_answer(tmp_path: Path) -> None:
    path = write_random(tmp_path / "random.gguf", context=4096)
    grammar = Grammar(text='start: ("abcdefghij" /[0-9]/){12}')
    async with launched(path) as engine:
        given = await ask(engine, "hello", num_ctx=40, num_predict=200, grammars=(grammar,))
        ended = await ask(engine, "hello", num_ctx=40, num_predict=200, grammars=(grammar,), shift=False)
    assert re.fullmatch(r"(abcdefghij\d){12}", given.text)
    assert (ended.finish.reason, ended.finish.prompt_tokens + ended.finish.eval_tokens) == ("length", 40)


HOSTILE = Grammar(
    text=f"start: %json {json.dumps({'allOf': [{'pattern': f'^(?:.*(a|b)*a(a|b){{{size}}}.*)$'} for size in range(1, 18)]})}"
)


async def test_grammar_that_takes_for_ever_is_refused_and_nobody_waits_for_it(model: LlamaCppEngine) -> None:
    ended = list[str]()

    async def ask_hostile() -> None:
        with pytest.raises(BadRequestError, match=r"takes more than \d s .*to compile"):
            await answer(model, "x", grammars=(HOSTILE,))
        ended.append("hostile")

    async with asyncio.TaskGroup() as group:
        group.create_task(ask_hostile())
        for _ in range(2):
            given = await answer(model, "Well?", grammars=(Grammar(text='start: "yes" | "no"'),))
            assert given.text in ("yes", "no")
            ended.append("other")
    assert ended == ["other", "other", "hostile"]


async def test_grammar_whose_answer_is_left_before_its_turn_is_not_tried(model: LlamaCppEngine) -> None:
    hostile = [replace(HOSTILE, text=HOSTILE.text + "\n" * count) for count in range(1, 30)]
    async with asyncio.TaskGroup() as group:
        left = [group.create_task(answer(model, "x", grammars=(one,))) for one in hostile]
        await answer(model, "Say hi.", num_predict=3)
        for task in left:
            task.cancel()
    large = Grammar(text="start: " + " | ".join(f'"choice number {number}"' for number in range(2000)))
    async with asyncio.timeout(20):
        assert (await answer(model, "x", grammars=(large,))).text.startswith("choice number ")


async def test_long_text_that_is_dictated_comes_whole(model: LlamaCppEngine) -> None:
    text = "The quick brown fox jumps over the lazy dog; \U0001f999 too. " * 45
    given = await answer(model, "x", num_predict=-1, grammars=(Grammar(text=f"start: {json.dumps(text, ensure_ascii=False)}"),))
    assert given.text == text[: len(given.text)]
    assert len(given.text) > 2200


async def test_answer_whose_grammar_gets_slower_and_slower_is_ended(model: LlamaCppEngine) -> None:
    slow = Grammar(text='start: words "\\x07"\nwords: words words words | words words | /[a-z]/ | /[a-z]/ words')
    async with model.generate(job_of(PROMPT.format("Count to ten."), num_predict=9, num_ctx=1024)) as running:
        with pytest.raises(BadRequestError, match="takes too much work"):
            await answer(model, "x", num_predict=900, grammars=(slow,), sampling=Sampling(temperature=1.0, seed=3))
        assert "".join([step.text async for step in running])
