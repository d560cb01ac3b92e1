"""Whether two shapes have no value in common, as far as that is easily told. What oneOf lists must not overlap."""

from typing import Final

from corral.parse.grammars.admitting import UnknownError, admits
from corral.parse.grammars.shapes import NOTHING, Schema, Shape

_MAX_DEPTH: Final = 12


def are_disjoint(schema: Schema, one: int, other: int, depth: int = 0) -> bool:
    """False also where it is not known."""
    if NOTHING in (one, other):
        return True
    if one == other or depth > _MAX_DEPTH:
        return False
    first, second = schema[one], schema[other]
    if first.options is not None:
        return all(are_disjoint(schema, option, other, depth + 1) for option in first.options)
    if second.options is not None:
        return all(are_disjoint(schema, one, option, depth + 1) for option in second.options)
    if first.values is not None:
        return _none_of(schema, first, other)
    if second.values is not None:
        return _none_of(schema, second, one)
    return all(_differ(schema, kind, first, second, depth) for kind in first.types & second.types)


def _none_of(schema: Schema, listed: Shape, other: int) -> bool:
    try:
        return not any(admits(schema, other, value) for value in listed.values or ())
    except UnknownError:
        return False


def _differ(schema: Schema, kind: str, one: Shape, other: Shape, depth: int) -> bool:
    match kind:
        case "number":
            return _are_apart(one, other) or _are_apart(other, one)
        case "string":
            return _is_beyond(one.min_length, other.max_length) or _is_beyond(other.min_length, one.max_length)
        case "array":
            return (
                _is_beyond(one.min_items, other.max_items)
                or _is_beyond(other.min_items, one.max_items)
                or any(
                    are_disjoint(schema, _item(one, at), _item(other, at), depth + 1)
                    for at in range(min(max(one.min_items, other.min_items), max(len(one.prefix), len(other.prefix)) + 1))
                )
            )
        case "object":
            return _do_objects_differ(schema, one, other, depth)
        case _:
            return False


def _are_apart(low: Shape, high: Shape) -> bool:
    if low.high is None or high.low is None:
        return False
    return low.high < high.low or (low.high == high.low and (low.is_high_open or high.is_low_open))


def _is_beyond(least: int, most: int | None) -> bool:
    return most is not None and least > most


def _item(shape: Shape, at: int) -> int:
    return shape.prefix[at] if at < len(shape.prefix) else shape.items


def _do_objects_differ(schema: Schema, one: Shape, other: Shape, depth: int) -> bool:
    """Whether a property that one of them requires can be no property of both."""
    if one.patterned or other.patterned:
        return False
    return any(
        are_disjoint(schema, one.properties.get(name, one.rest), other.properties.get(name, other.rest), depth + 1)
        for name in {**one.required, **other.required}
    )
