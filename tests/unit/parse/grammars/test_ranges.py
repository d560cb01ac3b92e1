"""Ranges of numbers in the grammar: held against what the jsonschema package makes of them, in decimals as they are written."""

import json
import random
from decimal import Decimal, localcontext
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from corral.core.errors import BadRequestError
from corral.parse.grammars import answer_grammar
from corral.parse.grammars.refusals import UnenforceableError
from tests.support.grammars import Walker, matcher, takes
from tests.support.schemas import faults

LOWS = ("minimum", "exclusiveMinimum")
HIGHS = ("maximum", "exclusiveMaximum")
STEPS = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 7, 10)


def bound(draw: random.Random) -> float:
    """Whole, with decimals, close to a whole one, or tiny."""
    sign = draw.choice((1, -1))
    return draw.choice(
        (
            lambda: sign * draw.choice((0, 1, 2, 9, 10, 99, 100, 1000)),
            lambda: draw.randint(-1000, 1000),
            lambda: round(draw.uniform(-3, 3), draw.randint(0, 8)),
            lambda: draw.randint(-5, 5) + draw.choice((0.5, 0.25, 0.001, 0.999, 1e-7)),
            lambda: sign * 10.0 ** -draw.randint(1, 18),
            lambda: sign * draw.random() * 10.0 ** draw.randint(-9, 9),
        )
    )()


def near(draw: random.Random, low: float, high: float, step: float) -> set[str]:
    """Numbers at both ends of a range and within it, spelled in several ways."""
    ends = (Decimal(repr(low)), Decimal(repr(high)))
    shifts = (0, 1, Decimal("0.1"), Decimal("0.001"), Decimal("1e-7"), Decimal("1e-21"))
    numbers = [one for end in ends for shift in shifts for one in (end + shift, end - shift)]
    numbers += [ends[0] + (ends[1] - ends[0]) * Decimal(draw.random()) for _ in range(5)]
    if step:
        first = int(ends[0] / Decimal(repr(step)))
        numbers += [Decimal(repr(step)) * at for at in range(first - 2, first + 30)]
    found = {"0", "-0", "0.0", "-0.0", "1e0", "-1e0"}
    for number in numbers:
        text = format(number, "f")
        whole = text.partition(".")[0]
        found |= {text, format(number.normalize(), "f"), whole, f"{whole}.0", f"{text}0" if "." in text else f"{text}.00"}
    return found


