"""Schemas that answers cannot be held to: refused by name and place, soon, however large or crooked."""

import contextlib
import time
from typing import Any

import pytest

from corral.core.errors import BadRequestError
from corral.parse.grammars import UnenforceableError, answer_grammar, call_grammars, check_schema
from tests.support.answer_formats import FORMATS
from tests.support.grammars import matcher, taken, takes

# A name of a keyword that is there but unknown, or that cannot be enforced
UNENFORCEABLE: dict[str, tuple[Any, str]] = {
    "uniqueItems": (
        {"type": "object", "properties": {"tags": {"type": "array", "uniqueItems": True}}},
        'format: unsupported keyword "uniqueItems" at $.properties.tags',
    ),
    "not": ({"not": {"enum": [1]}}, 'format: unsupported keyword "not" at $'),
    "if": ({"items": {"if": {}, "then": {}}}, 'format: unsupported keyword "if" at $.items'),
    "contains": ({"allOf": [{}, {"contains": {}}]}, 'format: unsupported keyword "contains" at $.allOf[1]'),
    "misspelt": ({"anyOf": [{"minLenght": 1}]}, 'format: unsupported keyword "minLenght" at $.anyOf[0]'),
    "odd place": ({"properties": {"a b": {"foo": 1}}}, 'format: unsupported keyword "foo" at $.properties["a b"]'),
    "in a definition": (
        {"$ref": "#/$defs/a", "$defs": {"a": {"contains": {}}}},
        'format: unsupported keyword "contains" at $.$defs.a',
    ),
    "remote": ({"$ref": "http://example.com/s.json"}, 'format: "$ref" at $ is "http://example.com/s.json": only what is in'),
    "file": ({"$ref": "other.json#/a"}, 'format: "$ref" at $ is "other.json#/a": only what is in the schema itself'),
    "overlap": (
        {"oneOf": [{"type": "integer"}, {"minimum": 3}]},
        'format: unsupported keyword "oneOf" at $.oneOf: a value may',
    ),
    "lookahead": ({"pattern": "(?!a)"}, 'format: "pattern" at $ is "(?!a)": "(?!a" looks ahead or behind'),
    "back reference": ({"pattern": "(a)\\1"}, 'format: "pattern" at $ is "(a)\\1": "\\1" refers to what a group has matched'),
    "no pattern": ({"pattern": "[a"}, 'format: "pattern" at $ is "[a": a "[" is never closed'),
    "format": ({"type": "string", "format": "iri"}, 'format: "format" at $ is "iri"; it may be one of base64, '),
    "fine steps": (
        {"type": "number", "multipleOf": 0.003, "allOf": [{"multipleOf": 0.1017}, {"multipleOf": 5.003}]},
        'format: "multipleOf" at $',
    ),
    "odd steps": (
        {"type": "number", "multipleOf": 0.47},
        'format: "multipleOf" at $ is 0.47: multiples of 0.47 cannot be told',
    ),
    "count": (
        {"properties": {"a": {}, "b": {}, "c": {}}, "minProperties": 2},
        'format: "minProperties" at $ cannot be counted',
    ),
}
WRONG: dict[str, tuple[Any, str]] = {
    "no schema": (5, "format: a JSON schema is an object or a boolean, not 5"),
    "unknown type": ({"type": "strin"}, 'format: "type" at $ is "strin"; it must be one of array, boolean'),
    "type of another kind": ({"type": [["string"]]}, "format: \"type\" at $ is [['string']]; it must be"),
    "empty enum": ({"enum": []}, 'format: "enum" at $ is []; it must be a list of values, not empty'),
    "empty anyOf": ({"anyOf": []}, 'format: "anyOf" at $ is []; it must be a list of schemas, not empty'),
    "negative count": ({"minItems": -1}, 'format: "minItems" at $ is -1; it must be a whole number, 0 or more'),
    "text for a bound": ({"minimum": "3"}, 'format: "minimum" at $ is "3"; it must be a number'),
    "required is a flag": (
        {"properties": {"a": {"required": True}}},
        'format: "required" at $.properties.a is True; it must be',
    ),
    "properties is a list": ({"properties": []}, 'format: "properties" at $ is []; it must be an object with schemas'),
    "property is a number": (
        {"properties": {"a": 1}},
        "format: \"properties\" at $ is {'a': 1}; it must be an object with schemas",
    ),
    "step of zero": ({"multipleOf": 0}, 'format: "multipleOf" at $ is 0; it must be a number above 0'),
    "unknown reference": ({"$ref": "#/$defs/no"}, 'format: "$ref" at $ is "#/$defs/no", which is not in the schema'),
    "reference to a number": ({"$ref": "#/minimum", "minimum": 1}, 'format: "$ref" at $ is "#/minimum", which is not in'),
    "range": ({"items": {"minimum": 5, "maximum": 3}}, 'format: "minimum" 5 and "maximum" 3 at $.items contradict each other'),
    "open range": ({"minimum": 3, "exclusiveMaximum": 3}, 'format: "minimum" 3 and "exclusiveMaximum" 3 at $ contradict'),
    "lengths": ({"minLength": 5, "maxLength": 3}, 'format: "minLength" 5 and "maxLength" 3 at $ contradict each other'),
    "nothing left": ({"type": "string", "enum": [1]}, "format: no value can meet the schema: none is left at $"),
    "nothing left of a required one": (
        {"type": "object", "properties": {"a": {"allOf": [{"type": "string"}, {"type": "null"}]}}, "required": ["a"]},
        "format: no value can meet the schema: none is left at $.properties.a",
    ),
    "format and length": (
        {"type": "object", "properties": {"day": {"type": "string", "format": "date", "maxLength": 4}}, "required": ["day"]},
        "format: no value can meet the schema: none is left at $.properties.day, where no text meets the pattern or format and "
        '"maxLength" 4',
    ),
    "patterns": (
        {"allOf": [{"type": "string", "pattern": "^a"}, {"pattern": "^b"}]},
        "format: no value can meet the schema: none is left at $.allOf[0], where no text meets all 2 patterns and formats",
    ),
    "pattern of nothing": (
        {"type": "string", "pattern": "[]", "minLength": 1},
        "format: no value can meet the schema: none is",
    ),
    "values and pattern": (
        {"enum": ["abc", "bcd"], "pattern": "^z"},
        "format: no value can meet the schema: none is left at $",
    ),
    "value and format": ({"const": "x", "format": "date"}, "format: no value can meet the schema: none is left at $"),
    "itself": ({"$ref": "#"}, "format: no value can meet the schema"),
    "in a circle": (
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}}},
        "format: no value can meet the schema",
    ),
    "without end": (
        {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]},
        "format: no value can meet the schema",
    ),
    "list without end": ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, "format: no value can meet the schema"),
    "beyond 64 bits": ({"type": "integer", "minimum": 2**70}, "format: no integer of 64 bits is in the range at $"),
}


