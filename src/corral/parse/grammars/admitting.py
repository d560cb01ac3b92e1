"""Whether a value meets a shape. For the values that a schema lists itself: what is left of them once all else has had its say.

A pattern is never run here: the pattern and the text are both a stranger's, and together they may take for ever.
"""

from collections.abc import Mapping
from typing import Any

from corral.parse.grammars.shapes import Schema, Shape, exact, is_whole, sameness, type_of


class UnknownError(Exception):
    """It depends on a pattern."""


def admits(schema: Schema, number: int, value: Any) -> bool:
    """Raises UnknownError where a pattern decides."""
    shape = schema[number]
    if shape.options is not None:
        return any(admits(schema, option, value) for option in shape.options)
    if shape.values is not None and sameness(value) not in map(sameness, shape.values):
        return False
    if not admits_beside_patterns(schema, shape, value):
        return False
    if shape.patterns and isinstance(value, str):
        raise UnknownError
    return True


def admits_beside_patterns(schema: Schema, shape: Shape, value: Any) -> bool:
    """The same, leaving aside the patterns of the shape itself and the values that it lists."""
    kind = type_of(value)
    if kind not in shape.types:
        return False
    match kind:
        case "number":
            return _is_in_range(shape, value)
        case "string":
            return shape.min_length <= len(value) and (shape.max_length is None or len(value) <= shape.max_length)
        case "array":
            return _are_items(schema, shape, value)
        case "object":
            return _are_properties(schema, shape, value)
        case _:
            return True


def _is_in_range(shape: Shape, value: float) -> bool:
    number = exact(value)
    if shape.is_integer and not is_whole(value):
        return False
    if shape.low is not None and (number < shape.low or (shape.is_low_open and number == shape.low)):
        return False
    if shape.high is not None and (number > shape.high or (shape.is_high_open and number == shape.high)):
        return False
    return shape.step is None or (number / shape.step).denominator == 1


def _are_items(schema: Schema, shape: Shape, value: list[Any]) -> bool:
    if len(value) < shape.min_items or (shape.max_items is not None and len(value) > shape.max_items):
        return False
    if shape.is_unique and len({*map(sameness, value)}) < len(value):
        return False
    kinds = [*shape.prefix[: len(value)], *[shape.items] * (len(value) - len(shape.prefix))]
    return all(admits(schema, kind, one) for kind, one in zip(kinds, value, strict=True))


def _are_properties(schema: Schema, shape: Shape, value: Mapping[str, Any]) -> bool:
    size = len(value)
    if size < shape.min_properties or (shape.max_properties is not None and size > shape.max_properties):
        return False
    if not all(name in value for name in shape.required):
        return False
    if shape.patterned or shape.names:
        raise UnknownError
    return all(admits(schema, shape.properties.get(name, shape.rest), one) for name, one in value.items())
