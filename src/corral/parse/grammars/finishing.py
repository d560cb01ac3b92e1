"""What is done to shapes once all are there: names, listed values and counts of properties, and what no value meets.

After it, whatever a shape still asks for can be met, and by a finite value: a grammar that is made of it leads nowhere without
a way out.
"""

from dataclasses import replace
from itertools import permutations
from math import perm
from typing import Any, Final

from corral.core.errors import BadRequestError
from corral.parse.grammars.admitting import UnknownError, admits_beside_patterns
from corral.parse.grammars.automata import UndecidedError, Work, is_any_text, is_met
from corral.parse.grammars.refusals import UnenforceableError, shown
from corral.parse.grammars.shapes import ANYTHING, NOTHING, Schema, Shape

_MAX_PRESENT: Final = 100  # properties of which one must be there
_MAX_ARRAYS: Final = 5_000  # of values that come once: of six values there are 1,957
_MAX_OPTIONAL_PAIRS: Final = (
    4_000_000  # llguidance takes as long as an object has pairs of optional properties: here half a second
)
_MAX_STEPS: Final = 20_000  # to tell what patterns leave, some 50 ms; what stays open then the engine finds out


class Finishing:
    def __init__(self, schema: Schema, *, is_lenient: bool) -> None:
        self._schema = schema
        self._is_lenient = is_lenient
        self._work = Work(_MAX_STEPS)
        self._arrays_left = _MAX_ARRAYS
        self._unlisted: list[Shape] = []  # that list values of which none is left
        self._told: dict[tuple[tuple[str, ...], int, int | None], bool] = {}

    def run(self) -> None:
        """Raises BadRequestError where no value is left at all."""
        schema = self._schema
        reachable = schema.reachable(schema.root)
        for number in reachable:
            shape = schema[number]
            if shape.options is None and shape.values is None:
                self._names(shape)
        for number in reachable:
            self._values(schema[number])
        for number in reachable:
            self._unique(schema[number])
        reachable = schema.reachable(schema.root)
        if not self._prune(reachable):
            raise BadRequestError(f"{schema.where}: no value can meet the schema: {self._culprit(reachable)}")
        for number in reachable:
            self._counts(schema[number])
        pairs = sum((len(schema[number].properties) - len(schema[number].required)) ** 2 for number in reachable)
        if pairs > _MAX_OPTIONAL_PAIRS:
            raise BadRequestError(f"{schema.where}: the schema has too many optional properties; make some of them required")

    def _refuse(self, text: str) -> None:
        if not self._is_lenient:
            raise UnenforceableError(f"{self._schema.where}: {text}")

    def _names(self, shape: Shape) -> None:
        """Turns what names must be into what properties there may be."""
        for number in shape.names:
            name = self._schema[number]
            if number == ANYTHING or (name.options is None and name.values is None and _is_any_text(name)):
                continue
            if number == NOTHING or (name.options is None and name.values is None and "string" not in name.types):
                shape.properties, shape.patterned, shape.rest = dict.fromkeys(shape.properties, NOTHING), {}, NOTHING
            elif name.values is not None and not name.patterns:
                allowed = [one for one in name.values if isinstance(one, str)]
                others = {one: shape.rest for one in allowed if one not in shape.properties}
                kept = {one: what if one in allowed else NOTHING for one, what in shape.properties.items()}
                if shape.patterned:
                    self._refuse(f'unsupported keyword "propertyNames" at {shape.path}, beside "patternProperties"')
                shape.properties, shape.rest = {**kept, **others}, NOTHING
            elif name.options is None and not shape.properties and not shape.patterned and (regex := _name_regex(name)):
                shape.patterned, shape.rest = {regex: shape.rest}, NOTHING
            elif shape.rest != NOTHING or shape.patterned or shape.properties:
                self._refuse(f'unsupported keyword "propertyNames" at {shape.path}, beside others for its properties')
        shape.names = []

    def _values(self, shape: Shape) -> None:
        """Leaves of the listed values those that all else admits. A pattern that takes too long to run stays beside them."""
        if shape.options is not None or shape.values is None:
            return
        left: list[Any] = []
        for value in shape.values:
            try:
                if admits_beside_patterns(self._schema, shape, value):
                    left.append(value)
            except UnknownError:
                self._refuse(f'"enum" at {shape.path} lists {shown(value)} beside patterns for what is in it')
                left.append(value)
        shape.values = left
        try:
            shape.values = [one for one in left if not isinstance(one, str) or is_met(shape.patterns, one, self._work)]
        except UndecidedError:
            return
        shape.patterns = ()
        if not shape.values:
            self._unlisted.append(shape)

    def _unique(self, shape: Shape) -> None:
        """Lists all arrays in which no item comes twice, where they are few."""
        if not shape.is_unique or "array" not in shape.types or shape.options is not None or shape.values is not None:
            return
        if shape.max_items is not None and shape.max_items <= 1:
            return
        items = self._listed_items(shape)
        most = len(items) if shape.max_items is None else min(shape.max_items, len(items))
        sizes = range(shape.min_items, most + 1)
        count = sum(perm(len(items), size) for size in sizes)
        if shape.prefix or not items or count > self._arrays_left:
            self._refuse(
                f'unsupported keyword "uniqueItems" at {shape.path}; it is carried out where items are one of a few listed '
                f"values that make no more than {_MAX_ARRAYS} arrays in all of the schema"
            )
            return
        self._arrays_left -= count
        arrays = replace(shape, values=[list(one) for size in sizes for one in permutations(items, size)])
        first = len(self._schema.shapes)
        self._schema.shapes.append(arrays)
        if others := shape.types - {"array"}:
            self._schema.shapes.append(replace(shape, types=others))
        shape.options = list(range(first, len(self._schema.shapes)))

    def _listed_items(self, shape: Shape) -> list[Any]:
        """The values that items may have, where they are listed."""
        items = self._schema[shape.items]
        if items.options is None and items.values is None and items.types == {"boolean"}:
            return [True, False]
        return items.values or [] if items.options is None and not items.patterns else []

    def _is_met(self, shape: Shape, met: dict[int, bool]) -> bool:
        """Whether some finite value meets the shape, as far as is known by now."""
        if shape.options is not None:
            return any(met.get(option, False) for option in shape.options)
        if shape.values is not None:
            return bool(shape.values)
        return any(self._is_type_met(shape, kind, met) for kind in shape.types)

    def _is_type_met(self, shape: Shape, kind: str, met: dict[int, bool]) -> bool:
        if kind == "string":
            return self._is_any_text(shape)
        if kind == "array":
            needed = [*shape.prefix[: shape.min_items], *([shape.items] if shape.min_items > len(shape.prefix) else [])]
            return all(met.get(one, False) for one in needed)
        if kind == "object":
            least, most = shape.min_properties, shape.max_properties
            is_open = met.get(shape.rest, False) or any(met.get(one, False) for one in shape.patterned.values())
            known = sum(met.get(one, False) for one in shape.properties.values())
            return (
                all(met.get(shape.properties[name], False) for name in shape.required)
                and (is_open or known >= least)
                and (most is None or len(shape.required) <= most)
            )
        return True

    def _is_any_text(self, shape: Shape) -> bool:
        """True also where that takes too long to tell."""
        if len(shape.patterns) + bool(shape.min_length or shape.max_length is not None) < 2:
            return True
        key = shape.patterns, shape.min_length, shape.max_length
        if key not in self._told:
            try:
                self._told[key] = is_any_text(*key, self._work)
            except UndecidedError:
                self._told[key] = True
        return self._told[key]

    def _prune(self, reachable: list[int]) -> bool:
        """Finds out, from the leaves up, which shapes can be met, and takes all others out. Whether the root can."""
        above: dict[int, list[int]] = {number: [] for number in (ANYTHING, NOTHING, *reachable)}
        for number in reachable:
            for part in {*self._schema.parts(number)}:
                above[part].append(number)
        met = dict.fromkeys(above, False)
        met[ANYTHING] = True
        asked = [number for number in reachable if number > NOTHING]
        while asked:
            new = [number for number in asked if self._is_met(self._schema[number], met)]
            met.update(dict.fromkeys(new, True))
            asked = list({number: None for one in new for number in above[one] if not met[number]})
        for number in reachable:
            if number > NOTHING:
                self._without(self._schema[number], met, is_met=met[number])
        return met[self._schema.root]

    def _without(self, shape: Shape, met: dict[int, bool], *, is_met: bool) -> None:
        if not is_met:
            shape.types, shape.values, shape.options = frozenset(), None, None
            return
        if shape.options is not None:
            shape.options = [option for option in shape.options if met.get(option, False)]
            return
        if shape.values is None:
            shape.types = frozenset(kind for kind in shape.types if self._is_type_met(shape, kind, met))
        for at, one in enumerate(shape.prefix):
            if not met.get(one, False):
                shape.max_items = at if shape.max_items is None else min(at, shape.max_items)
        shape.prefix = shape.prefix[: shape.max_items]
        if not met.get(shape.items, False):
            shape.items = NOTHING
        shape.properties = {name: one if met.get(one, False) else NOTHING for name, one in shape.properties.items()}
        shape.patterned = {regex: one if met.get(one, False) else NOTHING for regex, one in shape.patterned.items()}
        if not met.get(shape.rest, False):
            shape.rest = NOTHING

    def _culprit(self, reachable: list[int]) -> str:
        """The first innermost place that nothing meets."""
        for number in reversed(reachable):
            shape = self._schema[number]
            if not shape.types and shape.options is None and shape.values is None and number != NOTHING:
                return f"none is left at {shape.path}{self._reason(shape)}"
        return "none is left at $"

    def _reason(self, shape: Shape) -> str:
        if any(one is shape for one in self._unlisted):
            return ", where none of the listed values meets all else"
        if self._is_any_text(shape):
            return ""
        said = ["the pattern or format" if len(shape.patterns) == 1 else f"all {len(shape.patterns)} patterns and formats"]
        said += [f'"minLength" {shape.min_length}'] if shape.min_length else []
        said += [f'"maxLength" {shape.max_length}'] if shape.max_length is not None else []
        return f", where no text meets {' and '.join(said)}"

    def _counts(self, shape: Shape) -> None:
        """Turns counts of properties into which are required and which may be there, as far as they can be."""
        if shape.options is not None or shape.values is not None or "object" not in shape.types:
            return
        if shape.rest == NOTHING and all(one == NOTHING for one in shape.patterned.values()):
            shape.properties = {name: one for name, one in shape.properties.items() if one != NOTHING}
            shape.patterned = {}
        required = len(shape.required)
        possible = sum(one != NOTHING for one in shape.properties.values())
        is_open = shape.rest != NOTHING or bool(shape.patterned)
        if shape.min_properties <= required:
            shape.min_properties = 0
        if shape.max_properties is not None and not is_open and shape.max_properties >= possible:
            shape.max_properties = None
        if shape.max_properties == required:
            shape.properties = {name: one for name, one in shape.properties.items() if name in shape.required}
            shape.patterned, shape.rest, shape.max_properties = {}, NOTHING, None
        elif not is_open and shape.min_properties == possible:
            shape.required = {name: None for name, one in shape.properties.items() if one != NOTHING}
            shape.min_properties, shape.max_properties = 0, None
        if shape.min_properties or shape.max_properties is not None:
            self._counted(shape, required, possible, is_open=is_open)

    def _counted(self, shape: Shape, required: int, possible: int, *, is_open: bool) -> None:
        """Counts that neither are met by themselves nor say outright what must be there."""
        if not is_open and shape.max_properties is None and shape.min_properties == required + 1:
            self._one_present(shape)
        elif is_open and possible == required and shape.min_properties <= required + 1:
            return  # more could not be told apart from one property written several times
        elif not is_open and required == 0 and shape.max_properties == 1 and shape.min_properties <= 1:
            return
        else:
            word = "minProperties" if shape.min_properties else "maxProperties"
            self._refuse(f'"{word}" at {shape.path} cannot be counted among so many optional properties')
            shape.min_properties, shape.max_properties = 0, None

    def _one_present(self, shape: Shape) -> None:
        """Any one of the optional properties must be there: as many shapes as there are of them."""
        optional = [name for name, one in shape.properties.items() if one != NOTHING and name not in shape.required]
        if len(optional) > _MAX_PRESENT:
            self._refuse(f'"minProperties" at {shape.path} cannot be told for more than {_MAX_PRESENT} optional properties')
        first = len(self._schema.shapes)
        plain = replace(shape, min_properties=0)
        objects = [replace(plain, types=frozenset({"object"}), required={**shape.required, name: None}) for name in optional]
        others = [replace(plain, types=shape.types - {"object"})] if shape.types != {"object"} else []
        self._schema.shapes.extend([*objects, *others])
        shape.options = list(range(first, len(self._schema.shapes)))


def _is_any_text(shape: Shape) -> bool:
    return "string" in shape.types and not shape.patterns and not shape.min_length and shape.max_length is None


def _name_regex(shape: Shape) -> str:
    """What names must match as a whole; "" where one regex cannot tell."""
    if shape.values is not None or "string" not in shape.types:
        return ""
    if not shape.patterns:
        most = "" if shape.max_length is None else shape.max_length
        return f"(?s:.{{{shape.min_length},{most}}})"
    return shape.patterns[0] if len(shape.patterns) == 1 and not shape.min_length and shape.max_length is None else ""
