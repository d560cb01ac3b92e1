"""JSON schemas of rising difficulty, each with a value that meets it, its properties in the schema's order.

They stand for what programs ask models for: from one flat object to recursive documents, with every keyword that is honoured.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any, Final

from jsonschema import Draft4Validator, Draft202012Validator, FormatChecker


@dataclass(frozen=True, slots=True)
class Asked:
    name: str
    schema: Any
    value: Any


def _object(required: str = "", /, **properties: Any) -> dict[str, Any]:
    """An object with these properties; all of them are required if none are named."""
    names = required.split() if required else list(properties)
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


TEXT: Final[dict[str, Any]] = {"type": "string"}
COUNT: Final[dict[str, Any]] = {"type": "integer"}
NUMBER: Final[dict[str, Any]] = {"type": "number"}
FLAG: Final[dict[str, Any]] = {"type": "boolean"}


def _list(items: Any, **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


def _enum(*values: Any) -> dict[str, Any]:
    return {"enum": list(values)}


_POINT: Final = _object(x=NUMBER, y=NUMBER)
_TREE: Final = {
    "$defs": {"node": _object(value=COUNT, children=_list({"$ref": "#/$defs/node"}))},
    "$ref": "#/$defs/node",
}
_LINKED: Final = {
    "$defs": {"cell": _object(head=TEXT, tail={"anyOf": [{"$ref": "#/$defs/cell"}, {"type": "null"}]})},
    "$ref": "#/$defs/cell",
}
_FORMULA: Final = {
    "$defs": {
        "term": {
            "oneOf": [
                _object(kind={"const": "number"}, value=NUMBER),
                _object(kind={"const": "name"}, name={"type": "string", "pattern": "^[a-z]+$"}),
                _object(
                    kind={"const": "call"},
                    operator=_enum("+", "-", "*", "/"),
                    operands=_list({"$ref": "#/$defs/term"}, minItems=2, maxItems=3),
                ),
            ]
        }
    },
    "$ref": "#/$defs/term",
}
_MUTUAL: Final = {
    "$defs": {
        "folder": _object(name=TEXT, entries=_list({"$ref": "#/$defs/entry"})),
        "file": _object(name=TEXT, size_bytes={"type": "integer", "minimum": 0}),
        "entry": {"anyOf": [{"$ref": "#/$defs/folder"}, {"$ref": "#/$defs/file"}]},
    },
    "$ref": "#/$defs/folder",
}
_JSON: Final = {
    "$defs": {
        "value": {
            "anyOf": [
                {"type": ["string", "number", "boolean", "null"]},
                _list({"$ref": "#/$defs/value"}),
                {"type": "object", "additionalProperties": {"$ref": "#/$defs/value"}},
            ]
        }
    },
    "type": "object",
    "properties": {"document": {"$ref": "#/$defs/value"}},
    "required": ["document"],
}

SCHEMAS: Final = (
    # One value
    Asked("text", TEXT, "Grüße, 東京 \"quoted\"\n"),
    Asked("integer", COUNT, -42),
    Asked("number", NUMBER, 2.5e-3),
    Asked("boolean", FLAG, True),
    Asked("null", {"type": "null"}, None),
    Asked("constant", {"const": {"a": [1, "b", None]}}, {"a": [1, "b", None]}),
    Asked("words", _enum("red", "green", "dark blue"), "dark blue"),
    Asked("mixed values", _enum(1, "1", True, None, 2.5, [], {"k": 1}), {"k": 1}),
    Asked("several types", {"type": ["string", "integer", "null"]}, 7),
    # Flat objects
    Asked("one property", _object(answer=TEXT), {"answer": "yes"}),
    Asked("person", _object(name=TEXT, age=COUNT, is_member=FLAG), {"name": "Ada", "age": 36, "is_member": True}),
    Asked("optional properties", _object("b", a=TEXT, b=COUNT, c=FLAG), {"b": 1, "c": False}),
    Asked("all optional", {"type": "object", "properties": {"a": TEXT, "b": COUNT}}, {"b": 2}),
    Asked("no properties", _object(), {}),
    Asked("any object", {"type": "object"}, {"x": [1, {"y": None}]}),
    Asked("nullable", _object(name={"type": "string", "nullable": True}), {"name": None}),
    Asked("optional by union", _object(name={"anyOf": [TEXT, {"type": "null"}], "default": None}), {"name": "x"}),
    Asked("long keys", _object(**{f"the_{n}_property_of_the_answer": COUNT for n in ("first", "second", "third")}), {
        "the_first_property_of_the_answer": 1, "the_second_property_of_the_answer": 2, "the_third_property_of_the_answer": 3}),
    Asked("odd keys", _object(**{'say "x"': TEXT, "größe": COUNT, "a/b~c": FLAG, "": NUMBER}), {
        'say "x"': "y", "größe": 1, "a/b~c": True, "": 0.5}),
    # Ranges and lengths
    Asked("range of integers", {"type": "integer", "minimum": -5, "maximum": 120}, 99),
    Asked("open range", {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.25),
    Asked("open range of old", {"type": "integer", "minimum": 0, "exclusiveMinimum": True}, 1),
    Asked("above", {"type": "number", "minimum": 1000.5}, 1000.75),
    Asked("below zero", {"type": "integer", "maximum": -10}, -11),
    Asked("multiples", {"type": "integer", "multipleOf": 15, "minimum": 0, "maximum": 300}, 45),
    Asked("cents", {"type": "number", "multipleOf": 0.01, "minimum": 0}, 19.99),
    Asked("short text", {"type": "string", "minLength": 2, "maxLength": 5}, "日本語"),
    Asked("three items", _list(COUNT, minItems=3, maxItems=3), [1, 2, 3]),
    Asked("some items", _list(_enum("a", "b"), minItems=1, maxItems=4), ["a", "b", "a"]),
    Asked("empty list", _list(TEXT, maxItems=0), []),
    # Patterns and formats
    Asked("pattern", {"type": "string", "pattern": "^[A-Z]{2}-\\d{4}$"}, "AB-1234"),
    Asked("pattern anywhere", {"type": "string", "pattern": "(cat|dog)s?"}, "two dogs"),
    Asked("pattern and length", {"type": "string", "pattern": "^a*b*$", "minLength": 3, "maxLength": 6}, "aabb"),
    Asked("two patterns", {"allOf": [{"type": "string", "pattern": "^a"}, {"pattern": "z$"}]}, "a to z"),
    Asked("date", _object(day={"type": "string", "format": "date"}), {"day": "2024-02-29"}),
    Asked("moment", {"type": "string", "format": "date-time"}, "2025-11-21T18:30:00.5+01:00"),
    Asked("identifier", {"type": "string", "format": "uuid"}, "2eb8aa08-aa98-11ea-b4aa-73b441d16380"),
    Asked("addresses", _object(mail={"type": "string", "format": "email"}, host={"type": "string", "format": "ipv4"}), {
        "mail": "ada@example.com", "host": "192.168.0.1"}),
    Asked("link", {"type": "string", "format": "uri"}, "https://example.com/a?b=c#d"),
    Asked("number of 32 bits", {"type": "integer", "format": "int32"}, 2147483647),
    # Lists
    Asked("list of objects", _list(_object(id=COUNT, tag=TEXT)), [{"id": 1, "tag": "a"}, {"id": 2, "tag": "b"}]),
    Asked("matrix", _list(_list(NUMBER, minItems=2, maxItems=2), minItems=2, maxItems=2), [[1, 0], [0, 1.5]]),
    Asked("tuple", {"type": "array", "prefixItems": [TEXT, COUNT, FLAG], "items": False, "minItems": 3}, ["a", 1, True]),
    Asked("tuple of old", {"type": "array", "items": [TEXT, COUNT], "additionalItems": FLAG}, ["a", 1, True, False]),
    Asked("tuple in part", {"type": "array", "prefixItems": [TEXT, COUNT], "minItems": 1, "items": False}, ["a"]),
    # Maps
    Asked("map of numbers", {"type": "object", "additionalProperties": NUMBER}, {"a": 1, "b": 2.5}),
    Asked("map with names", {"type": "object", "propertyNames": {"pattern": "^[a-z]{1,8}$"}, "additionalProperties": COUNT}, {
        "one": 1}),
    Asked("map of listed names", {"type": "object", "propertyNames": _enum("x", "y"), "additionalProperties": COUNT}, {"y": 2}),
    Asked("map by pattern", {
        "type": "object", "patternProperties": {"^n_": COUNT, "^t_": TEXT}, "additionalProperties": False}, {
        "n_a": 1, "t_b": "x"}),
    Asked("named and others", {
        "type": "object", "properties": {"id": COUNT}, "required": ["id"], "additionalProperties": TEXT}, {
        "id": 1, "note": "x"}),
    Asked("one at least", {"type": "object", "properties": {"a": TEXT, "b": COUNT, "c": FLAG}, "minProperties": 1}, {"b": 1}),
    Asked("counted map", {"type": "object", "additionalProperties": COUNT, "minProperties": 1, "maxProperties": 3}, {"a": 1}),
    # Choices
    Asked("any of objects", {"anyOf": [_object(x=COUNT), _object(y=TEXT)]}, {"y": "z"}),
    Asked("tagged union", {
        "oneOf": [_object(type={"const": "circle"}, radius=NUMBER), _object(type={"const": "box"}, side=NUMBER)],
        "discriminator": {"propertyName": "type"}}, {"type": "box", "side": 2}),
    Asked("union beside properties", {"type": "object", "properties": {"id": COUNT}, "required": ["id"],
        "anyOf": [
            {"properties": {"mail": TEXT}, "required": ["mail"]},
            {"properties": {"phone": TEXT}, "required": ["phone"]}]}, {
        "id": 1, "phone": "555"}),
    Asked("together", {"allOf": [
        _object(a=COUNT) | {"additionalProperties": True}, {"properties": {"b": TEXT}, "required": ["b"]}]}, {
        "a": 1, "b": "x"}),
    Asked("extended by reference", {"$defs": {"base": {"type": "object", "properties": {"id": COUNT}, "required": ["id"]}},
        "allOf": [{"$ref": "#/$defs/base"}], "properties": {"name": TEXT}, "required": ["name"],
        "unevaluatedProperties": False}, {
        "id": 1, "name": "x"}),
    Asked("one needs another", {"type": "object", "properties": {"card": TEXT, "address": TEXT},
        "dependentRequired": {"card": ["address"]}}, {"card": "1", "address": "x"}),
    Asked("narrowed number", {"allOf": [{"type": "number", "minimum": 0}, {"type": "integer", "maximum": 9}]}, 5),
    Asked("narrowed words", {"allOf": [_enum("a", "b", "c"), _enum("b", "c", "d")]}, "c"),
    # References and recursion
    Asked("definitions", {"definitions": {"point": _POINT}, "type": "object", "properties": {
        "from": {"$ref": "#/definitions/point"}, "to": {"$ref": "#/definitions/point"}}, "required": ["from", "to"]}, {
        "from": {"x": 0, "y": 0.5}, "to": {"x": -1, "y": 2}}),
    Asked("reference to a property", {"type": "object", "properties": {"a": _list(TEXT), "b": {"$ref": "#/properties/a"}},
        "required": ["a", "b"]}, {"a": [], "b": ["x"]}),
    Asked("tree", _TREE, {"value": 1, "children": [{"value": 2, "children": []}]}),
    Asked("linked list", _LINKED, {"head": "a", "tail": {"head": "b", "tail": None}}),
    Asked("formula", _FORMULA, {"kind": "call", "operator": "+", "operands": [
        {"kind": "number", "value": 1}, {"kind": "name", "name": "x"}]}),
    Asked("folders", _MUTUAL, {"name": "/", "entries": [{"name": "a", "size_bytes": 0}, {"name": "b", "entries": []}]}),
    Asked("any JSON", _JSON, {"document": [1, "a", {"b": [None, True]}]}),
    # Whole documents
    Asked("order", _object(
        id={"type": "string", "format": "uuid"},
        status=_enum("open", "paid", "sent"),
        lines=_list(_object(
            sku={"type": "string", "pattern": "^[A-Z0-9]{4,8}$"},
            quantity={"type": "integer", "minimum": 1, "maximum": 99},
            price={"type": "number", "minimum": 0, "multipleOf": 0.01}), minItems=1),
        note={"type": ["string", "null"], "maxLength": 80}), {
        "id": "2eb8aa08-aa98-11ea-b4aa-73b441d16380", "status": "paid",
        "lines": [{"sku": "AB12", "quantity": 2, "price": 3.5}], "note": None}),
    Asked("reasoning", _object(steps=_list(_object(explanation=TEXT, output=TEXT), minItems=1), final_answer=TEXT), {
        "steps": [{"explanation": "2 + 2", "output": "4"}], "final_answer": "4"}),
    Asked("page", {"$defs": {"block": {"anyOf": [
            _object(kind={"const": "text"}, text=TEXT),
            _object(kind={"const": "list"}, items=_list({"$ref": "#/$defs/block"})),
            _object("kind rows", kind={"const": "table"}, header=_list(TEXT), rows=_list(_list(TEXT)))]}},
        **_object(title={"type": "string", "minLength": 1}, tags={"type": "object", "additionalProperties": TEXT},
            blocks=_list({"$ref": "#/$defs/block"}, maxItems=5))}, {
        "title": "T", "tags": {"lang": "en"},
        "blocks": [{"kind": "list", "items": [{"kind": "text", "text": "a"}]}, {"kind": "table", "rows": [["x"]]}]}),
    Asked("calendar", _object(events=_list(_object(
        "title starts_at place",
        title={"type": "string", "minLength": 1, "maxLength": 60},
        starts_at={"type": "string", "format": "date-time"},
        duration={"type": "string", "format": "duration"},
        place={"anyOf": [_POINT, {"type": "string", "minLength": 1}, {"type": "null"}]},
        guests=_list({"type": "string", "format": "email"}, maxItems=3)))), {
        "events": [{"title": "x", "starts_at": "2025-01-01T10:00:00Z", "place": {"x": 1, "y": 2}, "guests": ["a@b.de"]}]}),
)  # fmt: skip

# Their values can be of any depth or number, or their names of any length: a model that finds no end of them writes on.
ENDLESS: Final = frozenset(
    {
        "any JSON",
        "any object",
        "counted map",
        "folders",
        "formula",
        "linked list",
        "map by pattern",
        "map of numbers",
        "named and others",
        "page",
        "together",
        "tree",
    }
)
_MOST_CHARS: Final = 24
_MOST_ITEMS: Final = 2


def faults(schema: Any, text: str) -> list[str]:
    """What the jsonschema package finds wrong with JSON, formats included. Drafts are told apart by what they differ in.

    Numbers are decimal, as they stand there: by doubles 19.99 is no multiple of 0.01.
    """
    try:
        value = json.loads(text, parse_float=Decimal)
    except ValueError as error:
        return [f"no JSON: {error}"]
    validator = Draft4Validator if _is_old(schema) else Draft202012Validator
    exact = json.loads(json.dumps(_as_union(schema)), parse_float=Decimal)
    with localcontext(prec=100):
        return [error.message for error in validator(exact, format_checker=FormatChecker()).iter_errors(value)]


def _is_old(schema: Any) -> bool:
    """Whether anything in it is said as draft 4 has it."""
    if isinstance(schema, list):
        return any(map(_is_old, schema))
    if not isinstance(schema, Mapping):
        return False
    is_here = isinstance(schema.get("items"), list) or isinstance(schema.get("exclusiveMinimum"), bool)
    return is_here or any(map(_is_old, schema.values()))


def _as_union(schema: Any) -> Any:
    """With OpenAPI's `nullable` said as JSON Schema has it."""
    if isinstance(schema, list):
        return [_as_union(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    plain = {key: _as_union(one) for key, one in schema.items() if key != "nullable"}
    return {"anyOf": [plain, {"type": "null"}]} if schema.get("nullable") is True else plain


def bounded(schema: Any) -> Any:
    """The same for short texts and short lists, where it says nothing of their lengths."""
    if not isinstance(schema, Mapping):
        return schema
    made = {key: _bounded_part(key, one) for key, one in schema.items()}
    types = made.get("type", ())
    types = {types} if isinstance(types, str) else set(types)
    if "string" in types:
        made.setdefault("maxLength", max(_MOST_CHARS if "format" not in made else 60, made.get("minLength", 0)))
    if "array" in types:
        listed = made.get("prefixItems", made["items"] if isinstance(made.get("items"), list) else ())
        made.setdefault("maxItems", max(_MOST_ITEMS, made.get("minItems", 0), len(listed) + bool(listed)))
    if "object" in types and "additionalProperties" in made and not {"properties", "patternProperties"} & made.keys():
        made.setdefault("maxProperties", max(_MOST_ITEMS, made.get("minProperties", 0)))
    return made


def _bounded_part(keyword: str, part: Any) -> Any:
    if keyword in ("$defs", "definitions", "patternProperties", "properties"):
        return {name: bounded(one) for name, one in part.items()}
    if keyword in ("allOf", "anyOf", "oneOf", "prefixItems") or (keyword == "items" and isinstance(part, list)):
        return [bounded(one) for one in part]
    return bounded(part) if keyword in ("items", "additionalProperties") else part


def as_parameters(schema: Any) -> dict[str, Any]:
    """The parameters of a tool with one argument, `value`, that meets the schema."""
    schema = json.loads(json.dumps(schema).replace("#/properties/", "#/properties/value/properties/"))
    holders = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    value = {key: one for key, one in schema.items() if key not in holders}
    return {**holders, "type": "object", "properties": {"value": value}, "required": ["value"], "additionalProperties": False}
