"""Makes shapes of a schema: follows references, carries out allOf, and draws anyOf and oneOf out of what stands beside them.

A shape is what several schemas say together. The same schemas together are one shape, so that a recursive schema ends. All work
waits in a list: no schema, however deep or crooked, goes deep into the stack.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from corral.core.errors import BadRequestError
from corral.parse.grammars import keywords
from corral.parse.grammars.document import Document, Source
from corral.parse.grammars.plain import Plain
from corral.parse.grammars.refusals import UnenforceableError
from corral.parse.grammars.shapes import ANYTHING, NOTHING, TYPES, Shape, step_parts

_MAX_SHAPES: Final = 10_000
_MAX_CASES: Final = 2_000  # of choices made one with another: four choices of ten options are ten thousand
_SILENT_ALONE: Final = {"then": "if", "else": "if", "minContains": "contains", "maxContains": "contains"}

Part: TypeAlias = Source | bool
_Step: TypeAlias = Literal["enter", "say", "leave"]


@dataclass(frozen=True, slots=True, eq=False)
class _Choice:
    """Schemas of which a value must meet one: any, or exactly one."""

    options: tuple[Part, ...]
    path: str
    is_exclusive: bool = False


@dataclass(frozen=True, slots=True)
class _Pending:
    """A choice to be made, and those that led to it."""

    choice: _Choice
    after: frozenset[_Choice] = frozenset()


@dataclass(frozen=True, slots=True)
class _Together:
    """Schemas that are to be met together. What one of them says by choices stands in `pending`, and is left out of `atoms`."""

    atoms: tuple[Source, ...]
    pending: tuple[_Pending, ...] = ()
    chosen: frozenset[_Choice] = frozenset()
    owner: int = 0  # the schema that all of them belong to, where there is one

    @property
    def key(self) -> tuple[Any, ...]:
        return tuple(atom.key for atom in self.atoms), self.pending, self.chosen, self.owner


@dataclass(frozen=True, slots=True)
class Exclusive:
    """Shapes of which a value may meet no two."""

    path: str
    options: tuple[int, ...]


class Merging:
    """Fills a list of shapes. A lenient one leaves out what cannot be enforced, where another refuses."""

    def __init__(self, document: Document, where: str, *, is_lenient: bool = False) -> None:
        self.shapes = [Shape(path="$"), Shape(path="$", types=frozenset())]
        self.exclusives: list[Exclusive] = []
        self._document = document
        self._where = where
        self._is_lenient = is_lenient
        self._known: dict[tuple[Any, ...], int] = {}
        self._waiting: list[tuple[int, _Together]] = []
        self._choices: dict[tuple[int, str], tuple[_Choice, ...]] = {}
        self._made: dict[tuple[int, str], Source] = {}
        self._checked: set[int] = set()
        self._cases = 0

    def run(self, root: Source, only: str = "") -> int:
        """The number of the root's shape; with a type, of those of its values that are of it."""
        parts: tuple[Part, ...] = (root, self._make(root, "only", {"type": only})) if only else (root,)
        number = self.shape_of(parts, root.key)
        while self._waiting:
            self._fill(*self._waiting.pop())
        return number

    def shape_of(self, parts: Iterable[Part], owner: int = 0) -> int:
        """The shape of what meets all of these. It may not be filled yet. `owner`: the one of them that all belong to."""
        parts = tuple(part for part in parts if part is not True)
        if len(parts) == 1 and isinstance(parts[0], Source):
            owner = parts[0].key
        found = self._flattened(parts)
        if found is None:
            return NOTHING
        atoms, choices = found
        if not atoms and not choices:
            return ANYTHING
        owns = any(isinstance(part, Source) and part.key == owner and _OWNING & part.schema.keys() for part in parts)
        owner = owner if owns else 0
        return self._number(_Together(atoms, tuple(map(_Pending, choices)), owner=owner))

    def refuse(self, text: str) -> None:
        """Says that something cannot be enforced; in a lenient schema it is left out."""
        if not self._is_lenient:
            raise UnenforceableError(f"{self._where}: {text}")

    def inner(self, source: Source, schema: Any, *steps: str) -> Part:
        """A schema that stands in that one."""
        if isinstance(schema, bool):
            return schema
        path = source.path
        for step in steps:
            path = step_parts(path, step)
        return self._document.at(schema, path, source.base)

    def _number(self, together: _Together) -> int:
        known = self._known.get(together.key)
        if known is not None:
            return known
        number = len(self.shapes)
        if number > _MAX_SHAPES:
            raise BadRequestError(f"{self._where}: the schema has more than {_MAX_SHAPES} parts; make it simpler")
        path = together.atoms[0].path if together.atoms else together.pending[0].choice.path
        self.shapes.append(Shape(path=path))
        self._known[together.key] = number
        self._waiting.append((number, together))
        return number

    def _fill(self, number: int, together: _Together) -> None:
        if not together.pending:
            self.shapes[number] = Plain(self, together.atoms, together.owner, self._where).shape()
            return
        choice, options = together.pending[0].choice, []
        for option in choice.options:
            self._cases += 1
            if self._cases > _MAX_CASES:
                raise BadRequestError(f"{self._where}: {choice.path} and others have more than {_MAX_CASES} cases together")
            chosen = self._chosen(together, option)
            if chosen is not None:
                options.append(self._number(chosen) if chosen.atoms or chosen.pending else ANYTHING)
        self.shapes[number].options = list(dict.fromkeys(options))
        if choice.is_exclusive:
            self.exclusives.append(Exclusive(choice.path, tuple(options)))

    def _chosen(self, together: _Together, option: Part) -> _Together | None:
        """The same with the first choice made; None where nothing meets that."""
        first, *others = together.pending
        found = self._flattened((option,))
        if found is None:
            return None
        atoms, choices = found
        after = first.after | {first.choice}
        if any(choice in after for choice in choices):
            return None  # to choose it is to be asked the same again, without end
        chosen = together.chosen | {first.choice}
        known = {one.choice for one in others} | chosen
        pending = (*others, *(_Pending(choice, after) for choice in choices if choice not in known))
        new = tuple(dict.fromkeys((*together.atoms, *atoms)))
        return _Together(new, pending, chosen, together.owner)

    def _flattened(self, parts: Sequence[Part]) -> tuple[tuple[Source, ...], tuple[_Choice, ...]] | None:
        """What these say by themselves, and what they leave to choose; None where nothing meets them."""
        atoms: list[Source] = []
        choices: list[_Choice] = []
        ahead: list[tuple[Part, _Step]] = [(part, "enter") for part in reversed(parts)]
        inside: set[int] = set()
        seen: set[int] = set()
        while ahead:
            part, step = ahead.pop()
            if part is False:
                return None
            if part is True:
                continue
            if step == "leave":
                inside.discard(part.key)
            elif step == "say":
                atoms.append(part)
            elif part.key in inside:
                return None  # to meet it is to meet it, without end
            elif part.key not in seen:
                seen.add(part.key)
                inside.add(part.key)
                self._check(part)
                ahead.append((part, "leave"))
                ahead += reversed(self._taken_apart(part, choices))
        return tuple(atoms), tuple(dict.fromkeys(choices))

    def _taken_apart(self, source: Source, choices: list[_Choice]) -> list[tuple[Part, _Step]]:
        """What the schema says together with others, in the order in which it says it. The choices it leaves are added."""
        if source.schema.get("nullable") is True:
            choices += self._choice(source, "nullable")
            return []
        found: list[tuple[Part, _Step]] = []
        is_atom_there = False
        for keyword, value in source.schema.items():
            if keyword == "$ref":
                found.append((self._referred(source), "enter"))
            elif keyword == "allOf":
                found += [(self.inner(source, one, "allOf", str(at)), "enter") for at, one in enumerate(value)]
            elif keyword == "not":
                found.append((self._negated(source), "enter"))
            elif keyword in _CHOICES:
                choices += self._choice(source, keyword)
            elif keyword in keywords.CONSTRAINTS and not is_atom_there:
                is_atom_there = True
                found.append((source, "say"))
        return found

    def _referred(self, source: Source) -> Part:
        try:
            return self._document.referred(source)
        except UnenforceableError:
            if not self._is_lenient:
                raise
            return True

    def _choice(self, source: Source, keyword: str) -> tuple[_Choice, ...]:
        """What a keyword leaves to choose: the same each time it is asked for."""
        key = (source.key, keyword)
        if key not in self._choices:
            self._choices[key] = tuple(self._new_choices(source, keyword))
        return self._choices[key]

    def _new_choices(self, source: Source, keyword: str) -> Iterable[_Choice]:
        value = source.schema[keyword]
        path = step_parts(source.path, keyword)
        if keyword == "nullable":
            bare = {key: one for key, one in source.schema.items() if key != "nullable"}
            yield _Choice((self._make(source, "", bare), self._make(source, "null", {"type": "null"})), source.path)
        elif keyword in ("anyOf", "oneOf"):
            options = tuple(self.inner(source, one, keyword, str(at)) for at, one in enumerate(value))
            yield _Choice(options, path, is_exclusive=keyword == "oneOf")
        else:
            for name, wanted in value.items():
                absent = self._make(source, f"without {name}", {"properties": {name: False}})
                present: dict[str, Any] = {"required": [name]}
                if isinstance(wanted, Mapping | bool):
                    present = {"allOf": [wanted, present]}
                else:
                    present["required"] += [one for one in wanted if one != name]
                yield _Choice((self._make(source, f"with {name}", present), absent), step_parts(path, name))

    def _make(self, source: Source, name: str, schema: Mapping[str, Any]) -> Source:
        """A schema that stands nowhere, in the place of one that does."""
        key = (source.key, name)
        if key not in self._made:
            self._made[key] = self._document.at(schema, source.path, source.base)
        return self._made[key]

    def _negated(self, source: Source) -> Part:
        denied = source.schema["not"]
        if isinstance(denied, bool):
            return not denied
        said = {key: value for key, value in denied.items() if not keywords.is_annotation(key)}
        if not said:
            return False
        if set(said) == {"type"} and "integer" not in said["type"]:
            named = [said["type"]] if isinstance(said["type"], str) else said["type"]
            return self._make(source, "not", {"type": [one for one in TYPES if one not in named] or ["null"]})
        if set(said) == {"required"} and len(said["required"]) == 1:
            return self._make(source, "not", {"type": "object", "properties": {said["required"][0]: False}})
        self.refuse(f'unsupported keyword "not" at {source.path}; it may only name a type, or one required property')
        return True

    def _check(self, source: Source) -> None:
        if source.key in self._checked:
            return
        self._checked.add(source.key)
        keywords.check(source.schema, source.path, self._where)
        for keyword in source.schema:
            if keyword in keywords.CONSTRAINTS or keywords.is_annotation(keyword):
                continue
            if (needed := _SILENT_ALONE.get(keyword)) and needed not in source.schema:
                continue
            self.refuse(f'unsupported keyword "{keyword}" at {source.path}')


_OWNING: Final = frozenset({"unevaluatedItems", "unevaluatedProperties"})  # they speak of what all others leave
_CHOICES: Final = frozenset({"anyOf", "oneOf", "dependencies", "dependentRequired", "dependentSchemas"})
