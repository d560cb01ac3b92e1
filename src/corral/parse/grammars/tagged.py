"""Arguments between tags: strings as they are, up to the tag that ends them, and other values as JSON."""

import json
from collections.abc import Sequence
from typing import Final

from corral.parse.formats import TaggedCalls
from corral.parse.grammars.json_form import embedded
from corral.parse.grammars.lark import Lark, in_order, one_of, quoted, sequence
from corral.parse.grammars.literals import content
from corral.parse.grammars.patterns import literal, without
from corral.parse.grammars.refusals import UnenforceableError, shown
from corral.parse.grammars.shapes import ANYTHING, NOTHING, Schema, Shape
from corral.parse.schema import Toolbox
from corral.parse.units import tag_parts

_KEY: Final = r"[A-Za-z_][A-Za-z0-9_.-]{0,63}"
# How values begin that are read as JSON where the tool does not say that the argument is a string.
_BEGINS: Final = {
    "number": r"[ \t\r\n]*-?[0-9](?s:.*)",
    "array": r"[ \t\r\n]*\[(?s:.*)",
    "object": r"[ \t\r\n]*\{(?s:.*)",
    "boolean": r"[ \t\r\n]*(?:[Tt]rue|[Ff]alse)[ \t\r\n]*",
    "null": r"[ \t\r\n]*(?:null|None)[ \t\r\n]*",
}
_WORDS: Final = {"boolean": '"true" | "false" | "True" | "False"', "null": '"null" | "None"'}  # templates write either


class TaggedArguments:
    """Rules for the arguments of one tool. `ends` is the tag after all of them."""

    def __init__(self, lark: Lark, body: TaggedCalls, schema: Schema, name: str, tools: Toolbox) -> None:
        self._lark = lark
        self._body = body
        self._schema = schema
        self._name = name
        self._tools = tools
        self._end = tag_parts(body.after_value)[0]

    def written(self, root: int) -> str:
        shape = self._schema[root]
        if shape.options is not None:
            return one_of([self._lark.rule(self.written(option) or '""') for option in shape.options])
        if shape.values is not None or shape.patterned or shape.min_properties or shape.max_properties is not None:
            raise UnenforceableError(
                f"{self._schema.where}: what stands at {shape.path} beside plain properties is not supported with the way in "
                "which this model writes calls"
            )
        members = [
            (self._lark.rule(self._member(self._key(key), key, one)), key in shape.required)
            for key, one in shape.properties.items()
            if one != NOTHING
        ]
        more = ""
        if shape.rest != NOTHING:
            taken = f" & ~/(?:{'|'.join(map(literal, shape.properties))})/" if shape.properties else ""
            more = self._lark.rule(self._member(self._lark.terminal(f"/{_KEY}/{taken}"), "", shape.rest))
        return in_order(self._lark, members, "", more)

    def _key(self, key: str) -> str:
        begins = (tag_parts(self._body.before_value)[:1], [self._body.before_string.strip()])
        if not key or key != key.strip() or any(part in key for parts in begins for part in parts) or "\n" in key:
            raise UnenforceableError(
                f"{self._schema.where}: the property {shown(key)} has a name that cannot be written in this model's calls"
            )
        return quoted(key)

    def _member(self, key: str, name: str, number: int) -> str:
        body = self._body
        values: list[str] = []
        if text := self._text(name, number):
            values.append(sequence((quoted(body.before_string), text)))
        if other := self._other(number):
            values.append(sequence((quoted(body.before_value), one_of(other), quoted(body.after_value))))
        if not values:
            raise UnenforceableError(
                f"{self._schema.where}: this model cannot write any value of {self._schema[number].path} in a call"
            )
        return sequence((quoted(body.before_key), key, one_of(values)))

    def _leaves(self, number: int) -> list[tuple[int, Shape]]:
        """The shape, or what its options come down to."""
        found: dict[int, Shape] = {}
        ahead, seen = [number], {number}
        while ahead:
            at = ahead.pop(0)
            shape = self._schema[at]
            if shape.options is None:
                found[at] = shape
                continue
            new = [option for option in shape.options if option not in seen]
            seen.update(new)
            ahead += new
        return list(found.items())

    def _text(self, name: str, number: int) -> str:
        """Strings with the tag behind them, for each shape that has any."""
        read_as = self._read_as(name, number)
        found: list[str] = []
        for _, shape in self._leaves(number):
            if shape.values is not None:
                found += self._listed(shape, read_as)
            elif "string" in shape.types:
                regex = content(self._lark, shape, self._end)
                denied = "".join(f" & ~/{_BEGINS[kind]}/" for kind in read_as)
                kept = self._lark.terminal(f"{regex}{denied}") if denied else regex
                found.append(self._lark.terminal(sequence((kept, quoted(self._body.after_value)))))
        return one_of(found) if found else ""

    def _listed(self, shape: Shape, read_as: Sequence[str]) -> list[str]:
        if shape.patterns:
            raise UnenforceableError(f'{self._schema.where}: "enum" at {shape.path} stands beside a pattern')
        texts = [value for value in shape.values or () if isinstance(value, str) and self._end not in value]
        if read_as and texts:
            texts = [text for text in texts if text.strip()[:1] not in {*'-[{"0123456789'} and not _is_word(text)]
        return [sequence((quoted(text), quoted(self._body.after_value))) for text in texts]

    def _read_as(self, name: str, number: int) -> list[str]:
        """Kinds of values that a text could be taken for against the schema.

        A text is read as another type only where the schema allows for that type; then the value must be one that it admits.
        """
        if self._body.before_string != self._body.before_value:
            return []
        types = self._tools.types(self._name, name) if name else frozenset[str]()
        leaves = [shape for _, shape in self._leaves(number)]
        if number == ANYTHING or types == {"string"}:
            return []
        free = {kind for shape in leaves if shape.values is None for kind in shape.types if _is_free(shape, kind)}
        if "integer" in types:
            types |= {"number"}
        return [kind for kind in _BEGINS if kind not in free and (not types or kind in types)]

    def _other(self, number: int) -> list[str]:
        """Values that are no strings."""
        found: list[str] = []
        for at, shape in self._leaves(number):
            if shape.values is not None:
                found += [quoted(json.dumps(value, ensure_ascii=False)) for value in shape.values if not isinstance(value, str)]
                continue
            if at == ANYTHING and self._body.before_string == self._body.before_value:
                continue  # as a text it is read as what it is
            found += [self._lark.rule(_WORDS[kind]) for kind in ("boolean", "null") if kind in shape.types]
            rest = shape.types & {"number", "array", "object"}
            if rest:
                found.append(self._lark.rule(embedded(self._schema, at, types=rest, within=self._within(at))))
        return found

    def _within(self, number: int) -> str:
        """What every string inside must match, so that it does not end the value."""
        shapes = [self._schema[one] for one in self._schema.reachable(number)]
        inner = [shape for shape in shapes[1:] if shape.options is None]
        is_map = any("object" in shape.types and (shape.rest != NOTHING or shape.patterned) for shape in shapes)
        return f"(?:{without(self._end)})" if is_map or any("string" in shape.types for shape in inner) else ""


def _is_free(shape: Shape, kind: str) -> bool:
    """Whether every value of that type meets the shape."""
    match kind:
        case "number":
            return (shape.low, shape.high, shape.step) == (None, None, None)
        case "boolean" | "null":
            return True
        case _:
            return False


def _is_word(text: str) -> bool:
    return text.strip() in ("true", "false", "True", "False", "null", "None")
