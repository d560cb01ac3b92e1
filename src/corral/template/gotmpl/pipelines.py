"""Makes Python functions of a Go template's pipelines: they find a value. Variables become places in a list.

Source: Go 1.26 text/template/exec.go, the eval functions, written anew.
"""

from collections.abc import Callable
from typing import Any, Final

from corral.template.gotmpl.functions import FUNCTIONS, CallError, Function, is_true
from corral.template.gotmpl.nodes import Chain, Command, Constant, Dot, Field, Identifier, Nil, Operand, Pipeline, Variable
from corral.template.gotmpl.printing import type_name
from corral.template.gotmpl.running import Frame, GoExecutionError, Piped, Run, Value, check_text, fail, field_of, type_in

_ABSENT: Final = object()  # no value comes down the pipeline


class Scope:
    """Which variable is in which place of a frame. Places are not used twice, so a frame is as long as all of them."""

    def __init__(self) -> None:
        self._names: list[tuple[str, int]] = [("$", 0)]
        self.size = 0

    def mark(self) -> int:
        return len(self._names)

    def forget(self, mark: int) -> None:
        """Those that were declared since."""
        del self._names[mark:]

    def declare(self, name: str) -> int:
        self.size += 1
        self._names.append((name, self.size))
        return self.size

    def find(self, name: str) -> int | None:
        return next((place for known, place in reversed(self._names) if known == name), None)