@pytest.mark.parametrize("case", UNENFORCEABLE)
def test_what_cannot_be_enforced_is_named(case: str) -> None:
    schema, text = UNENFORCEABLE[case]
    with pytest.raises(UnenforceableError) as caught:
        check_schema(schema, "format")
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told(case: str) -> None:
    schema, text = WRONG[case]
    with pytest.raises(BadRequestError) as caught:
        answer_grammar(schema)
    assert str(caught.value).startswith(text)
    assert not isinstance(caught.value, UnenforceableError)


def test_annotations_are_fine() -> None:
    check_schema(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": "https://example.com/x",
            "title": "T",
            "description": "D",
            "default": {},
            "examples": [1],
            "$comment": "C",
            "deprecated": True,
            "readOnly": False,
            "x-anything": {"uniqueItems": True},
            "$defs": {"unused": {"contains": {}}},
            "type": "object",
            "then": {"contains": {}},
        },
        "format",
    )


def _chain(size: int) -> dict[str, Any]:
    links = {f"n{at}": {"type": "object", "properties": {"next": {"$ref": f"#/$defs/n{at + 1}"}}} for at in range(size)}
    return {"$ref": "#/$defs/n0", "$defs": {**links, f"n{size}": {"type": "string"}}}


def _deep(size: int) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(size):
        schema = {"type": "array", "items": schema}
    return schema


def _doubled(size: int) -> dict[str, Any]:
    pairs = {f"n{at}": {"anyOf": [{"$ref": f"#/$defs/n{at + 1}"}] * 2} for at in range(size)}
    return {"$ref": "#/$defs/n0", "$defs": {**pairs, f"n{size}": {"type": "string"}}}


def _product(choices: int, options: int) -> dict[str, Any]:
    return {"allOf": [{"anyOf": [{"required": [f"a{one}{two}"]} for two in range(options)]} for one in range(choices)]}


