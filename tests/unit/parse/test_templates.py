"""Every template of current models: what its model says is read back, however it is cut."""

import json
from functools import lru_cache
from pathlib import Path

import pytest

from corral.core.types import Message
from corral.parse import AnswerFormat, MessageFormat, PlainFormat, Render, learn
from corral.template import compile_jinja
from tests.support.answers import (
    CASES,
    CONTENT,
    QUESTION,
    THOUGHT,
    TOOLS,
    Said,
    calling,
    calls_of,
    content_of,
    cuts,
    parsed,
    render_of,
    said_by_template,
    thought_of,
    written,
)
from tests.support.call_parts import parsed_in_parts, parts_of, without_parts
from tests.support.template_facts import (
    ALWAYS_OPENS_THOUGHT,
    BARE_CALLS,
    IN_MESSAGES,
    OPENS_THOUGHT,
    RENDERS_THOUGHT,
    SINGLE_CALL,
    TEMPLATES,
    WITHOUT_THOUGHT,
    among,
    beside,
)

SINGLE = CASES["single"]
CUTS = ("whole", "random", "characters")


@lru_cache
def learned(path: Path) -> tuple[Render, AnswerFormat]:
    source = path.read_text()
    render = render_of(compile_jinja(source, bos_token="<s>", eos_token="</s>"))
    return render, learn(render, source)


def thinking_prompts(path: Path) -> dict[str, str]:
    """The prompts for a thought: as it is by default, asked for, and not wanted."""
    render, _ = learned(path)
    return {str(think): render((QUESTION,), TOOLS, think=think) for think in (None, True, False)}


def is_open(form: PlainFormat, prompt: str) -> bool:
    return form.thought is not None and prompt.rstrip().endswith(form.thought.open.strip())


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_format_is_of_the_kind_that_it_is_known_to_be(path: Path) -> None:
    _, form = learned(path)
    name = path.stem
    assert isinstance(form, MessageFormat) == (name in IN_MESSAGES)
    assert (form.thought is None) == (name in WITHOUT_THOUGHT)
    if isinstance(form, PlainFormat):
        assert form.calls.is_bare == (name in BARE_CALLS)
        prompts = thinking_prompts(path)
        assert any(is_open(form, prompt) for prompt in prompts.values()) == (name in OPENS_THOUGHT)
        assert is_open(form, prompts["False"]) == (name in ALWAYS_OPENS_THOUGHT)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_calls_come_out_as_they_went_in(path: Path, case: str, cut: str) -> None:
    render, form = learned(path)
    said = said_by_template(render, calling(CASES[case]))
    if said is None and isinstance(form, MessageFormat):  # not for writing by a format alone: test_messages has it
        assert (path.stem in SINGLE_CALL, case) == (True, "parallel")
        return
    said = said or Said("", written(form.calls, CASES[case]))  # it shows no such call: the family's known format
    events = parsed(form, said, cuts(said.text)[cut])
    assert calls_of(events) == list(CASES[case])
    assert [list(arguments) for _, arguments in calls_of(events)] == [sorted(arguments) for _, arguments in CASES[case]]
    assert content_of(events) == ""
    assert thought_of(events) == ""
    in_parts = parsed_in_parts(form, said, cuts(said.text)[cut])
    assert [(name, json.loads(text)) for name, text in parts_of(in_parts)] == list(CASES[case])
    assert without_parts(in_parts) == events


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("path", beside(IN_MESSAGES), ids=lambda path: path.stem)
def test_learned_format_writes_what_it_reads(path: Path, case: str) -> None:
    _, form = learned(path)
    assert isinstance(form, PlainFormat)
    said = Said("", written(form.calls, CASES[case]))
    events = parsed(form, said, [said.text])
    assert calls_of(events) == list(CASES[case])
    assert content_of(events) == ""


@pytest.mark.parametrize("path", beside(IN_MESSAGES, BARE_CALLS), ids=lambda path: path.stem)
def test_call_after_content_leaves_the_content(path: Path) -> None:
    _, form = learned(path)
    assert isinstance(form, PlainFormat)
    said = Said("", CONTENT + written(form.calls, SINGLE))
    for chunks in cuts(said.text).values():
        events = parsed(form, said, chunks)
        assert calls_of(events) == list(SINGLE)
        assert content_of(events).rstrip() == CONTENT


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("think", ["None", "True", "False"])
@pytest.mark.parametrize("path", beside(WITHOUT_THOUGHT, IN_MESSAGES), ids=lambda path: path.stem)
def test_thought_and_answer_come_apart(path: Path, think: str, cut: str) -> None:
    _, form = learned(path)
    assert isinstance(form, PlainFormat)
    assert form.thought is not None
    prompt = thinking_prompts(path)[think]
    opening = "" if is_open(form, prompt) else form.thought.open
    answer = form.around_content.open + CONTENT + form.around_content.close
    said = Said(prompt, opening + THOUGHT + form.thought.close + answer + written(form.calls, SINGLE))
    events = parsed(form, said, cuts(said.text)[cut])
    assert thought_of(events).rstrip("\n") == THOUGHT
    assert content_of(events).rstrip() == CONTENT
    assert calls_of(events) == ([] if form.calls.is_bare else list(SINGLE))


@pytest.mark.parametrize("path", among(RENDERS_THOUGHT), ids=lambda path: path.stem)
def test_thought_that_the_template_renders_comes_apart(path: Path) -> None:
    render, form = learned(path)
    turn = Message(role="assistant", content=CONTENT, thinking=THOUGHT)
    said = said_by_template(render, turn)
    assert said is not None
    assert THOUGHT in said.text
    if form.thought and form.thought.open.strip() not in said.text:  # it stands in the prompt
        said = Said(thinking_prompts(path)["True"], said.text)
    for chunks in cuts(said.text).values():
        events = parsed(form, said, chunks)
        assert thought_of(events).rstrip("\n") == THOUGHT
        assert content_of(events).rstrip("\n") == CONTENT


@pytest.mark.parametrize("path", among(OPENS_THOUGHT), ids=lambda path: path.stem)
def test_call_in_a_thought_that_never_ended_counts(path: Path) -> None:
    _, form = learned(path)
    assert isinstance(form, PlainFormat)
    prompts = [prompt for prompt in thinking_prompts(path).values() if is_open(form, prompt)]
    for text in ("", THOUGHT + "\n"):
        said = Said(prompts[0], text + written(form.calls, CASES["parallel"]))
        for chunks in cuts(said.text).values():
            events = parsed(form, said, chunks)
            assert calls_of(events) == list(CASES["parallel"])
            assert thought_of(events).rstrip() == text.rstrip()
            assert content_of(events) == ""


@pytest.mark.parametrize("path", beside(ALWAYS_OPENS_THOUGHT), ids=lambda path: path.stem)
def test_plain_answer_is_content_alone(path: Path) -> None:
    _, form = learned(path)
    prompt = thinking_prompts(path)["False"]
    said = Said(prompt, CONTENT)
    for tools in ((), TOOLS):
        for chunks in cuts(said.text).values():
            events = parsed(form, said, chunks, tools)
            assert content_of(events) == CONTENT
            assert len(events) == 1