class PipelineCompiler:
    """Compiles the pipelines of one template, whose variables its scope knows."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def pipeline(self, node: Pipeline) -> Value:
        first, *others = (self._command(command, node) for command in node.commands)
        places = [self.target(target, node.assigns, node) for target in node.targets]
        if not others and not places:
            return lambda run, frame, dot: first(run, frame, dot, _ABSENT)

        def evaluate(run: Run, frame: Frame, dot: Any) -> Any:
            value = first(run, frame, dot, _ABSENT)
            for command in others:
                value = command(run, frame, dot, value)
            for place in places:
                place(frame, value)
            return value

        return evaluate

    def target(self, target: Variable, assigns: bool, of: Pipeline) -> Callable[[Frame, Any], None]:
        place = self._scope.find(target.name) if assigns else self._scope.declare(target.name)
        if place is None:
            return lambda frame, value: fail(last_evaluated(of), f"undefined variable: {target.name}")

        def put(frame: Frame, value: Any) -> None:
            frame[place] = value

        return put

    def _command(self, command: Command, within: Pipeline) -> Piped:
        first = command.operands[0]
        has_arguments = len(command.operands) > 1
        match first:
            case Identifier():
                return self._function(first, command, command.operands[1:])
            case Field() | Chain() | Variable(names=(_, *_)):
                return self._lookup(first, has_arguments=has_arguments)
        value_of = self._operand(first)
        node = within if isinstance(first, Pipeline) else first

        def evaluate(run: Run, frame: Frame, dot: Any, final: Any) -> Any:
            if has_arguments or final is not _ABSENT:
                fail(node, f"can't give argument to non-function {first}")
            if isinstance(first, Nil):
                fail(first, "nil is not a command")
            return value_of(run, frame, dot)

        return evaluate

    def _lookup(self, node: Field | Chain | Variable, *, has_arguments: bool) -> Piped:
        receiver_of: Value
        if isinstance(node, Field):
            receiver_of = _dot
        elif isinstance(node, Chain):
            if isinstance(node.of, Nil):
                return lambda run, frame, dot, final: fail(node, f"indirection through explicit nil in {node}")
            receiver_of = self._operand(node.of)
        else:
            receiver_of = self._variable(node)
        first, *others = node.names
        place = last_evaluated(node)

        def evaluate(run: Run, frame: Frame, dot: Any, final: Any) -> Any:
            value = receiver_of(run, frame, dot)
            given = has_arguments or final is not _ABSENT
            if not others:
                return None if value is None else field_of(value, first, place, given, type_name)
            if value is None:
                return None
            owner, value = value, field_of(value, first, place, False, type_name)
            *inner, last = others
            for name in inner:
                owner, value = value, field_of(value, name, place, False, type_in(owner))
            return field_of(value, last, place, given, type_in(owner))

        return evaluate

    def _operand(self, node: Operand) -> Value:
        match node:
            case Dot():
                return _dot
            case Constant():
                constant = node.value
                return lambda run, frame, dot: constant
            case Nil():
                return lambda run, frame, dot: None
            case Pipeline():
                return self.pipeline(node)
            case Identifier():
                call = self._function(node, node, ())
                return lambda run, frame, dot: call(run, frame, dot, _ABSENT)
            case Variable(names=()):
                return self._variable(node)
        lookup = self._lookup(node, has_arguments=False)
        return lambda run, frame, dot: lookup(run, frame, dot, _ABSENT)

    def _variable(self, node: Variable) -> Value:
        """What the variable holds, without what is looked up in it."""
        place = self._scope.find(node.name)
        if place is None:
            return lambda run, frame, dot: fail(node, f"undefined variable: {node.name}")
        return lambda run, frame, dot: frame[place]

    def _function(self, name: Identifier, command: Any, operands: tuple[Operand, ...]) -> Piped:
        function = FUNCTIONS[name.name]
        if name.name in ("and", "or"):
            return self._logical(name, operands)
        arguments = tuple(
            self._argument(operand, is_text=function.texts < 0 or index < function.texts)
            for index, operand in enumerate(operands)
        )
        complaints = _count_complaints(function, name.name, len(operands))

        def evaluate(run: Run, frame: Frame, dot: Any, final: Any) -> Any:
            is_piped = final is not _ABSENT
            if complaint := complaints[is_piped]:
                fail(name, complaint)
            given = [argument(run, frame, dot) for argument in arguments]
            if is_piped:
                given.append(final)
                if function.texts < 0 or len(given) <= function.texts:
                    check_text(final, last_evaluated(operands[-1]) if operands else name)
            try:
                return function.call(run, given)
            except CallError as exc:
                raise GoExecutionError(command, f"error calling {name.name}: {exc}") from exc

        return evaluate

    def _logical(self, name: Identifier, operands: tuple[Operand, ...]) -> Piped:
        """`and` and `or`, which look at no more of their arguments than they need."""
        arguments = tuple(self._operand(operand) for operand in operands)
        wanted = name.name == "or"
        complaints = _count_complaints(FUNCTIONS[name.name], name.name, len(operands))

        def evaluate(run: Run, frame: Frame, dot: Any, final: Any) -> Any:
            if complaint := complaints[final is not _ABSENT]:
                fail(name, complaint)
            value: Any = None
            for argument in arguments:
                value = argument(run, frame, dot)
                if is_true(value) == wanted:
                    return value
            return value if final is _ABSENT else final

        return evaluate

    def _argument(self, operand: Operand, *, is_text: bool) -> Value:
        value_of = self._operand(operand)
        if not is_text:
            return value_of
        if isinstance(operand, Nil):
            return lambda run, frame, dot: fail(operand, "cannot assign nil to string")
        if isinstance(operand, Constant) and not isinstance(operand.value, str):
            return lambda run, frame, dot: fail(operand, f"expected string; found {operand}")

        def evaluate(run: Run, frame: Frame, dot: Any) -> Any:
            value = value_of(run, frame, dot)
            check_text(value, last_evaluated(operand))
            return value

        return evaluate


def _dot(run: Run, frame: Frame, dot: Any) -> Any:
    return dot


def last_evaluated(node: Any) -> Any:
    """The part of a node that Go looks at last, and names in its complaints."""
    while isinstance(node, Pipeline | Chain):
        if isinstance(node, Chain):
            if not isinstance(node.of, Pipeline):
                return node
            node = node.of
        operands = node.commands[-1].operands if isinstance(node, Pipeline) else (node,)
        node = operands[-1] if isinstance(operands[0], Identifier) else operands[0]
    return node


def _count_complaints(function: Function, name: str, written: int) -> tuple[str, str]:
    """What is wrong with so many arguments, without and with one more from the pipeline; "" where nothing is."""
    found = []
    for given in (written, written + 1):
        if function.takes_more:
            complaint = f"wrong number of args for {name}: want at least {function.least} got {written}"
        else:
            complaint = f"wrong number of args for {name}: want {function.least} got {given}"
        is_right = given == function.least or (function.takes_more and given > function.least)
        found.append("" if is_right else complaint)
    return found[0], found[1]


def weight_of(node: Pipeline | Operand) -> int:
    """How many values have to be found to know this one: what it is charged each time."""
    if isinstance(node, Pipeline):
        return 1 + sum(1 + weight_of(operand) for command in node.commands for operand in command.operands)
    if isinstance(node, Chain):
        return len(node.names) + weight_of(node.of)
    return len(node.names) if isinstance(node, Field | Variable) else 1
