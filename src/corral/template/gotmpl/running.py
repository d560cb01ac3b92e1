"""What the functions share that run a Go template's nodes: the rendering itself, how values are looked up, what goes wrong."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, TypeAlias

from corral.template.gotmpl.budget import Budget
from corral.template.gotmpl.printing import OrderedMap, Struct, shown, type_name


class Run(Budget):
    """One rendering: what it may still cost, and the text so far."""

    __slots__ = ("out",)

    def __init__(self, *, steps: int, chars: int) -> None:
        super().__init__(steps=steps, chars=chars)
        self.out: list[str] = []


Frame: TypeAlias = list[Any]  # the variables of one running template; the first is `$`
Step: TypeAlias = Callable[[Run, Frame, Any], str | None]  # runs a node for a dot; says BREAK or CONTINUE where it meets one
Value: TypeAlias = Callable[[Run, Frame, Any], Any]
Piped: TypeAlias = Callable[[Run, Frame, Any, Any], Any]  # the same, given what came down the pipeline


class GoExecutionError(Exception):
    """What Go says of a template that cannot go on, at which node, and in which of the templates that are defined by name."""

    def __init__(self, node: Any, message: str) -> None:
        super().__init__(message)
        self.node = node
        self.message = message
        self.template = ""


def fail(node: Any, message: str) -> NoReturn:
    raise GoExecutionError(node, message)


def field_of(receiver: Any, name: str, node: Any, has_arguments: bool, type_of: Callable[[Any], str]) -> Any:
    """`.Name` of a value: a key of a map, a field of a struct, or a method without arguments, which is called."""
    if type(receiver) is dict:
        if has_arguments:
            fail(node, f"{name} is not a method but has arguments")
        return receiver.get(name)
    if receiver is None:
        fail(node, f"nil pointer evaluating {type_of(None)}.{name}")
    if isinstance(receiver, Struct):
        if name in receiver.methods:
            return receiver.methods[name]()
        is_map = isinstance(receiver, OrderedMap)
        if is_map or name in receiver.fields:
            if has_arguments:
                what = "is not a method but has arguments" if is_map else "has arguments but cannot be invoked as function"
                fail(node, f"{name} {what}")
            return receiver.fields.get(name)
    elif name == "String" and hasattr(receiver, "text"):
        return receiver.text()
    fail(node, f"can't evaluate field {name} in type {type_of(receiver)}")


def type_in(owner: Any) -> Callable[[Any], str]:
    """What Go calls the type of what it found there: a map's values are of any type."""
    return (lambda value: "interface {}") if isinstance(owner, dict | OrderedMap) else type_name


def entries(value: Any, variables: int, node: Any) -> Iterator[tuple[Any, Any]]:
    """What `range` goes through: a list with its positions, a map with its keys in order, the numbers below a number."""
    if value is None:
        return iter(())
    if isinstance(value, list | bytes):
        return iter(enumerate(value))
    if isinstance(value, OrderedMap):
        return iter(value.fields.items())
    if isinstance(value, Mapping):
        return ((key, value[key]) for key in sorted(value))
    if isinstance(value, int) and not isinstance(value, bool):
        if variables > 1:
            fail(node, f"can't use {value} to iterate over more than one variable")
        return ((number, number) for number in range(value))
    fail(node, f"range can't iterate over {shown(value)}")


def check_text(value: Any, node: Any) -> None:
    if not isinstance(value, str):
        fail(node, f"wrong type for value; expected string; got {'interface {}' if value is None else type_name(value)}")
