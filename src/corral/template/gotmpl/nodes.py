"""The tree of a parsed Go template. `str()` of a node is how Go's complaints quote it, `start` where it stands."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from corral.template.gotmpl.lexer import quoted


@dataclass(frozen=True, slots=True)
class Text:
    start: int
    text: str


@dataclass(frozen=True, slots=True)
class Dot:
    start: int

    def __str__(self) -> str:
        return "."


@dataclass(frozen=True, slots=True)
class Nil:
    start: int

    def __str__(self) -> str:
        return "nil"


@dataclass(frozen=True, slots=True)
class Constant:
    """A bool, a number or a string; `source` is how it is written."""

    start: int
    value: Any
    source: str

    def __str__(self) -> str:
        return self.source


@dataclass(frozen=True, slots=True)
class Identifier:
    """The name of a function."""

    start: int
    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Field:
    """`.Messages.Role`: names looked up one after the other, from the dot."""

    start: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        return "".join(f".{name}" for name in self.names)


@dataclass(frozen=True, slots=True)
class Variable:
    """`$x.Role`: the variable's name, `$` included, and what is looked up in it."""

    start: int
    name: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join((self.name, *self.names))


@dataclass(frozen=True, slots=True)
class Chain:
    """`(pipeline).Role` or `function.Role`."""

    start: int
    of: "Operand"
    names: tuple[str, ...]

    def __str__(self) -> str:
        head = f"({self.of})" if isinstance(self.of, Pipeline) else str(self.of)
        return ".".join((head, *self.names))


@dataclass(frozen=True, slots=True)
class Command:
    start: int
    operands: tuple["Operand", ...]

    def __str__(self) -> str:
        return " ".join(f"({item})" if isinstance(item, Pipeline) else str(item) for item in self.operands)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Commands, each given the last one's value; the last value goes to `targets`, which are new unless `assigns`."""

    start: int
    targets: tuple[Variable, ...]
    assigns: bool
    commands: tuple[Command, ...]

    def __str__(self) -> str:
        head = ", ".join(map(str, self.targets)) + (" = " if self.assigns else " := ") if self.targets else ""
        return head + " | ".join(map(str, self.commands))


Operand: TypeAlias = Dot | Nil | Constant | Identifier | Field | Variable | Chain | Pipeline


@dataclass(frozen=True, slots=True)
class Action:
    start: int
    pipeline: Pipeline

    def __str__(self) -> str:
        return f"{{{{{self.pipeline}}}}}"


@dataclass(frozen=True, slots=True)
class Branch:
    """`if`, `with` or `range`, as `kind` says."""

    start: int
    kind: str
    pipeline: Pipeline
    body: "List"
    otherwise: "List | None"


@dataclass(frozen=True, slots=True)
class Call:
    """`{{ template "name" pipeline }}`, and what is left of a `block`."""

    start: int
    name: str
    pipeline: Pipeline | None

    def __str__(self) -> str:
        return f"{{{{template {quoted(self.name)}{f' {self.pipeline}' if self.pipeline else ''}}}}}"


@dataclass(frozen=True, slots=True)
class Jump:
    """`break` or `continue`."""

    start: int
    kind: str


Node: TypeAlias = Text | Action | Branch | Call | Jump


@dataclass(frozen=True, slots=True)
class List:
    nodes: tuple[Node, ...]

    @property
    def is_blank(self) -> bool:
        """Nothing but white space."""
        return all(isinstance(node, Text) and not node.text.strip() for node in self.nodes)


@dataclass(frozen=True, slots=True)
class Tree:
    """A whole template: its body, and those that it defines by name."""

    body: List
    defined: Mapping[str, List] = field(default_factory=dict)
