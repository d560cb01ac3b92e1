"""Calls of every template: their grammars take the family's own calls, no others, and nothing that is not read back."""

from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import pytest

from corral.core.types import Grammar
from corral.parse import AnswerFormat, MessageFormat, PlainFormat, Render, learn
from corral.parse.grammars import call_grammars
from corral.template import compile_jinja
from tests.support.answer_formats import answer
from tests.support.answers import CASES, calling, render_of, said_by_template, written
from tests.support.calling import TOOLS, read_calls, walks
from tests.support.grammars import taken, takes
from tests.support.template_facts import BARE_CALLS, SINGLE_CALL, TEMPLATES

WALKS = 100
FREE_WALKS = 20
PARIS = ("get_weather", {"city": "Paris"})
MISUSED: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "name of no tool": [("get_wether", {"city": "Paris"})],
    "required argument missing": [("get_weather", {"days": 2})],
    "argument of another type": [("get_weather", {"city": "Paris", "days": "two"})],
    "argument that is none": [("get_weather", {"city": "Paris", "mood": "good"})],
    "second call wrong": [PARIS, ("get_weather", {})],
}


@lru_cache
def learned(path: Path) -> tuple[Render, AnswerFormat]:
    source = path.read_text()
    render = render_of(compile_jinja(source, bos_token="<s>", eos_token="</s>"))
    return render, learn(render, source)


def own_text(path: Path, case: str) -> str | None:
    """The calls as the template renders them, or where it does not as the family is known to; None where nobody shows it."""
    render, form = learned(path)
    said = said_by_template(render, calling(CASES[case]))
    if said:
        return said.text
    if isinstance(form, MessageFormat):
        return None
    return None if path.stem in BARE_CALLS and len(CASES[case]) > 1 else written(form.calls, CASES[case])


def text_of(form: AnswerFormat, calls: Sequence[tuple[str, dict[str, Any]]]) -> str:
    return answer(form, calls).text


def behind_marker(grammars: Sequence[Grammar], text: str) -> tuple[Grammar, str]:
    """The grammar that binds first, and what of the text it is to take."""
    found: list[tuple[int, int, Grammar]] = []
    for grammar in grammars:
        at = text.find(grammar.after)
        if at >= 0 and (not grammar.at_start or not text[:at].strip()):
            found.append((at + len(grammar.after), -len(grammar.after), grammar))
    assert found, f"nothing marks {text!r}"
    end, _, grammar = min(found, key=lambda one: one[:2])
    return grammar, text[end:]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_required_takes_the_familys_own_calls(path: Path, case: str) -> None:
    text = own_text(path, case)
    if text is None:
        assert len(CASES[case]) > 1
        assert path.stem in SINGLE_CALL | BARE_CALLS
        return
    (grammar,) = call_grammars(learned(path)[1], TOOLS, mode="required")
    assert taken(grammar, text) == text


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_auto_takes_them_behind_their_marker(path: Path, case: str) -> None:
    text, grammars = own_text(path, case), call_grammars(learned(path)[1], TOOLS)
    ends = learned(path)[1].calls.around_each.close  # of a message: free
    parts = 0
    while text and text != ends:
        grammar, rest = behind_marker(grammars, text)
        found = taken(grammar, rest)
        assert rest.startswith(found), found  # it may end there
        text = rest[len(found) :]
        parts += 1
    assert parts <= len(CASES[case])


@pytest.mark.parametrize("case", MISUSED)
@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_no_other_call_is_taken(path: Path, case: str) -> None:
    form = learned(path)[1]
    (grammar,) = call_grammars(form, TOOLS, mode="required")
    text = text_of(form, MISUSED[case])
    assert not takes(grammar, text)
    if len(MISUSED[case]) == 1 and not (path.stem in BARE_CALLS and "name" in case):
        if isinstance(form, MessageFormat) and "name of no tool" in case and form.family == "functionary-3.2":
            return  # the name is the marker
        free, rest = behind_marker(call_grammars(form, TOOLS), text)
        assert not takes(free, rest)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_named_tool_is_the_only_one(path: Path) -> None:
    form = learned(path)[1]
    (grammar,) = call_grammars(form, TOOLS, mode="required", name="get_weather")
    assert takes(grammar, text_of(form, [PARIS]))
    assert not takes(grammar, text_of(form, [("get-time.v2", {})]))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_single_call_may_be_asked_for(path: Path) -> None:
    form = learned(path)[1]
    (grammar,) = call_grammars(form, TOOLS, mode="required", parallel=False)
    assert takes(grammar, text_of(form, [PARIS]))
    assert not takes(grammar, text_of(form, [PARIS, PARIS]))


@cache
def walked(form: AnswerFormat, mode: Any, count: int) -> int:
    """How many calls were read back, of a format that several templates may share."""
    calls = 0
    for grammar in call_grammars(form, TOOLS, mode=mode):
        for text in walks(form, grammar, range(count)):
            calls += len(read_calls(form, text, TOOLS))
    return calls


def calls_alone(form: AnswerFormat) -> AnswerFormat:
    return PlainFormat(family="", calls=form.calls) if isinstance(form, PlainFormat) else form


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_whatever_required_takes_is_read_as_valid_calls(path: Path) -> None:
    assert walked(calls_alone(learned(path)[1]), "required", WALKS) >= WALKS


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_whatever_auto_takes_is_read_as_valid_calls(path: Path) -> None:
    assert walked(calls_alone(learned(path)[1]), "auto", FREE_WALKS) >= FREE_WALKS
