"""Makes a parsed template into Python functions that run it, one for each node.

What goes wrong when it is run is a GoExecutionError, with the node that Go would name.
Source: Go 1.26 text/template/exec.go, the walk functions, written anew; a key that a map lacks is `<no value>` (its option
missingkey=zero).
"""

from collections.abc import Mapping
from typing import Any, Final

from corral.template.gotmpl.budget import MAX_DEPTH
from corral.template.gotmpl.functions import is_true
from corral.template.gotmpl.lexer import quoted
from corral.template.gotmpl.nodes import Action, Branch, Call, Jump, List, Node, Pipeline, Text, Tree
from corral.template.gotmpl.pipelines import PipelineCompiler, Scope, last_evaluated, weight_of
from corral.template.gotmpl.printing import shown
from corral.template.gotmpl.running import Frame, GoExecutionError, Run, Step, entries, fail

_BREAK: Final = "break"
_CONTINUE: Final = "continue"
_NO_VALUE: Final = "<no value>"


class CompiledTree:
    """A tree's main template, ready to run in a frame of `frame_size` variables besides `$`, and those it can call."""

    def __init__(self, tree: Tree) -> None:
        steps: dict[str, tuple[Step, int]] = {}
        for name, body in tree.defined.items():
            steps[name] = _TemplateCompiler(steps).compiled(body)
        self.main, self.frame_size = _TemplateCompiler(steps).compiled(tree.body)


class _TemplateCompiler:
    """Compiles one template; `steps` are those that it can call, filled in before any is run."""

    def __init__(self, steps: Mapping[str, tuple[Step, int]]) -> None:
        self._steps = steps
        self._scope = Scope()
        self._pipelines = PipelineCompiler(self._scope)

    def compiled(self, body: List) -> tuple[Step, int]:
        step = self._list(body)
        return step, self._scope.size

    def _list(self, body: List) -> Step:
        steps = tuple(self._node(node) for node in body.nodes)
        if len(steps) == 1:
            return steps[0]

        def run_all(run: Run, frame: Frame, dot: Any) -> str | None:
            for step in steps:
                if jump := step(run, frame, dot):
                    return jump
            return None

        return run_all

    def _node(self, node: Node) -> Step:
        match node:
            case Text():
                return _text(node.text)
            case Action():
                return self._action(node)
            case Branch(kind="range"):
                return self._range(node)
            case Branch():
                return self._branch(node)
            case Call():
                return self._call_template(node)
            case Jump():
                kind = _BREAK if node.kind == "break" else _CONTINUE
                return lambda run, frame, dot: kind

    def _action(self, node: Action) -> Step:
        value_of = self._pipelines.pipeline(node.pipeline)
        is_silent = bool(node.pipeline.targets)
        weight = weight_of(node.pipeline)

        def act(run: Run, frame: Frame, dot: Any) -> None:
            run.steps -= weight
            if run.steps < 0:
                run.spent()
            value = value_of(run, frame, dot)
            if is_silent:
                return
            text = value if type(value) is str else _NO_VALUE if value is None else shown(value)
            run.chars -= len(text)
            if run.chars < 0:
                run.spent()
            run.out.append(text)

        return act

    def _branch(self, node: Branch) -> Step:
        kept = self._scope.mark()
        value_of = self._pipelines.pipeline(node.pipeline)
        body = self._list(node.body)
        otherwise = self._list(node.otherwise) if node.otherwise else None
        self._scope.forget(kept)
        moves_dot = node.kind == "with"
        weight = weight_of(node.pipeline)

        def choose(run: Run, frame: Frame, dot: Any) -> str | None:
            run.steps -= weight
            if run.steps < 0:
                run.spent()
            value = value_of(run, frame, dot)
            if is_true(value):
                return body(run, frame, value if moves_dot else dot)
            return otherwise(run, frame, dot) if otherwise else None

        return choose

    def _range(self, node: Branch) -> Step:
        kept = self._scope.mark()
        targets = node.pipeline.targets
        bare = Pipeline(node.pipeline.start, (), False, node.pipeline.commands)
        value_of = self._pipelines.pipeline(bare)
        places = [self._pipelines.target(target, node.pipeline.assigns, bare) for target in targets]
        body = self._list(node.body)
        otherwise = self._list(node.otherwise) if node.otherwise else None
        self._scope.forget(kept)
        last = last_evaluated(node.pipeline)
        weight = weight_of(node.pipeline)

        def loop(run: Run, frame: Frame, dot: Any) -> str | None:
            run.steps -= weight
            if run.steps < 0:
                run.spent()
            value = value_of(run, frame, dot)
            is_empty = True
            for key, item in entries(value, len(places), last):
                is_empty = False
                run.steps -= 1
                if run.steps < 0:
                    run.spent()
                if len(places) == 1:
                    places[0](frame, item)
                elif places:
                    places[0](frame, key)
                    places[1](frame, item)
                if body(run, frame, item) == _BREAK:
                    break
            if is_empty and otherwise:
                return otherwise(run, frame, dot)
            return None

        return loop

    def _call_template(self, node: Call) -> Step:
        value_of = self._pipelines.pipeline(node.pipeline) if node.pipeline else None
        templates = self._steps
        weight = 1 + (weight_of(node.pipeline) if node.pipeline else 0)

        def call(run: Run, frame: Frame, dot: Any) -> None:
            run.steps -= weight
            if run.steps < 0:
                run.spent()
            if node.name not in templates:
                fail(node, f"template {quoted(node.name)} not defined")
            if run.depth == MAX_DEPTH:
                fail(node, f"exceeded maximum template depth ({MAX_DEPTH})")
            inner = value_of(run, frame, dot) if value_of else None
            step, size = templates[node.name]
            run.depth += 1
            try:
                step(run, [inner, *[None] * size], inner)
            except GoExecutionError as exc:
                exc.template = exc.template or node.name
                raise
            run.depth -= 1

        return call


def _text(text: str) -> Step:
    size = len(text)

    def write(run: Run, frame: Frame, dot: Any) -> None:
        run.steps -= 1
        run.chars -= size
        if run.chars < 0 or run.steps < 0:
            run.spent()
        run.out.append(text)

    return write
