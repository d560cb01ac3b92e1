"""What schemas without references or choices say together: one shape."""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from math import lcm
from typing import Any, Final, Protocol, TypeAlias

from corral.core.errors import BadRequestError
from corral.parse.grammars import patterns, ranges, text_formats
from corral.parse.grammars.document import Source
from corral.parse.grammars.refusals import shown
from corral.parse.grammars.shapes import NOTHING, TYPES, Shape, exact, sameness, step_parts

Part: TypeAlias = Source | bool
_APPLICATORS: Final = ("$ref", "allOf", "anyOf", "oneOf", "dependentSchemas", "dependencies")
_RANGES: Final = (("minLength", "maxLength"), ("minItems", "maxItems"), ("minProperties", "maxProperties"))
_MAX_PATTERNS: Final = 100  # of names: llguidance holds each against each other
_MAX_STEP: Final = 3_600  # in the step's last decimal place: an automaton needs so many states for each digit


class Shaping(Protocol):
    """What finds the shapes of inner schemas."""

    def shape_of(self, parts: Iterable[Part]) -> int: ...
    def inner(self, source: Source, schema: Any, *steps: str) -> Part: ...
    def refuse(self, text: str) -> None: ...


class Plain:
    """Makes the shape of what meets all of these sources. `owner` is the one that they all belong to, or 0."""

    def __init__(self, shaping: Shaping, atoms: Sequence[Source], owner: int, where: str) -> None:
        self._shaping = shaping
        self._atoms = atoms
        self._owner = owner
        self._where = where
        self._shape = Shape(path=atoms[0].path)
        self._stepped: Source | None = None  # the last one to say what numbers are multiples of

    def shape(self) -> Shape:
        for atom in self._atoms:
            self._check_ranges(atom)
            self._types(atom)
            self._values(atom)
            self._number(atom)
            self._string(atom)
            self._counts(atom)
            self._format(atom)
            self._shape.is_unique |= atom.schema.get("uniqueItems") is True
        shape = self._shape
        self._check_step()
        if shape.values is None and "array" in shape.types:
            self._items()
        if "object" in shape.types:
            self._properties()
        self._drop_empty_types()
        return shape

    def _types(self, atom: Source) -> None:
        named = atom.schema.get("type")
        if named is None:
            return
        types = {named} if isinstance(named, str) else set(named)
        if "integer" in types:
            self._shape.is_integer |= "number" not in types
            types.add("number")
        self._shape.types &= types & {*TYPES}

    def _values(self, atom: Source) -> None:
        for keyword in ("enum", "const"):
            if keyword not in atom.schema:
                continue
            values = atom.schema["enum"] if keyword == "enum" else [atom.schema["const"]]
            known = None if self._shape.values is None else {*map(sameness, self._shape.values)}
            found = {sameness(value): value for value in reversed(values)}
            self._shape.values = [value for key, value in reversed(found.items()) if known is None or key in known]

    def _number(self, atom: Source) -> None:
        for low, is_open in _bounds(atom, "minimum", "exclusiveMinimum"):
            self._at_least(low, is_open=is_open)
        for high, is_open in _bounds(atom, "maximum", "exclusiveMaximum"):
            self._at_most(high, is_open=is_open)
        if "multipleOf" in atom.schema:
            step, old = exact(atom.schema["multipleOf"]), self._shape.step
            if old is not None:
                step = Fraction(
                    lcm(step.numerator * old.denominator, old.numerator * step.denominator), step.denominator * old.denominator
                )
            self._shape.step, self._stepped = step, atom

    def _check_step(self) -> None:
        """Lets go of a step that no automaton can count; few multiples are listed."""
        step, atom = self._shape.step, self._stepped
        if step is None or atom is None or ranges.listed(self._shape):
            return
        said = f'"multipleOf" at {atom.path} is {shown(atom.schema["multipleOf"])}'
        if step * 10 ** _places(step) > _MAX_STEP:
            self._shaping.refuse(
                f"{said}: at most {_MAX_STEP} can be counted, in units of its last decimal place; "
                f"set bounds that have no more than {ranges.MAX_LISTED} multiples between them"
            )
        elif not _is_read_right(step):
            self._shaping.refuse(f"{said}: multiples of {float(step)} cannot be told exactly; use a rounder number")
        else:
            return
        self._shape.step = None

    def _at_least(self, low: Fraction, *, is_open: bool = False) -> None:
        shape = self._shape
        if shape.low is None or (low, is_open) > (shape.low, shape.is_low_open):
            shape.low, shape.is_low_open = low, is_open

    def _at_most(self, high: Fraction, *, is_open: bool = False) -> None:
        shape = self._shape
        if shape.high is None or (high, not is_open) < (shape.high, not shape.is_high_open):
            shape.high, shape.is_high_open = high, is_open

    def _string(self, atom: Source) -> None:
        shape = self._shape
        shape.min_length = max(shape.min_length, int(atom.schema.get("minLength", 0)))
        shape.max_length = _least(shape.max_length, atom.schema.get("maxLength"))
        pattern = atom.schema.get("pattern")
        if pattern is not None and (regex := self._regex(atom, "pattern", pattern)):
            self._add_pattern(regex)

    def _add_pattern(self, regex: str) -> None:
        if regex not in self._shape.patterns:
            self._shape.patterns += (regex,)

    def _regex(self, atom: Source, keyword: str, pattern: str) -> str:
        try:
            return patterns.whole(pattern)
        except patterns.PatternError as error:
            self._shaping.refuse(f'"{keyword}" at {atom.path} is {shown(pattern)}: {error}')
            return ""

    def _format(self, atom: Source) -> None:
        name = atom.schema.get("format")
        if name is None or name in text_formats.HINTS:
            return
        if name in text_formats.INTEGERS:
            low, high = text_formats.INTEGERS[name]
            self._shape.is_integer = True
            self._at_least(Fraction(low))
            self._at_most(Fraction(high))
        elif name in text_formats.TEXTS:
            self._add_pattern(f"(?:{text_formats.TEXTS[name]})")
        elif "string" in self._shape.types:
            known = ", ".join(sorted({*text_formats.TEXTS, *text_formats.INTEGERS, *text_formats.HINTS}))
            self._shaping.refuse(f'"format" at {atom.path} is {shown(name)}; it may be one of {known}')

    def _counts(self, atom: Source) -> None:
        shape, schema = self._shape, atom.schema
        shape.min_items = max(shape.min_items, int(schema.get("minItems", 0)))
        shape.max_items = _least(shape.max_items, schema.get("maxItems"))
        shape.min_properties = max(shape.min_properties, int(schema.get("minProperties", 0)))
        shape.max_properties = _least(shape.max_properties, schema.get("maxProperties"))

    def _items(self) -> None:
        read = [self._items_of(atom) for atom in self._atoms]
        size = max(len(prefix) for prefix, _ in read)
        self._shape.prefix = [
            self._shaping.shape_of(prefix[at] if at < len(prefix) else items is None or items for prefix, items in read)
            for at in range(size)
        ]
        said = [items for _, items in read if items is not None]
        self._shape.items = self._shaping.shape_of(said or self._unevaluated("unevaluatedItems"))

    def _items_of(self, atom: Source) -> tuple[list[Part], Part | None]:
        """Of the first items, and of those that follow; None where it says nothing of these."""
        schema, inner = atom.schema, self._shaping.inner
        items = schema.get("items")
        keyword = "prefixItems"
        listed = schema.get(keyword, ())
        if isinstance(items, list | tuple):  # as drafts before 2020-12 have it
            keyword, listed, items = "items", items, schema.get("additionalItems")
        if items is None and atom.key != self._owner and self._may_be_told(atom, "unevaluatedItems"):
            items = schema.get("unevaluatedItems")
        prefix = [inner(atom, one, keyword, str(at)) for at, one in enumerate(listed)]
        return prefix, None if items is None else inner(atom, items, "items")

    def _may_be_told(self, atom: Source, keyword: str) -> bool:
        """Whether it is clear what other schemas leave for the keyword to say."""
        is_clear = atom.key == self._owner or not any(word in atom.schema for word in _APPLICATORS)
        if not is_clear and atom.schema.get(keyword, True) is not True:
            self._shaping.refuse(f'unsupported keyword "{keyword}" at {atom.path}, beside others that apply schemas there')
        return is_clear

    def _properties(self) -> None:
        shape = self._shape
        rests = [self._rest_of(atom) for atom in self._atoms]
        unevaluated = self._unevaluated("unevaluatedProperties")
        for atom in self._atoms:
            if "propertyNames" in atom.schema:
                shape.names.append(
                    self._shaping.shape_of([self._shaping.inner(atom, atom.schema["propertyNames"], "propertyNames")])
                )
        for name in self._property_names():
            parts = [self._property(atom, rest, name) for atom, rest in zip(self._atoms, rests, strict=True)]
            if not any(name in atom.schema.get("properties", ()) for atom in self._atoms):
                parts += unevaluated  # to require a property says nothing of it
            shape.properties[name] = self._shaping.shape_of(parts)
        self._patterned()
        shape.required = {name: None for atom in self._atoms for name in atom.schema.get("required", ())}
        said = [rest for rest in rests if rest is not None] or unevaluated
        if said:
            shape.rest = self._shaping.shape_of(said)
        elif shape.properties or shape.patterned or any("properties" in atom.schema for atom in self._atoms):
            # Where properties are named and nothing is said of others there are no others, as Ollama has it: models ramble on.
            shape.rest = NOTHING

    def _rest_of(self, atom: Source) -> Part | None:
        """What the schema says of properties that it does not name; None where it says nothing."""
        for keyword in ("additionalProperties", "unevaluatedProperties"):
            if keyword in atom.schema:
                if keyword == "unevaluatedProperties" and (atom.key == self._owner or not self._may_be_told(atom, keyword)):
                    return None
                return self._shaping.inner(atom, atom.schema[keyword], keyword)
        return None

    def _unevaluated(self, keyword: str) -> list[Part]:
        """What the owner says of items or properties that none of its schemas speaks of."""
        owners = (atom for atom in self._atoms if atom.key == self._owner and keyword in atom.schema)
        return [self._shaping.inner(atom, atom.schema[keyword], keyword) for atom in owners]

    def _property_names(self) -> list[str]:
        schemas = [atom.schema for atom in self._atoms]
        names = [name for schema in schemas for name in schema.get("properties", ())]
        names += [name for schema in schemas for name in schema.get("required", ())]
        first = [name for schema in schemas for name in schema.get("propertyOrdering", ()) if name in names]
        return list(dict.fromkeys((*first, *names)))

    def _property(self, atom: Source, rest: Part | None, name: str) -> Part:
        properties = atom.schema.get("properties", {})
        if name in properties:
            return self._shaping.inner(atom, properties[name], "properties", name)
        if rest is None or rest is True:
            return True
        if atom.schema.get("patternProperties"):
            path = step_parts(atom.path, "patternProperties")
            self._shaping.refuse(
                f'"{path}" is not supported beside "additionalProperties" and the property "{name}" of another schema'
            )
        return rest

    def _patterned(self) -> None:
        atoms = [atom for atom in self._atoms if atom.schema.get("patternProperties")]
        if not atoms:
            return
        if len(atoms) > 1:
            self._shaping.refuse(
                f'unsupported keyword "patternProperties" at {atoms[1].path}, together with that at {atoms[0].path}'
            )
        others = [atom for atom in self._atoms if atom is not atoms[0] and self._rest_of(atom) not in (None, True)]
        if others:
            self._shaping.refuse(
                f'unsupported keyword "patternProperties" at {atoms[0].path}, beside others for its properties'
            )
        self._check_apart(atoms[0])
        for pattern, schema in atoms[0].schema["patternProperties"].items():
            if regex := self._regex(atoms[0], "patternProperties", pattern):
                part = self._shaping.inner(atoms[0], schema, "patternProperties", pattern)
                self._shape.patterned[regex] = self._shaping.shape_of([part])

    def _check_apart(self, atom: Source) -> None:
        """llguidance takes several patterns of names only where no name matches two: told here by what they begin with."""
        found = list(atom.schema["patternProperties"])
        if len(found) < 2:
            return
        begins = sorted(patterns.beginning(pattern) for pattern in found)
        if len(found) > _MAX_PATTERNS:
            self._shaping.refuse(f'"patternProperties" at {atom.path} has more than {_MAX_PATTERNS} patterns')
        elif any(other.startswith(one) for one, other in pairwise(begins)):
            self._shaping.refuse(
                f'unsupported keyword "patternProperties" at {atom.path}: a name may match several of its patterns; '
                'begin each with "^" and other letters'
            )

    def _check_ranges(self, atom: Source) -> None:
        """Raises BadRequestError where one schema contradicts itself."""
        for low, high in _RANGES:
            if atom.schema.get(low, 0) > atom.schema.get(high, float("inf")):
                self._contradicts(atom, low, high)
        for low, is_low_open in _bounds(atom, "minimum", "exclusiveMinimum", _named):
            for high, is_high_open in _bounds(atom, "maximum", "exclusiveMaximum", _named):
                least, most = exact(atom.schema[low]), exact(atom.schema[high])
                if least > most or (least == most and (is_low_open or is_high_open)):
                    self._contradicts(atom, low, high)

    def _contradicts(self, atom: Source, low: str, high: str) -> None:
        raise BadRequestError(
            f'{self._where}: "{low}" {atom.schema[low]} and "{high}" {atom.schema[high]} at {atom.path} contradict each other'
        )

    def _drop_empty_types(self) -> None:
        """Types of which no value is left."""
        shape = self._shape
        if ranges.is_empty(shape):
            shape.types -= {"number"}
        for kind, low, high in (
            ("string", shape.min_length, shape.max_length),
            ("array", shape.min_items, shape.max_items),
            ("object", shape.min_properties, shape.max_properties),
        ):
            if high is not None and low > high:
                shape.types -= {kind}


def _named(_number: float, keyword: str) -> Any:
    return keyword


def _exactly(number: float, _keyword: str) -> Any:
    return exact(number)


def _bounds(
    atom: Source, inclusive: str, exclusive: str, what: Callable[[float, str], Any] = _exactly
) -> Iterable[tuple[Any, bool]]:
    """The bounds that two keywords set, and whether each is open. In draft 4 the exclusive one is a boolean."""
    inside, outside = atom.schema.get(inclusive), atom.schema.get(exclusive)
    if inside is not None:
        yield what(inside, inclusive), outside is True
    if outside is not None and not isinstance(outside, bool):
        yield what(outside, exclusive), True


def _least(one: int | None, other: float | None) -> int | None:
    if other is None:
        return one
    return int(other) if one is None else min(one, int(other))


def _places(step: Fraction) -> int:
    """Of its decimals."""
    return next(places for places in range(400) if (step * 10**places).denominator == 1)


def _is_read_right(step: Fraction) -> bool:
    """llguidance finds a step's decimals by doubles times ten: not those of 0.47, nor of a fourth part of all others."""
    read, places = float(step), 0
    while not read.is_integer():
        read, places = read * 10, places + 1
    return Fraction(int(read), 10**places) == step
