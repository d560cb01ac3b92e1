"""Bare text of arguments, as a tool's schema means it."""

from typing import Any

import pytest

from corral.parse.schema import Toolbox


def typed(schema: dict[str, Any] | None, text: str, **root: Any) -> Any:
    parameters = {"properties": {"x": schema} if schema is not None else {}, **root}
    return Toolbox([{"type": "function", "function": {"name": "f", "parameters": parameters}}]).typed("f", "x", text)


MEANT: dict[str, tuple[dict[str, Any] | None, str, Any]] = {
    "text": ({"type": "string"}, "12", "12"),
    "text that is json": ({"type": "string"}, '{"a": 1}', '{"a": 1}'),
    "integer": ({"type": "integer"}, "12", 12),
    "integer with a point": ({"type": "integer"}, "12.0", 12.0),
    "number": ({"type": "number"}, "-1.5e2", -150.0),
    "boolean": ({"type": "boolean"}, "true", True),
    "boolean as Python prints it": ({"type": "boolean"}, "False", False),
    "null": ({"type": ["string", "null"]}, "null", None),
    "nullable": ({"type": "string", "nullable": True}, "null", None),
    "word where null may be": ({"type": ["string", "null"]}, "nullo", "nullo"),
    "list": ({"type": "array"}, "[1, 2]", [1, 2]),
    "object": ({"type": "object"}, '{"b": 1, "a": {}}', {"b": 1, "a": {}}),
    "not what the schema says": ({"type": "integer"}, "many", "many"),
    "list where an object belongs": ({"type": "object"}, "[1]", "[1]"),
    "either": ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "3", 3),
    "either, text": ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "three", "three"),
    "one of texts": ({"enum": ["1", "2"]}, "1", "1"),
    "one of numbers": ({"enum": [1, 2]}, "1", 1),
    "constant": ({"const": "1"}, "1", "1"),
    "referred to": ({"$ref": "#/$defs/a"}, "1", "1"),
    "referred to for ever": ({"$ref": "#/$defs/b"}, "1", 1),
    "referred to nothing": ({"$ref": "#/$defs/zzz"}, "1", 1),
    "not said": ({}, "1", 1),
    "not known": (None, "1", 1),
    "quoted": ({}, '"a"', '"a"'),
    "number too big": ({"type": "integer"}, "1" * 30, float("1" * 30)),
    "number without end": ({"type": "integer"}, "1" * 5000, "1" * 5000),
    "too deep": ({"type": "array"}, "[" * 5000, "[" * 5000),
}


@pytest.mark.parametrize("case", MEANT)
def test_text_means_what_the_schema_says(case: str) -> None:
    schema, text, meant = MEANT[case]
    many = {"anyOf": [{"$ref": "#/$defs/b"}] * 50}
    found = typed(schema, text, **{"$defs": {"a": {"type": "string"}, "b": many}})
    assert (found, type(found)) == (meant, type(meant))


@pytest.mark.parametrize(
    "tools",
    [
        [{}],
        [{"type": "function"}],
        [{"function": {"name": 3}}],
        [{"function": {"name": "f", "parameters": []}}],
        [{"function": {"name": "f", "parameters": {"properties": {"x": 1}}}}],
        [{"name": "f"}],
    ],
)
def test_odd_tools_are_taken(tools: list[dict[str, Any]]) -> None:
    assert Toolbox(tools).typed("f", "x", "1") == 1
