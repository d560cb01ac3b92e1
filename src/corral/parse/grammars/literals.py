"""Values that are not written as JSON: Python's literals, and Gemma's braces. Told rule by rule, from a schema's shapes."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final

from corral.parse.grammars.json_form import embedded
from corral.parse.grammars.lark import Lark, in_order, maybe, one_of, quoted, sequence, times
from corral.parse.grammars.patterns import literal, without
from corral.parse.grammars.refusals import UnenforceableError, shown
from corral.parse.grammars.shapes import NOTHING, Schema, Shape

_BARE: Final = r"[A-Za-z_][A-Za-z0-9_.-]{0,63}"
_BARE_NAME: Final = re.compile(r"[^\s:=,(){}\[\]<>\"']{1,256}")  # what values.py reads as a key
_DOUBLE: Final = r'"\""  /(?:[^"\\\x00-\x1f\x7f]|\\["\x27\\nrt])*/ "\""'
_SINGLE: Final = r'"\x27" /(?:[^\x27\\\x00-\x1f\x7f]|\\["\x27\\nrt])*/ "\x27"'


class Literals(ABC):
    """Rules for values of one schema."""

    colon = ": "
    comma = ", "
    words: dict[Any, str]

    def __init__(self, lark: Lark, schema: Schema) -> None:
        self.lark = lark
        self.schema = schema
        self._rules: dict[int, str] = {}
        self._waiting: list[int] = []

    @abstractmethod
    def string(self, shape: Shape) -> str:
        """Strings that meet the shape."""

    @abstractmethod
    def text(self, value: str) -> str:
        """That string."""

    @abstractmethod
    def key(self, name: str) -> str:
        """The key of an object's member."""

    @abstractmethod
    def any_key(self, patterns: list[str], taken: list[str]) -> str:
        """Any key that matches one of the patterns, if there are any, and is none of those that are taken."""

    def order(self, names: list[str]) -> list[str]:
        """The order in which members are written."""
        return names

    def value(self, number: int) -> str:
        """The name of a rule for the values of a shape."""
        if number not in self._rules:
            self._rules[number] = self.lark.promised()
            self._waiting.append(number)
        return self._rules[number]

    def settle(self) -> None:
        """Writes the rules that were promised. One leads to others, however deep: they wait in a list."""
        while self._waiting:
            number = self._waiting.pop()
            self.lark.keep(self._rules[number], self._alternatives(number))

    def _alternatives(self, number: int) -> str:
        shape = self.schema[number]
        if shape.options is not None:
            return one_of([self.value(option) for option in shape.options])
        if shape.values is not None:
            if shape.patterns:
                raise UnenforceableError(f'{self.schema.where}: "enum" at {shape.path} stands beside a pattern')
            return one_of([self.fixed(value) for value in shape.values])
        kinds: dict[str, Callable[[], str]] = {
            "null": lambda: quoted(self.words[None]),
            "boolean": lambda: one_of([quoted(self.words[True]), quoted(self.words[False])]),
            "number": lambda: embedded(self.schema, number, types=frozenset({"number"})),
            "string": lambda: self.string(shape),
            "array": lambda: self._array(shape),
            "object": lambda: sequence((quoted("{"), self.members(shape, self.colon), quoted("}"))),
        }
        return one_of([self.lark.rule(written()) for kind, written in kinds.items() if kind in shape.types])

    def fixed(self, value: Any) -> str:
        """That value and no other."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            members = (
                sequence((self.key(name), quoted(self.colon), self.fixed(value[name]))) for name in self.order(list(value))
            )
            return sequence((quoted("{"), f" {quoted(self.comma)} ".join(members), quoted("}")))
        if isinstance(value, list | tuple):
            return sequence((quoted("["), f" {quoted(self.comma)} ".join(map(self.fixed, value)), quoted("]")))
        return quoted(self.words[value] if value is None or isinstance(value, bool) else json.dumps(value))

    def members(self, shape: Shape, colon: str) -> str:
        """The members of an object, without what is around them."""
        if shape.min_properties or shape.max_properties is not None:
            raise UnenforceableError(
                f'{self.schema.where}: "minProperties" and "maxProperties" at {shape.path} are not supported with the way '
                "in which this model writes calls"
            )
        named = [
            (sequence((self.key(name), quoted(colon), self.value(shape.properties[name]))), name in shape.required)
            for name in self.order([name for name, one in shape.properties.items() if one != NOTHING])
        ]
        taken = list(shape.properties)
        others = [(regex, one) for regex, one in shape.patterned.items() if one != NOTHING]
        if others and taken:
            raise UnenforceableError(
                f'{self.schema.where}: "patternProperties" at {shape.path} is not supported beside "properties", with the way '
                "in which this model writes calls"
            )
        more = [sequence((self.any_key([regex], taken), quoted(colon), self.value(one))) for regex, one in others]
        if shape.rest != NOTHING and shape.patterned:
            raise UnenforceableError(
                f'{self.schema.where}: "patternProperties" at {shape.path} needs "additionalProperties": false, with the way '
                "in which this model writes calls"
            )
        if shape.rest != NOTHING:
            more.append(sequence((self.any_key([], taken), quoted(colon), self.value(shape.rest))))
        return in_order(self.lark, named, quoted(self.comma), self.lark.rule(one_of(more)) if more else "")

    def _array(self, shape: Shape) -> str:
        comma, most = quoted(self.comma), shape.max_items
        inner = ""
        if shape.items != NOTHING and (most is None or most > len(shape.prefix)):
            item, left = self.value(shape.items), None if most is None else most - len(shape.prefix)
            least = max(0, shape.min_items - len(shape.prefix))
            if shape.prefix:
                inner = times(sequence((comma, item)), least, left)
            else:
                some = sequence((item, times(sequence((comma, item)), max(0, least - 1), None if left is None else left - 1)))
                inner = some if least else maybe(some)
        for at, one in reversed(list(enumerate(shape.prefix))):
            inner = sequence((comma if at else "", self.value(one), inner))
            inner = inner if at < shape.min_items else maybe(inner)
        return sequence((quoted("["), inner, quoted("]")))


class PythonLiterals(Literals):
    """As Python prints values. Strings that must be something are written as JSON writes them, which Python reads the same."""

    words: dict[Any, str] = {True: "True", False: "False", None: "None"}  # noqa: RUF012

    def string(self, shape: Shape) -> str:
        if shape.patterns or shape.min_length or shape.max_length is not None:
            found = next(number for number, one in enumerate(self.schema.shapes) if one is shape)
            return embedded(self.schema, found, types=frozenset({"string"}))
        return one_of([self.lark.rule(_DOUBLE), self.lark.rule(_SINGLE)])

    def text(self, value: str) -> str:
        return one_of([quoted(repr(value)), quoted(json.dumps(value, ensure_ascii=False))])

    def key(self, name: str) -> str:
        return one_of([quoted(repr(name)), quoted(json.dumps(name, ensure_ascii=False))])

    def any_key(self, patterns: list[str], taken: list[str]) -> str:
        name = _other(self.lark, patterns, taken)
        return one_of([sequence((quoted(mark), name, quoted(mark))) for mark in ("'", '"')])


class PythonArguments(PythonLiterals):
    """The arguments of a call: their keys stand bare."""

    def __init__(self, lark: Lark, schema: Schema, nested: PythonLiterals) -> None:
        super().__init__(lark, schema)
        self._nested = nested

    def arguments(self, number: int) -> str:
        shape = self.schema[number]
        if shape.options is not None:
            return one_of([self.lark.rule(self.arguments(option) or '""') for option in shape.options])
        if shape.values is not None:
            raise UnenforceableError(f'{self.schema.where}: "enum" at {shape.path} is not supported for all arguments together')
        return self.members(shape, "=")

    def value(self, number: int) -> str:
        return self._nested.value(number)

    def key(self, name: str) -> str:
        return quoted(bare(self.schema, name))

    def any_key(self, patterns: list[str], taken: list[str]) -> str:
        return _other(self.lark, patterns, taken)


class BracedLiterals(Literals):
    """Keys stand bare and in alphabetical order, strings between marks of their own, as they are."""

    colon = ":"
    comma = ","
    words: dict[Any, str] = {True: "true", False: "false", None: "null"}  # noqa: RUF012

    def __init__(self, lark: Lark, schema: Schema, quote: str) -> None:
        super().__init__(lark, schema)
        self._quote = quote

    def order(self, names: list[str]) -> list[str]:
        return sorted(names, key=str.casefold)

    def string(self, shape: Shape) -> str:
        text = content(self.lark, shape, self._quote)
        return sequence((quoted(self._quote), self.lark.terminal(sequence((text, quoted(self._quote))))))

    def text(self, value: str) -> str:
        if self._quote in value:
            raise UnenforceableError(f"{self.schema.where}: this model cannot write the string {value!r} in a call")
        return quoted(self._quote + value + self._quote)

    def key(self, name: str) -> str:
        return quoted(bare(self.schema, name))

    def any_key(self, patterns: list[str], taken: list[str]) -> str:
        return _other(self.lark, patterns, taken)


def bare(schema: Schema, name: str) -> str:
    """A key that stands without quotes. Raises UnenforceableError where it cannot."""
    if not _BARE_NAME.fullmatch(name):
        raise UnenforceableError(
            f"{schema.where}: the property {shown(name)} has a name that cannot be written in this model's calls"
        )
    return name


def content(lark: Lark, shape: Shape, end: str) -> str:
    """The name of a terminal for strings of a shape that do not have their own end in them."""
    regexes = [without(end), *shape.patterns]
    if shape.min_length or shape.max_length is not None:
        regexes.append(f"(?s:.{{{shape.min_length},{'' if shape.max_length is None else shape.max_length}}})")
    return lark.terminal(" & ".join(f"/{regex}/" for regex in regexes))


def _other(lark: Lark, patterns: list[str], taken: list[str]) -> str:
    """A terminal for names that are letters, digits and the like."""
    parts = [f"/{_BARE}/", *(f"/{regex}/" for regex in patterns)]
    if taken:
        parts.append(f"~/(?:{'|'.join(map(literal, taken))})/")
    return lark.terminal(" & ".join(parts))
