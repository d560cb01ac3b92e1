"""Parses a Go template into its tree, and complains in Go's words.

Every function and variable that is named must be known. Source: Go 1.26 text/template/parse/parse.go, written anew.
"""

from collections import Counter
from collections.abc import Collection
from typing import Any, Final, NoReturn

from corral.template.gotmpl.lexer import Token, quoted, tokens
from corral.template.gotmpl.literals import number, unquoted
from corral.template.gotmpl.nodes import (
    Action,
    Branch,
    Call,
    Chain,
    Command,
    Constant,
    Dot,
    Field,
    Identifier,
    Jump,
    List,
    Nil,
    Node,
    Operand,
    Pipeline,
    Text,
    Tree,
    Variable,
)

_MAX_PARENTHESES: Final = 100  # one in another; Go takes 10,000, for which Python's own stack has no room
_OPERANDS: Final = frozenset({"bool", "char", ".", "field", "identifier", "number", "nil", "raw", "string", "variable", "("})


class GoSyntaxError(Exception):
    """What is wrong with a template's text, in Go's words: `template: :1: unclosed action`."""


class _End:
    """What ends a list of nodes: `{{end}}` or `{{else}}`; after the latter `then` is the keyword that follows it, if any."""

    def __init__(self, kind: str, then: str = "") -> None:
        self.kind = kind
        self.then = then

    def __str__(self) -> str:
        return f"{{{{{self.kind}}}}}"


def parse(source: str, functions: Collection[str]) -> Tree:
    """The tree of a template. Raises GoSyntaxError, and RecursionError where it is nested too deeply."""
    return _Parser(tokens(source), functions).parse()


