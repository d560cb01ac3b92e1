"""Shapes as JSON Schema again, as llguidance takes it: only keywords that it honours, each standing alone.

The white space is that of Python's json.dumps, `{"a": 1, "b": [1, 2]}`, and no other. Where it is fixed, what a schema fixes is
forced as a whole, up to the next value: keys with their quotes, colon and space go ahead in one batch. Of the fixed forms it
is the one that chat templates write calls and schemas in and that models have seen most; the compact one has rarer tokens.
Sources of what is honoured: llguidance 1.9, docs/json_schema.md, and tests/unit/parse/grammars/test_llguidance.py.
"""

import json
from typing import Any, Final

from corral.core.errors import BadRequestError
from corral.parse.grammars import ranges
from corral.parse.grammars.shapes import ANYTHING, NOTHING, Schema, Shape

SPACED: Final = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
# For JSON of any kind, and for families that indent theirs: a space, or a line of its own. It is bounded, or models that have
# nothing more to say write white space for ever.
INDENTED: Final = {"whitespace_pattern": r" |\n[ \t]{0,64}"}

_MAX_INLINE: Final = 40  # JSON values: what is larger and is used twice is written once


def embedded(
    schema: Schema,
    number: int | None = None,
    *,
    types: frozenset[str] | None = None,
    is_indented: bool = False,
    within: str = "",
) -> str:
    """The part of a Lark grammar for the JSON that meets a shape, the root if none is told; or for its values of these types.

    A shape that has options is written whole: `types` are for others. `within` is a regex that every string in it is to match
    besides, names of properties too.
    """
    written = _Writer(schema, within).written(schema.root if number is None else number, types)
    return "%json " + json.dumps({**written, "x-guidance": INDENTED if is_indented else SPACED})


class _Writer:
    def __init__(self, schema: Schema, within: str) -> None:
        self._schema = schema
        self._within = within
        self._names: dict[int, str] = {}

    def written(self, root: int, types: frozenset[str] | None) -> dict[str, Any]:
        """One schema, with definitions for all that is used more than once, so that it is never deep."""
        shape = self._schema[root]
        first = self._shape(shape, types)
        definitions: dict[str, Any] = {}
        done: set[int] = set()
        while left := [number for number in self._names if number not in done]:
            for number in left:
                done.add(number)
                definitions[self._names[number]] = self._shape(self._schema[number], None)
        return {**first, "$defs": definitions} if definitions else first

    def _part(self, number: int) -> Any:
        if number == ANYTHING and not self._within:
            return {}
        if number == NOTHING:
            return False
        shape = self._schema[number]
        if shape.options is None and (shape.values is not None or not {"array", "object"} & shape.types):
            written = self._shape(shape, None)
            if len(json.dumps(written)) <= _MAX_INLINE:
                return written
        name = self._names.setdefault(number, str(number))
        return {"$ref": f"#/$defs/{name}"}

    def _shape(self, shape: Shape, only: frozenset[str] | None) -> dict[str, Any]:
        if shape.options is not None:
            return {"anyOf": [self._part(option) for option in shape.options]}
        types = shape.types if only is None else shape.types & only
        if shape.values is not None:
            return self._patterned({"enum": list(shape.values)}, shape)
        if "number" in types and (listed := ranges.listed(shape)):
            others = types - {"number"}
            return {"anyOf": [{"enum": listed}, self._shape(shape, others)]} if others else {"enum": listed}
        written: dict[str, Any] = {"type": sorted(types)}
        if "number" in types:
            written["type"] = sorted((types - {"number"}) | {"integer"}) if shape.is_integer else written["type"]
            written |= ranges.bounds(shape, self._schema.where)
        if "string" in types:
            written |= _counted(minLength=shape.min_length, maxLength=shape.max_length)
            written = self._patterned(written, shape)
        if "array" in types:
            written |= self._array(shape)
        if "object" in types:
            written |= self._object(shape)
        return written

    def _patterned(self, written: dict[str, Any], shape: Shape) -> dict[str, Any]:
        regexes = [f"^{regex}$" for regex in (*shape.patterns, self._within) if regex]
        if regexes:
            written["pattern"] = regexes[0]
        if len(regexes) > 1:
            written["allOf"] = [{"pattern": regex} for regex in regexes[1:]]
        return written

    def _array(self, shape: Shape) -> dict[str, Any]:
        written = _counted(minItems=shape.min_items, maxItems=shape.max_items)
        if shape.prefix:
            written["prefixItems"] = [self._part(one) for one in shape.prefix]
        return {**written, "items": self._part(shape.items)}

    def _object(self, shape: Shape) -> dict[str, Any]:
        written = _counted(minProperties=shape.min_properties, maxProperties=shape.max_properties)
        if shape.rest != NOTHING and any(not name.isprintable() for name in shape.properties):
            raise BadRequestError(
                f"{self._schema.where}: a property at {shape.path} has a control character in its name, "
                'which is supported only with "additionalProperties": false'
            )
        patterned, rest = shape.patterned, shape.rest
        if self._within and rest != NOTHING:
            # A name may not end the value either. It cannot be told to be that and none of those named: these are all, then.
            patterned, rest = {} if shape.properties or patterned else {self._within: rest}, NOTHING
        written["properties"] = {name: self._part(one) for name, one in shape.properties.items()}
        written["required"] = list(shape.required)
        if patterned:
            written["patternProperties"] = {f"^{regex}$": self._part(one) for regex, one in patterned.items()}
        return {**written, "additionalProperties": self._part(rest)}


def _counted(**counts: int | None) -> dict[str, Any]:
    return {name: count for name, count in counts.items() if count} | {
        name: 0 for name, count in counts.items() if count == 0 and name.startswith("max")
    }
