"""What a parsed Go template says of itself: which names it uses, and where the answer is written in it.

Source: ollama@v0.32 template/template.go, Vars, Execute and deleteNode.
"""

from collections.abc import Iterator

from corral.template.gotmpl.nodes import (
    Action,
    Branch,
    Call,
    Chain,
    Command,
    Field,
    List,
    Node,
    Operand,
    Pipeline,
    Tree,
    Variable,
)


def names(tree: Tree) -> frozenset[str]:
    """Every field that the template uses, at whatever depth: `Messages`, `Role`, `System`."""
    return frozenset(name for body in (tree.body, *tree.defined.values()) for name in _names_in_list(body))


def _names_in_list(body: List | None) -> Iterator[str]:
    for node in body.nodes if body else ():
        if isinstance(node, Action | Branch | Call) and node.pipeline:
            yield from _names(node.pipeline)
        if isinstance(node, Branch):
            yield from _names_in_list(node.body)
            yield from _names_in_list(node.otherwise)


def _names(node: Operand) -> Iterator[str]:
    if isinstance(node, Pipeline):
        for command in node.commands:
            for operand in command.operands:
                yield from _names(operand)
    elif isinstance(node, Field | Variable | Chain):
        yield from node.names
        if isinstance(node, Chain):
            yield from _names(node.of)


def with_response(tree: Tree) -> Tree:
    """The tree with `{{ .Response }}` at its end."""
    response = Action(0, Pipeline(0, (), False, (Command(0, (Field(0, ("Response",)),)),)))
    return Tree(List((*tree.body.nodes, response)), tree.defined)


def cut_at_response(tree: Tree) -> Tree:
    """The tree up to the first action that writes `.Response`, that one included; what stands after it is gone.

    This is what the last turn is rendered with: what comes after an answer is for the model to say.
    """
    body, _ = _cut(tree.body)
    return Tree(body, tree.defined)


def _cut(body: List) -> tuple[List, bool]:
    """The list up to the response, and whether it was in it."""
    kept: list[Node] = []
    for node in body.nodes:
        if isinstance(node, Branch):
            inner, is_cut = _cut(node.body)
            otherwise = node.otherwise
            if is_cut:
                otherwise = List(()) if otherwise else None
            elif otherwise:
                otherwise, is_cut = _cut(otherwise)
            kept.append(Branch(node.start, node.kind, node.pipeline, inner, otherwise))
        else:
            kept.append(node)
            is_cut = isinstance(node, Action) and "Response" in _names(node.pipeline)
        if is_cut:
            return List(tuple(kept)), True
    return List(tuple(kept)), False