class _Parser:
    def __init__(self, items: list[Token], functions: Collection[str]) -> None:
        self._items = items
        self._functions = functions
        self._at = 0
        self._furthest = 0  # the last token looked at: where Go says that an error is
        self._variables = ["$"]  # in the order of their declaration, so that a block can forget its own
        self._known = Counter(self._variables)
        self._parentheses = 0
        self._ranges = 0
        self._action_line = 0
        self._defined: dict[str, List] = {}

    def parse(self) -> Tree:
        nodes: list[Node] = []
        while self._peek().kind != "eof":
            if self._peek().kind == "{{" and self._items[self._after_delimiter()].kind == "define":
                self._at = self._after_delimiter() + 1
                self._define()
                continue
            node = self._text_or_action()
            if isinstance(node, _End):
                self._fail(f"unexpected {node}")
            nodes.append(node)
        body = List(tuple(nodes))
        if body.is_blank and "" in self._defined:
            body = self._defined[""]
        return Tree(body, self._defined)

    # tokens

    def _next(self) -> Token:
        token = self._items[self._at]
        self._furthest = max(self._furthest, self._at)
        self._at = min(self._at + 1, len(self._items) - 1)
        return token

    def _peek(self) -> Token:
        self._furthest = max(self._furthest, self._at)
        return self._items[self._at]

    def _skip_space(self) -> None:
        while self._peek().kind == "space":
            self._at += 1

    def _next_word(self) -> Token:
        """The next token that is no white space."""
        self._skip_space()
        return self._next()

    def _peek_word(self) -> Token:
        self._skip_space()
        return self._peek()

    def _after_delimiter(self) -> int:
        at = self._at + 1
        while self._items[at].kind == "space":
            at += 1
        self._furthest = max(self._furthest, at)
        return at

    def _expect(self, kinds: tuple[str, ...], context: str) -> Token:
        token = self._next_word()
        if token.kind not in kinds:
            self._unexpected(token, context)
        return token

    def _fail(self, message: str) -> NoReturn:
        raise GoSyntaxError(f"template: :{self._items[self._furthest].line}: {message}")

    def _unexpected(self, token: Token, context: str) -> NoReturn:
        if token.kind != "error":
            self._fail(f"unexpected {token} in {context}")
        where = ""
        if self._action_line not in (0, token.line):
            where = f" in action started at :{self._action_line}"
            if token.text.endswith(" action"):
                where = where.removeprefix(" in action")
        self._fail(f"{token}{where}")

    # lists and actions

    def _list(self) -> tuple[List, _End]:
        nodes: list[Node] = []
        while True:
            if self._peek_word().kind == "eof":
                self._fail("unexpected EOF")
            node = self._text_or_action()
            if isinstance(node, _End):
                return List(tuple(nodes)), node
            nodes.append(node)

    def _text_or_action(self) -> Node | _End:
        token = self._next_word()
        if token.kind == "text":
            return Text(token.start, token.text)
        if token.kind != "{{":
            self._unexpected(token, "input")
        self._action_line = token.line
        node = self._action()
        self._action_line = 0
        return node

    def _action(self) -> Node | _End:
        token = self._peek_word()
        match token.kind:
            case "if" | "with" | "range":
                self._next()
                return self._branch(token.kind)
            case "else" | "end":
                self._next()
                return self._end(token.kind)
            case "break" | "continue":
                self._next()
                return self._jump(token)
            case "block":
                self._next()
                return self._block()
            case "template":
                self._next()
                return self._call()
        return Action(token.start, self._pipeline("command", "}}"))

    def _branch(self, kind: str) -> Branch:
        kept = len(self._variables)
        pipeline = self._pipeline(kind, "}}")
        self._ranges += kind == "range"
        body, end = self._list()
        self._ranges -= kind == "range"
        otherwise: List | None = None
        if end.kind == "else":
            if end.then and end.then == kind:
                self._next()
                otherwise = List((self._branch(kind),))
            else:
                otherwise, end = self._list()
                if end.kind != "end":
                    self._fail(f"expected end; found {end}")
        self._known.subtract(self._variables[kept:])
        del self._variables[kept:]
        return Branch(pipeline.start, kind, pipeline, body, otherwise)

    def _end(self, kind: str) -> _End:
        if kind == "else" and (then := self._peek_word().kind) in ("if", "with"):
            return _End("else", then)
        self._expect(("}}",), kind)
        return _End(kind)

    def _jump(self, keyword: Token) -> Jump:
        token = self._next_word()
        if token.kind != "}}":
            self._unexpected(token, f"{{{{{keyword.kind}}}}}")
        if not self._ranges:
            self._fail(f"{{{{{keyword.kind}}}}} outside {{{{range}}}}")
        return Jump(keyword.start, keyword.kind)

    def _define(self) -> None:
        _, name = self._template_name("define clause")
        self._expect(("}}",), "define clause")
        self._inner(name, "define clause")

    def _block(self) -> Call:
        start, name = self._template_name("block clause")
        pipeline = self._pipeline("block clause", "}}")
        self._inner(name, "block clause")
        return Call(start, name, pipeline)

    def _inner(self, name: str, context: str) -> None:
        """The body of a template of its own: no variable of the one around it is known in it."""
        kept = self._variables, self._known, self._ranges
        self._variables, self._known, self._ranges = ["$"], Counter("$"), 0
        body, end = self._list()
        self._variables, self._known, self._ranges = kept
        if end.kind != "end":
            self._fail(f"unexpected {end} in {context}")
        if name not in self._defined or self._defined[name].is_blank:
            self._defined[name] = body
        elif not body.is_blank:
            self._fail(f"template: multiple definition of template {quoted(name)}")

    def _call(self) -> Call:
        start, name = self._template_name("template clause")
        if self._peek_word().kind == "}}":
            self._next()
            return Call(start, name, None)
        return Call(start, name, self._pipeline("template clause", "}}"))

    def _template_name(self, context: str) -> tuple[int, str]:
        token = self._expect(("string", "raw"), context)
        name = unquoted(token.text)
        if name is None:
            self._fail("invalid syntax")
        return token.start, name

    # pipelines

    def _pipeline(self, context: str, end: str) -> Pipeline:
        start = self._peek_word().start
        targets, assigns = self._targets(context)
        commands: list[Command] = []
        while (token := self._peek_word()).kind in _OPERANDS:
            commands.append(self._command())
        self._next()
        if token.kind != end:
            self._unexpected(token, context)
        if not commands:
            self._fail(f"missing value for {context}")
        for stage, command in enumerate(commands[1:], start=2):
            if isinstance(command.operands[0], Constant | Dot | Nil):
                self._fail(f"non executable command in pipeline stage {stage}")
        return Pipeline(start, tuple(targets), assigns, tuple(commands))

    def _targets(self, context: str) -> tuple[list[Variable], bool]:
        """The variables that the pipeline's value goes to, and whether they are there already."""
        targets: list[Variable] = []
        while (token := self._peek_word()).kind == "variable":
            begun = self._at
            self._next()
            follows = self._peek_word()
            if follows.kind not in (":=", "=") and (follows.kind, follows.text) != ("mark", ","):
                self._at = begun  # no target but an operand
                break
            self._next()
            targets.append(Variable(token.start, token.text, ()))
            self._variables.append(token.text)
            self._known[token.text] += 1
            if follows.kind != "mark":
                return targets, follows.kind == "="
            if context != "range" or len(targets) > 1:
                self._fail(f"too many declarations in {context}")
            if self._peek_word().kind not in ("variable", "}}", ")"):
                self._fail("range can only initialize variables")
        return targets, False

    def _command(self) -> Command:
        start = self._peek_word().start
        operands: list[Operand] = []
        while True:
            self._skip_space()
            operand = self._operand()
            if operand is not None:
                operands.append(operand)
            token = self._peek()
            if token.kind == "space":
                continue
            if token.kind == "|":
                self._next()
            elif token.kind not in ("}}", ")"):
                self._next()
                self._unexpected(token, "operand")
            break
        if not operands:
            self._fail("empty command")
        return Command(start, tuple(operands))

    def _operand(self) -> Operand | None:
        term = self._term()
        if term is None or self._peek().kind != "field":
            return term
        start = self._peek().start
        names: list[str] = []
        while self._peek().kind == "field":
            names.append(self._next().text[1:])
        if isinstance(term, Constant | Nil | Dot):
            self._fail(f"unexpected . after term {quoted(str(term))}")
        if isinstance(term, Field):
            return Field(start, (*term.names, *names))
        if isinstance(term, Variable):
            return Variable(start, term.name, (*term.names, *names))
        return Chain(start, term, tuple(names))

    def _term(self) -> Operand | None:
        token = self._peek()
        if token.kind not in _OPERANDS:
            return None
        self._next()
        start = token.start
        match token.kind:
            case "identifier":
                if token.text not in self._functions:
                    self._fail(f"function {quoted(token.text)} not defined")
                return Identifier(start, token.text)
            case ".":
                return Dot(start)
            case "nil":
                return Nil(start)
            case "variable":
                if not self._known[token.text]:
                    self._fail(f"undefined variable {quoted(token.text)}")
                return Variable(start, token.text, ())
            case "field":
                return Field(start, (token.text[1:],))
            case "(":
                return self._parenthesized()
        return Constant(start, self._value(token), token.text)

    def _parenthesized(self) -> Pipeline:
        self._parentheses += 1
        if self._parentheses > _MAX_PARENTHESES:
            self._fail("max expression depth exceeded")
        pipeline = self._pipeline("parenthesized pipeline", ")")
        self._parentheses -= 1
        return pipeline

    def _value(self, token: Token) -> Any:
        if token.kind == "bool":
            return token.text == "true"
        if token.kind in ("string", "raw"):
            text = unquoted(token.text)
            if text is None:
                self._fail("invalid syntax")
            return text
        try:
            return number(token.text)
        except ValueError as exc:
            self._fail(str(exc))
