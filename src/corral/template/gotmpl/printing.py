"""The values of a Go template, and how Go prints them: what `{{ . }}` and `print` write.

A value is None, a bool, an int, a float, a str, bytes, a list (a slice), a dict (a map), or one of the classes below.
Source: Go 1.26 fmt/print.go, written anew.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite, isnan
from typing import Any


class Struct:
    """A Go struct, or a pointer to one. `fields` can be looked up; `type_name` is what complaints call it.

    `text` is its String method, where it has one; `wire` is what its JSON is made of, None where its fields are that.
    """

    __slots__ = ("fields", "methods", "text", "type_name", "wire")

    def __init__(
        self,
        type_name: str,
        fields: Mapping[str, Any],
        *,
        wire: Any = None,
        text: Callable[[], str] | None = None,
        methods: Mapping[str, Callable[[], Any]] | None = None,
    ) -> None:
        self.type_name = type_name
        self.fields = fields
        self.wire = wire
        self.text = text
        self.methods: Mapping[str, Callable[[], Any]] = methods or ({"String": text} if text else {})


class OrderedMap(Struct):
    """A map whose keys keep the order in which they were given, in what it prints and when it is ranged over."""

    __slots__ = ()


class Items(list[Any]):
    """A slice that prints itself, as JSON."""

    __slots__ = ("text", "type_name")

    def __init__(self, items: Iterable[Any], type_name: str, text: Callable[[], str]) -> None:
        super().__init__(items)
        self.type_name = type_name
        self.text = text


def type_name(value: Any) -> str:
    """What Go calls the type of this."""
    if isinstance(value, Struct | Items):
        return value.type_name
    names = {type(None): "<nil>", bool: "bool", int: "int", float: "float64", str: "string", bytes: "[]uint8"}
    if known := names.get(type(value)):
        return known
    return "[]interface {}" if isinstance(value, list | tuple) else "map[string]interface {}"


def shown(value: Any) -> str:
    """The value as `%v` writes it."""
    if isinstance(value, str):
        return value
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return float_text(value)
    text = getattr(value, "text", None)
    if text is not None:
        return str(text())
    if isinstance(value, Struct):
        return "{" + " ".join(map(shown, value.fields.values())) + "}"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{shown(key)}:{shown(value[key])}" for key in sorted(value, key=str)) + "]"
    return "[" + " ".join(map(shown, value)) + "]"


def float_text(value: float, *, exponent_from: int = 6, exponent_below: int = -4) -> str:
    """The fewest digits that mean this number; with an exponent where the number is as large, or as small, as that."""
    if not isfinite(value):
        return "NaN" if isnan(value) else ("+Inf" if value > 0 else "-Inf")
    from decimal import Decimal

    is_negative, all_digits, shift = Decimal(repr(value)).as_tuple()
    assert isinstance(shift, int)
    digits = "".join(map(str, all_digits)).rstrip("0") or "0"
    exponent = len(all_digits) - 1 + shift if any(all_digits) else 0
    sign = "-" if is_negative else ""
    if exponent < exponent_below or exponent >= exponent_from:
        return f"{sign}{_pointed(digits, 1)}e{exponent:+03d}"
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    return sign + _pointed(digits.ljust(exponent + 1, "0"), exponent + 1)


def _pointed(digits: str, at: int) -> str:
    return f"{digits[:at]}.{digits[at:]}" if len(digits) > at else digits


def joined(values: Sequence[Any]) -> str:
    """As `print` writes them: with a space between two of which neither is text."""
    parts: list[str] = []
    for index, value in enumerate(values):
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            parts.append(" ")
        parts.append(shown(value))
    return "".join(parts)
