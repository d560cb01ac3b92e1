"""What the installed llguidance makes of JSON Schema's keywords, left to itself: why so much is told before it is asked.

Each line is a keyword in its smallest schema and a value that the schema does not allow. "honoured": such a value is refused.
"refused": the schema is. "unsound": the value is taken. A new version may do more; then a line here fails, and tells where.
"""

import json
from typing import Any, Final, Literal

import pytest
from llguidance import LLMatcher

from corral.core.errors import BadRequestError
from corral.core.types import Grammar
from corral.parse.grammars import answer_grammar
from tests.support.grammars import matcher, takes

Outcome = Literal["honoured", "refused", "unsound"]
_SPACED: Final = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
_OPEN: Final = {"type": "object", "properties": {"a": {"type": "integer"}}}

# keyword: schema, a value against it, what llguidance does, what we do
KEYWORDS: Final[dict[str, tuple[Any, str, Outcome, Outcome]]] = {
    "type": ({"type": "integer"}, '"1"', "honoured", "honoured"),
    "type list": ({"type": ["integer", "null"]}, '"1"', "honoured", "honoured"),
    "enum": ({"enum": [1, "a"]}, "2", "honoured", "honoured"),
    "const": ({"const": {"a": 1}}, '{"a": 2}', "honoured", "honoured"),
    "anyOf": ({"anyOf": [{"type": "null"}, {"const": 1}]}, "2", "honoured", "honoured"),
    "oneOf, apart": ({"oneOf": [{"type": "null"}, {"const": 1}]}, "2", "honoured", "honoured"),
    "oneOf, overlapping": ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "1", "refused", "refused"),
    "oneOf, apart by a property": (
        {"oneOf": [{**_OPEN, "required": ["a"]}, {"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"]}]},
        '{"a": "x"}',
        "honoured",
        "honoured",
    ),
    "allOf": ({"allOf": [{"type": "integer"}, {"minimum": 5}]}, "4", "honoured", "honoured"),
    "$ref": ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "integer"}}}, '"1"', "honoured", "honoured"),
    "$ref with siblings": ({"$ref": "#/$defs/a", "minimum": 5, "$defs": {"a": {}}}, "4", "honoured", "honoured"),
    "$ref, remote": ({"$ref": "http://example.com/x"}, "1", "refused", "refused"),
    "$anchor": ({"$ref": "#x", "$defs": {"a": {"$anchor": "x", "type": "integer"}}}, '"1"', "honoured", "honoured"),
    "$dynamicRef": ({"$dynamicRef": "#x", "$defs": {"a": {"$dynamicAnchor": "x", "type": "null"}}}, "1", "refused", "refused"),
    "definitions": ({"$ref": "#/definitions/a", "definitions": {"a": {"type": "null"}}}, "1", "honoured", "honoured"),
    "not": ({"not": {"type": "null"}}, "null", "refused", "honoured"),
    "not, of a value": ({"not": {"const": 1}}, "1", "refused", "refused"),
    "if": ({"if": {"type": "integer"}, "then": {"const": 1}}, "2", "refused", "refused"),
    "nullable": ({"type": "integer", "nullable": True}, '"1"', "honoured", "honoured"),
    "minimum": ({"type": "number", "minimum": 1.5}, "1.4", "honoured", "honoured"),
    "maximum": ({"type": "integer", "maximum": 9}, "10", "honoured", "honoured"),
    "exclusiveMinimum": ({"type": "number", "exclusiveMinimum": 1}, "1", "honoured", "honoured"),
    "exclusiveMinimum of draft 4": ({"type": "number", "minimum": 1, "exclusiveMinimum": True}, "1", "honoured", "honoured"),
    "multipleOf": ({"type": "number", "multipleOf": 0.5}, "0.7", "honoured", "honoured"),
    "minLength": ({"type": "string", "minLength": 2}, '"é"', "honoured", "honoured"),
    "maxLength": ({"type": "string", "maxLength": 1}, '"ab"', "honoured", "honoured"),
    "pattern": ({"type": "string", "pattern": "^a"}, '"b"', "honoured", "honoured"),
    "pattern, a dot in ECMAScript": ({"type": "string", "pattern": "^.$"}, '"\u2028"', "unsound", "honoured"),
    "pattern that looks ahead": ({"type": "string", "pattern": "^(?=a)"}, '"b"', "refused", "refused"),
    "format": ({"type": "string", "format": "date"}, '"2023-02-30"', "honoured", "honoured"),
    "format, unknown": ({"type": "string", "format": "colour"}, '"x"', "refused", "refused"),
    "format of numbers": ({"type": "integer", "format": "int32"}, "2147483648", "unsound", "honoured"),
    "items": ({"type": "array", "items": {"type": "integer"}}, '["a"]', "honoured", "honoured"),
    "items as a list": ({"type": "array", "items": [{"type": "integer"}]}, '["a"]', "honoured", "honoured"),
    "prefixItems": ({"type": "array", "prefixItems": [{"type": "integer"}]}, '["a"]', "honoured", "honoured"),
    "additionalItems": ({"type": "array", "items": [{}], "additionalItems": False}, "[1, 2]", "honoured", "honoured"),
    "unevaluatedItems": ({"type": "array", "prefixItems": [{}], "unevaluatedItems": False}, "[1, 2]", "refused", "honoured"),
    "minItems": ({"type": "array", "minItems": 2}, "[1]", "honoured", "honoured"),
    "maxItems": ({"type": "array", "maxItems": 1}, "[1, 2]", "honoured", "honoured"),
    "uniqueItems": ({"type": "array", "uniqueItems": True}, "[1, 1]", "refused", "refused"),
    "contains": ({"type": "array", "contains": {"const": 1}}, "[2]", "refused", "refused"),
    "properties": (_OPEN, '{"a": "x"}', "honoured", "honoured"),
    "required": ({**_OPEN, "required": ["a"]}, "{}", "honoured", "honoured"),
    "additionalProperties": ({**_OPEN, "additionalProperties": False}, '{"b": 1}', "honoured", "honoured"),
    "additionalProperties, a name written otherwise": (
        {"type": "object", "properties": {"a\n": {"type": "integer"}}, "additionalProperties": {"type": "string"}},
        '{"a\\u000a": "x"}',
        "unsound",
        "refused",
    ),
    "patternProperties": ({"type": "object", "patternProperties": {"^a": {"const": 1}}}, '{"ab": 2}', "honoured", "honoured"),
    "patternProperties, overlapping": ({"type": "object", "patternProperties": {"a": {}, "b": {}}}, "[]", "refused", "refused"),
    "propertyNames": ({"type": "object", "propertyNames": {"pattern": "^a$"}}, '{"b": 1}', "refused", "honoured"),
    "minProperties": ({"type": "object", "minProperties": 1}, "{}", "honoured", "honoured"),
    "minProperties, a name twice": ({"type": "object", "minProperties": 2}, '{"a": 1, "a": 1}', "unsound", "refused"),
    "maxProperties": ({"type": "object", "maxProperties": 1}, '{"a": 1, "b": 1}', "honoured", "honoured"),
    "dependentRequired": ({"type": "object", "dependentRequired": {"a": ["b"]}}, '{"a": 1}', "refused", "honoured"),
    "dependentSchemas": ({"type": "object", "dependentSchemas": {"a": {"required": ["b"]}}}, '{"a": 1}', "refused", "honoured"),
    "dependencies": ({"type": "object", "dependencies": {"a": ["b"]}}, '{"a": 1}', "refused", "honoured"),
    "unevaluatedProperties": ({**_OPEN, "unevaluatedProperties": False}, '{"b": 1}', "refused", "honoured"),
    "an optional part without end": (
        {"$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "required": ["n"]}},
         "type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}},
        '{"n": {}}', "honoured", "honoured"),
    "misspelt": ({"type": "string", "minLenght": 3}, '"a"', "unsound", "refused"),
}  # fmt: skip


def by_llguidance(schema: Any, value: str) -> Outcome:
    text = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=_SPACED)  # type: ignore[arg-type]
    try:
        return "unsound" if takes(Grammar(text=text), value) else "honoured"
    except AssertionError:
        return "refused"


def by_us(schema: Any, value: str) -> Outcome:
    try:
        grammar = answer_grammar(schema)
    except BadRequestError:
        return "refused"
    assert grammar
    return "unsound" if takes(grammar, value) else "honoured"


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_keyword_is_known_for_what_it_is(keyword: str) -> None:
    schema, value, theirs, ours = KEYWORDS[keyword]
    assert by_llguidance(schema, value) == theirs
    assert by_us(schema, value) == ours


def test_nothing_is_unsound_here() -> None:
    assert not [keyword for keyword, (*_, ours) in KEYWORDS.items() if ours == "unsound"]


def test_optional_part_without_end_is_never_begun() -> None:
    """llguidance leads into it and never out."""
    schema = KEYWORDS["an optional part without end"][0]
    grammar = answer_grammar(schema)
    assert grammar
    assert takes(grammar, "{}")
    assert matcher(grammar).try_consume_tokens(list(b'{"n"')) == 1
