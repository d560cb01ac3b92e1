"""Which grammars are compiled at once, and which are tried elsewhere first."""

from typing import Any

import pytest

from corral.core.errors import BadRequestError
from corral.core.types import Grammar
from corral.engine.llamacpp.worker.grammar.compiler import is_plain, lark_text
from corral.parse.grammars import answer_grammar
from tests.support.schemas import SCHEMAS


def plain(**asked: Any) -> bool:
    grammar = answer_grammar(**asked)
    assert grammar
    return is_plain(grammar)


def test_ordinary_schemas_are_plain() -> None:
    doubtful = [asked.name for asked in SCHEMAS if not plain(format_=asked.schema)]
    assert len(doubtful) <= len(SCHEMAS) // 20, doubtful


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({"format_": "json"}, id="json"),
        pytest.param({"choice": ["yes", "no"]}, id="choice"),
        pytest.param({"regex": r"[0-9]{3}-[0-9]{4}"}, id="regex"),
        pytest.param({"regex": r"(a|b)+[a-z]{1,500}"}, id="any number of letters"),
        pytest.param({"format_": {"type": "string", "format": "date-time"}}, id="date"),
        pytest.param({"format_": {"type": "array", "minItems": 3, "maxItems": 5000}}, id="list"),
        pytest.param({"format_": {"type": "string", "pattern": "^[A-Z]+$", "minLength": 2}}, id="pattern and length"),
        pytest.param({"format_": {"allOf": [{"pattern": "[a-z]"}, {"pattern": "[0-9]"}]}}, id="two patterns"),
    ],
)
def test_small_grammar_of_no_odd_kind_is_plain(asked: dict[str, Any]) -> None:
    assert plain(**asked)


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({"grammar": 'root ::= "a"'}, id="gbnf, whose rules may double and double"),
        pytest.param({"regex": "((((a{9}){9}){9}){9}){9}"}, id="repetitions in repetitions"),
        pytest.param({"regex": "a{10000}"}, id="many letters"),
        pytest.param({"choice": [f"choice number {number}" for number in range(1000)]}, id="large"),
        pytest.param({"format_": {"type": "array", "items": {"const": "x"}, "minItems": 1000}}, id="many items"),
        pytest.param({"format_": {"allOf": [{"pattern": "[a-z]" * size} for size in range(1, 7)]}}, id="many patterns"),
    ],
)
def test_grammar_that_may_be_hard_is_tried(asked: dict[str, Any]) -> None:
    assert not plain(**asked)


@pytest.mark.parametrize(("count", "expected"), [(1, True), (5, True), (6, False), (14, False)])
def test_terminal_of_many_regexes_is_tried(count: int, expected: bool) -> None:
    text = "start: T\nT: " + " & ".join(f"/[ab]*a[ab]{{{size}}}/" for size in range(count))
    assert is_plain(Grammar(text=text)) is expected


def test_grammar_may_have_only_so_many_characters() -> None:
    with pytest.raises(BadRequestError, match="it has 3000000 characters, and may have 2097152"):
        lark_text(Grammar(text="x" * 3_000_000))
