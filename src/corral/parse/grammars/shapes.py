"""A schema as grammars are made of it: every reference followed, every conjunction carried out, what is left apart by types.

A shape either has options, of which a value meets one, or says for each type what a value of it must be. Shapes refer to each
other by number, so that a recursive schema is a finite list.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

TYPES: Final = ("null", "boolean", "number", "string", "array", "object")
ANYTHING: Final = 0  # the number of the shape that every value meets
NOTHING: Final = 1  # of the one that none does


@dataclass(slots=True, kw_only=True)
class Shape:
    """What a value must be. Members of types that are not in `types` mean nothing."""

    path: str  # in the schema, for messages
    types: frozenset[str] = frozenset(TYPES)
    options: list[int] | None = None  # shapes of which a value meets one; nothing else counts then
    values: list[Any] | None = None  # the value is one of these; of the rest only `patterns` counts then

    is_integer: bool = False
    low: Fraction | None = None
    high: Fraction | None = None
    is_low_open: bool = False  # the bound itself is no value
    is_high_open: bool = False
    step: Fraction | None = None  # the number is a multiple of it

    min_length: int = 0
    max_length: int | None = None
    patterns: tuple[str, ...] = ()  # regexes of whole strings, each to be met

    prefix: list[int] = field(default_factory=list)  # of the first items
    items: int = ANYTHING  # of those that follow
    min_items: int = 0
    max_items: int | None = None
    is_unique: bool = False  # no two items are the same; done away with at last

    properties: dict[str, int] = field(default_factory=dict)
    required: dict[str, None] = field(default_factory=dict)  # all of them are in `properties`
    patterned: dict[str, int] = field(default_factory=dict)  # by regexes of whole names
    rest: int = ANYTHING  # of all other properties
    names: list[int] = field(default_factory=list)  # what every property's name must be, as a string; done away with at last
    min_properties: int = 0
    max_properties: int | None = None


@dataclass(frozen=True, slots=True)
class Schema:
    """A compiled schema. `where` is what the request calls it."""

    where: str
    shapes: list[Shape]
    root: int

    def __getitem__(self, number: int) -> Shape:
        return self.shapes[number]

    def parts(self, number: int) -> list[int]:
        """The shapes that this one refers to."""
        shape = self.shapes[number]
        if shape.options is not None:
            return shape.options
        if shape.values is not None:
            return []
        found: list[int] = []
        if "array" in shape.types:
            found += [*shape.prefix, shape.items]
        if "object" in shape.types:
            found += [*shape.properties.values(), *shape.patterned.values(), shape.rest]
        return found

    def reachable(self, root: int) -> list[int]:
        """That shape and all it leads to, each once, itself first."""
        found = {root: None}
        ahead = [root]
        while ahead:
            new = [part for part in self.parts(ahead.pop()) if part not in found]
            found.update(dict.fromkeys(new))
            ahead += new
        return list(found)


def type_of(value: Any) -> str:
    """The JSON type of a value; every number is a "number".

    >>> [type_of(value) for value in (None, True, 1, 1.5, "", [], {})]
    ['null', 'boolean', 'number', 'number', 'string', 'array', 'object']
    """
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case Mapping():
            return "object"
        case _:
            return "array"


def is_whole(value: float) -> bool:
    """Whether a number is an integer, as JSON Schema sees it: 1.0 is one."""
    return isinstance(value, int) or value.is_integer()


def sameness(value: Any) -> Hashable:
    """What is equal for values that are equal in JSON: true is not 1, and 1.0 is."""
    match value:
        case Mapping():
            return "object", frozenset((name, sameness(one)) for name, one in value.items())
        case list() | tuple():
            return "array", tuple(map(sameness, value))
        case _:
            return type_of(value), value


def exact(number: float) -> Fraction:
    """The number as it is written in decimals: 0.1 is a tenth."""
    return Fraction(number) if isinstance(number, int) else Fraction(repr(number))


def step_parts(path: str, key: str) -> str:
    """The path one key further.

    >>> step_parts("$.properties", "a b"), step_parts("$.anyOf", "0")
    ('$.properties["a b"]', '$.anyOf[0]')
    """
    if key.isdecimal():
        return f"{path}[{key}]"
    return f"{path}.{key}" if key.isidentifier() or key.startswith("$") else f'{path}["{key}"]'