# what, whether it is taken
LARGE: dict[str, tuple[Any, bool]] = {
    "a megabyte of words": ({"enum": [f"value number {at} {'x' * 24}" for at in range(25_000)]}, True),
    "a megabyte of properties": ({"properties": {f"p{at}": {"description": "y" * 90} for at in range(9_000)}}, False),
    "many required": (
        {"properties": {f"p{at}": {} for at in range(3_000)}, "required": [f"p{at}" for at in range(3_000)]},
        True,
    ),
    "many optional": ({"properties": {f"p{at}": {} for at in range(1_500)}}, True),
    "200,000 values": ({"enum": list(range(200_000))}, False),
    "deep": (_deep(90), True),
    "too deep": (_deep(5_000), False),
    "chain": (_chain(300), True),
    "too long a chain": (_chain(3_000), False),
    "doubled": (_doubled(60), True),
    "product": (_product(3, 5), True),
    "too large a product": (_product(12, 4), False),
    "evil pattern": ({"type": "string", "pattern": "^(a+)+(a|aa)+$"}, True),
    "long pattern": ({"type": "string", "pattern": "a" * 50_000}, False),
    "deep pattern": ({"type": "string", "pattern": "(" * 5_000 + ")" * 5_000}, False),
    "many patterns": ({"type": "object", "patternProperties": {f"^{at:05d}": {} for at in range(100)}}, True),
    "too many patterns": ({"type": "object", "patternProperties": {f"^{at:05d}": {} for at in range(500)}}, False),
    "enormous counts": ({"type": "array", "items": {"type": "string", "maxLength": 10**9}, "maxItems": 10**9}, True),
    "enormous numbers": ({"type": "number", "minimum": -(10**300), "maximum": 10**300}, True),
    "large step": ({"type": "integer", "multipleOf": 123_456_789}, False),
    "many kinds": (
        {"oneOf": [{"properties": {"k": {"const": at}}, "required": ["k"], "type": "object"} for at in range(200)]},
        True,
    ),
}


def test_what_is_too_deep_is_refused_wherever_it_stands() -> None:
    deep: list[Any] = []
    for _ in range(20_000):
        deep = [deep]
    tool = {"type": "function", "function": {"name": "a", "parameters": {"type": "object", "default": deep}}}
    for form in (FORMATS["harmony"], FORMATS["objects in tags"]):
        for tools in ([tool], [{**tool, "function": {"name": "a", "parameters": deep}}], [{"x": deep}]):
            with pytest.raises(BadRequestError):
                call_grammars(form, tools)
    for schema in (deep, {"enum": deep}, {"enum": [deep]}, {"minimum": deep}, {"type": deep}):
        with pytest.raises(BadRequestError):
            answer_grammar(schema)


@pytest.mark.parametrize("case", LARGE)
def test_large_schemas_are_compiled_or_refused_soon(case: str) -> None:
    schema, is_taken = LARGE[case]
    begin_s = time.monotonic()
    try:
        grammar = answer_grammar(schema)
        assert is_taken
        assert grammar
        matcher(grammar)
    except BadRequestError:
        assert not is_taken
    assert time.monotonic() - begin_s < 15  # a second or two here; nothing that grows without bound


@pytest.mark.parametrize("bound", [-(2**100 + 2**47 - 1), 2**75 + 1, -(2**900)])
def test_bounds_far_beyond_all_integers_take_no_time(bound: int) -> None:
    with contextlib.suppress(BadRequestError):
        answer_grammar({"type": "integer", "minimum": bound})
    with contextlib.suppress(BadRequestError):
        answer_grammar({"type": "integer", "maximum": bound})


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "a{" + "9" * 5000 + "}"},
        {"$ref": "#/anyOf/" + "9" * 5000, "anyOf": [{"type": "string"}]},
    ],
    ids=["repeats", "index"],
)
def test_numbers_without_end_in_texts_are_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError):
        answer_grammar(schema)


IMPOSSIBLE: dict[str, Any] = {"type": "string", "format": "date", "maxLength": 4}


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "object", "properties": {"b": {"const": 1}, "a": IMPOSSIBLE}, "required": ["b"]}, '{"b": 1}', '{"b": 1, "a'),
        ({"type": "array", "items": IMPOSSIBLE}, "[]", '["'),
        ({"anyOf": [IMPOSSIBLE, {"type": "null"}]}, "null", '"'),
        ({"type": ["string", "null"], "format": "date", "maxLength": 4}, "null", '"'),
        ({"enum": ["za", "b", "zc", 1], "pattern": "^z"}, '"zc"', '"b'),
        ({"type": "object", "patternProperties": {"^a$": IMPOSSIBLE}, "additionalProperties": False}, "{}", '{"'),
    ],
    ids=["property", "items", "option", "type", "value", "property by pattern"],
)
def test_part_that_contradicts_itself_is_left_out_where_it_may_be(schema: dict[str, Any], good: str, bad: str) -> None:
    grammar = answer_grammar(schema)
    assert grammar
    assert takes(grammar, good)
    assert not taken(grammar, bad).startswith(bad)


def test_what_takes_too_much_work_to_tell_is_left_to_the_engine() -> None:
    patterns = [f"^([a-z]{{1,50}}){{50}}{letter}$" for letter in "abcdefgh"]
    begin_s = time.monotonic()
    properties = {f"p{at}": {"type": "string", "pattern": one, "minLength": 2000} for at, one in enumerate(patterns * 100)}
    assert answer_grammar({"type": "object", "properties": properties, "required": list(properties)})
    assert time.monotonic() - begin_s < 10  # half a second here