@pytest.mark.parametrize("has_steps", [False, True], ids=["any", "multiples"])
@pytest.mark.parametrize("high_keyword", HIGHS)
@pytest.mark.parametrize("low_keyword", LOWS)
def test_no_number_out_of_its_range_is_taken(low_keyword: str, high_keyword: str, has_steps: bool) -> None:
    draw = random.Random(f"{low_keyword} {high_keyword} {has_steps}")
    tried = 0
    for _ in range(120):
        low = bound(draw)
        high = round(low + draw.choice((1e-3, 0.1, 0.5, 0.9, 1, 2, draw.random())), 9) if draw.random() < 0.7 else bound(draw)
        low, high = min(low, high), max(low, high)
        keywords = dict(draw.sample([(low_keyword, low), (high_keyword, high)], draw.choice((1, 2, 2, 2))))
        step = draw.choice(STEPS) if has_steps else 0
        schema: dict[str, Any] = {"type": "number", **keywords} | ({"multipleOf": step} if step else {})
        try:
            grammar = answer_grammar(schema)
        except BadRequestError:
            continue
        assert grammar
        start = matcher(grammar)
        is_any_taken = False
        with localcontext(prec=100):
            validator = Draft202012Validator(json.loads(json.dumps(schema), parse_float=Decimal))
            for text in sorted(near(draw, low, high, step)):
                made, data = start.deep_copy(), list(text.encode())
                if made.try_consume_tokens(data) == len(data) and made.is_accepting():
                    assert validator.is_valid(json.loads(text, parse_float=Decimal)), (schema, text)
                    is_any_taken = True
        assert is_any_taken, schema
        tried += 1
    assert tried > 40


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"exclusiveMinimum": 0, "maximum": 0.5}, ["0.5", "0.1", "0.00000000000000000001"], ["0", "0.0", "-0.1", "0.51"]),
        ({"minimum": -4.5, "exclusiveMaximum": -4}, ["-4.5", "-4.01"], ["-4", "-4.0", "-4.51"]),
        ({"exclusiveMinimum": 0, "exclusiveMaximum": 1}, ["0.25"], ["0", "1", "1.0", "0.0"]),
        ({"minimum": 0.3, "maximum": 0.3, "multipleOf": 0.1}, ["0.3"], ["0.2", "0.4"]),
        ({"minimum": 1.255, "maximum": 1.265, "multipleOf": 0.01}, ["1.26"], ["1.25", "1.27"]),
        ({"minimum": 1e-300}, ["0.5", "3"], ["0", "-1"]),
        ({"minimum": -1e300, "maximum": 1e300}, ["12345678901234567"], []),
        ({"minimum": 7, "maximum": 7}, ["7"], ["6", "8"]),
        ({"multipleOf": 86400, "minimum": 0, "maximum": 864000}, ["0", "172800"], ["86401", "864001", "950400"]),
        ({"multipleOf": 0.5, "type": "integer"}, ["3", "-2"], ["0.5"]),
        ({"multipleOf": 1.5, "type": "integer"}, ["3", "-6"], ["1", "4", "1.5"]),
        ({"type": ["number", "null"], "multipleOf": 0.1, "minimum": 0.3, "maximum": 0.3}, ["null", "0.3"], ["0.2", "true"]),
    ],
    ids=str,
)
def test_range_is_what_it_says(schema: dict[str, Any], good: list[str], bad: list[str]) -> None:
    grammar = answer_grammar({"type": "number", **schema})
    assert grammar
    assert [text for text in good if not takes(grammar, text)] == []
    assert [text for text in bad if takes(grammar, text)] == []


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"multipleOf": 3, "minimum": 1, "maximum": 2}, "no value can meet the schema: none is left at $"),
        ({"type": "integer", "minimum": 0.2, "maximum": 0.8}, "no value can meet the schema: none is left at $"),
        ({"exclusiveMinimum": 0, "maximum": 5e-324}, "the range at $ is beyond 1e17, or too narrow"),
        ({"minimum": 1e18}, "the range at $ is beyond 1e17, or too narrow"),
        ({"multipleOf": 10, "minimum": 1e16}, "no multiple of up to 15 digits is in the range at $"),
        ({"multipleOf": 0.3, "minimum": 1.7e308, "maximum": 1.79e308}, "no multiple of up to 15 digits is in the range at $"),
    ],
    ids=str,
)
def test_range_with_nothing_in_it_is_refused(schema: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRequestError, match="format: ") as caught:
        answer_grammar({"type": "number", **schema})
    assert reason in str(caught.value)


def test_option_with_nothing_in_its_range_is_no_option() -> None:
    grammar = answer_grammar({"anyOf": [{"type": "integer", "minimum": 0.2, "maximum": 0.8}, {"type": "boolean"}]})
    assert grammar
    assert takes(grammar, "true")
    assert not takes(grammar, "0")


def test_step_that_cannot_be_counted_is_named_unless_its_multiples_are_few() -> None:
    with pytest.raises(UnenforceableError, match=r'"multipleOf" at \$ is 86400: at most 3600 can be counted'):
        answer_grammar({"type": "integer", "multipleOf": 86400})
    assert answer_grammar({"type": "integer", "multipleOf": 86400, "minimum": 1, "maximum": 8_000_000})


@pytest.mark.parametrize("step", [0.01, 0.05, 2.5, 7, 997, 3600])
@pytest.mark.parametrize("more", [{}, {"minimum": 0}, {"minimum": 12.3}, {"maximum": -1e9}], ids=str)
def test_multiples_without_bounds_come_to_an_end(step: float, more: dict[str, float]) -> None:
    schema = {"type": "number", "multipleOf": step, **more}
    grammar = answer_grammar(schema)
    assert grammar
    walker = Walker(grammar)
    for seed in range(10):
        text = walker.text(seed)
        assert faults(schema, text) == []
        assert len(text) < 25
