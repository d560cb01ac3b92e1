"""The keywords of JSON Schema: which count, which say nothing about values, and what each must be.

What is in neither list is refused by its name: a constraint is never left out in silence, be it misspelt or not enforceable.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from corral.core.errors import BadRequestError
from corral.parse.grammars.refusals import shown
from corral.parse.grammars.shapes import TYPES

# They describe, they name, or they hold schemas that count only where something refers to them.
ANNOTATIONS: Final = frozenset(
    {
        "$anchor",
        "$comment",
        "$defs",
        "$dynamicAnchor",  # means something to $dynamicRef alone, which is refused
        "$id",
        "$recursiveAnchor",
        "$schema",
        "$vocabulary",
        "contentEncoding",
        "contentMediaType",
        "contentSchema",
        "default",
        "definitions",
        "deprecated",
        "description",
        "discriminator",  # OpenAPI: tells apart what oneOf lists
        "example",
        "examples",
        "externalDocs",
        "id",
        "readOnly",
        "title",
        "writeOnly",
        "xml",
    }
)

_TYPE_NAMES: Final = {*TYPES, "integer"}


def _is_schema(value: Any) -> bool:
    return isinstance(value, Mapping | bool)


def _is_count(value: Any) -> bool:
    return not isinstance(value, bool) and (
        (isinstance(value, int) and value >= 0) or (isinstance(value, float) and value.is_integer() and value >= 0)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _is_names(value: Any) -> bool:
    return _is_list(value) and all(isinstance(name, str) for name in value)


def _is_schemas(value: Any) -> bool:
    return _is_list(value) and len(value) > 0 and all(map(_is_schema, value))


def _is_schema_map(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_schema, value.values()))


def _is_type(value: Any) -> bool:
    return value in _TYPE_NAMES if isinstance(value, str) else _is_names(value) and len(value) > 0 and set(value) <= _TYPE_NAMES


def _is_dependencies(value: Any) -> bool:
    return isinstance(value, Mapping) and all(_is_schema(one) or _is_names(one) for one in value.values())


_COUNT: Final = (_is_count, "a whole number, 0 or more")
_NUMBER: Final = (_is_number, "a number")
_SCHEMA: Final = (_is_schema, "an object or a boolean")
_SCHEMAS: Final = (_is_schemas, "a list of schemas, not empty")
_SCHEMA_MAP: Final = (_is_schema_map, "an object with schemas")
_BOUND: Final = (lambda value: _is_number(value) or _is_flag(value), "a number")  # a boolean in draft 4

CONSTRAINTS: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "$ref": (_is_text, "a string"),
    "additionalItems": _SCHEMA,
    "additionalProperties": _SCHEMA,
    "allOf": _SCHEMAS,
    "anyOf": _SCHEMAS,
    "const": (lambda _value: True, ""),
    "dependencies": (_is_dependencies, "an object with schemas or lists of names"),
    "dependentRequired": (lambda value: isinstance(value, Mapping) and all(map(_is_names, value.values())), "lists of names"),
    "dependentSchemas": _SCHEMA_MAP,
    "enum": (lambda value: _is_list(value) and len(value) > 0, "a list of values, not empty"),
    "exclusiveMaximum": _BOUND,
    "exclusiveMinimum": _BOUND,
    "format": (_is_text, "a string"),
    "items": (lambda value: _is_schema(value) or (_is_list(value) and all(map(_is_schema, value))), "a schema"),
    "maxItems": _COUNT,
    "maxLength": _COUNT,
    "maxProperties": _COUNT,
    "maximum": _NUMBER,
    "minItems": _COUNT,
    "minLength": _COUNT,
    "minProperties": _COUNT,
    "minimum": _NUMBER,
    "multipleOf": (lambda value: _is_number(value) and value > 0, "a number above 0"),
    "not": _SCHEMA,
    "nullable": (_is_flag, "a boolean"),
    "oneOf": _SCHEMAS,
    "pattern": (_is_text, "a string"),
    "patternProperties": _SCHEMA_MAP,
    "prefixItems": _SCHEMAS,
    "properties": _SCHEMA_MAP,
    "propertyNames": _SCHEMA,
    "propertyOrdering": (_is_names, "a list of names"),  # Gemini's: the order in which properties are written
    "required": (_is_names, "a list of names"),
    "type": (_is_type, f"one of {', '.join(sorted(_TYPE_NAMES))}, or a list of them"),
    "unevaluatedItems": _SCHEMA,
    "unevaluatedProperties": _SCHEMA,
    "uniqueItems": (_is_flag, "a boolean"),
}


def is_annotation(keyword: str) -> bool:
    return keyword in ANNOTATIONS or keyword.startswith("x-")


def check(schema: Mapping[str, Any], path: str, where: str) -> None:
    """Raises BadRequestError where a keyword's value is none that it may have. Says nothing of keywords that are not known."""
    for keyword, value in schema.items():
        is_good, wanted = CONSTRAINTS.get(keyword, (None, ""))
        if is_good is not None and not is_good(value):
            raise BadRequestError(f'{where}: "{keyword}" at {path} is {shown(value)}; it must be {wanted}')
