"""One call as a model's family writes it: what stands between the texts around each call."""

import json
from typing import Final

from corral.parse.formats import Body, BracedCalls, JsonCalls, NamedCalls, PythonCalls, TaggedCalls
from corral.parse.grammars.json_form import embedded
from corral.parse.grammars.lark import Lark, quoted, quoted_json, sequence
from corral.parse.grammars.literals import BracedLiterals, PythonArguments, PythonLiterals
from corral.parse.grammars.refusals import UnenforceableError
from corral.parse.grammars.tagged import TaggedArguments
from corral.parse.grammars.toolset import Tool
from corral.parse.schema import Toolbox

_ID: Final = "/[A-Za-z0-9]{9}/"  # Mistral's templates insist on nine; no other family writes ids of its own
_BLANK: Final = r"/[ \n]{0,64}/"
_NUMBER: Final = "/[0-9]{1,3}/"  # which call of the answer, or of the conversation, it is


class Bodies:
    """Rules for calls of one form."""

    def __init__(self, lark: Lark, body: Body, tools: Toolbox) -> None:
        self._lark = lark
        self._body = body
        self._tools = tools

    def call(self, tool: Tool) -> str:
        """A whole call. Raises UnenforceableError for a tool that cannot be called in this form.

        Of a lenient one it takes any arguments, where those of its schema cannot be written.
        """
        return self.exact_call(tool if self._can_write(tool) else tool.loosened())

    def _can_write(self, tool: Tool) -> bool:
        """Found out apart from the grammar, for a tool that is lenient; of any other it is found out in it."""
        if not tool.is_lenient or isinstance(self._body, JsonCalls | NamedCalls):
            return True
        try:
            Bodies(Lark(), self._body, self._tools).exact_call(tool)
        except UnenforceableError:
            return False
        return True

    def exact_call(self, tool: Tool) -> str:
        """A whole call, with the arguments of the tool's schema. Raises UnenforceableError where they cannot be written."""
        if not isinstance(self._body, JsonCalls):
            tool.check_bare()
        match self._body:
            case JsonCalls() as body:
                return self._json(body, tool)
            case NamedCalls() as body:
                return self._named(body, tool)
            case TaggedCalls() as body:
                return sequence((quoted(tool.name + body.after_name), self._tagged(body, tool)))
            case BracedCalls() as body:
                literals = BracedLiterals(self._lark, tool.arguments, body.quote)
                arguments = literals.value(tool.arguments.root)
                literals.settle()
                return sequence((quoted(tool.name), arguments))
            case PythonCalls():
                return sequence((quoted(tool.name + "("), self._python(tool), quoted(")")))

    def json_arguments(self, tool: Tool, *, is_indented: bool = False) -> str:
        return self._lark.rule(embedded(tool.arguments, is_indented=is_indented))

    def begun(self, tool: Tool) -> tuple[str, str] | None:
        """What a call begins with up to its name, as text, and the rest of it; None where something else comes first."""
        body = self._body
        if not isinstance(body, JsonCalls) or body.inside or body.is_indented or (body.id_key and body.id_first):
            return None
        name = json.dumps(tool.name, ensure_ascii=False)
        if body.is_keyed:
            return "{" + name, sequence((quoted_json(": "), self.json_arguments(tool), quoted_json("}")))
        return f'{{"{body.name_key}": {name}', sequence((*self._behind_name(body, tool), quoted_json("}")))

    def _json(self, body: JsonCalls, tool: Tool) -> str:
        """An object with the name in it. Arguments that a family writes as a text with JSON in it are left as an object."""
        if begun := self.begun(tool):
            return sequence((quoted_json(begun[0]), begun[1]))
        said: tuple[str, ...] = (
            quoted_json(f'"{body.name_key}": {json.dumps(tool.name, ensure_ascii=False)}'),
            *self._behind_name(body, tool),
        )
        if body.inside:
            said = (quoted_json(f'"{body.inside}": {{'), *said, quoted_json("}"))
        if body.id_key and body.id_first:
            said = (self._json_id(body), self._comma(body), *said)
        blank = _BLANK if body.is_indented else ""
        return sequence((quoted_json("{"), blank, *said, blank, quoted_json("}")))

    def _behind_name(self, body: JsonCalls, tool: Tool) -> tuple[str, ...]:
        arguments = self.json_arguments(tool, is_indented=body.is_indented)
        said = (self._comma(body), quoted_json(f'"{body.arguments_key}": '), arguments)
        return (*said, self._comma(body), self._json_id(body)) if body.id_key and not body.id_first else said

    def _comma(self, body: JsonCalls) -> str:
        return sequence((quoted_json(","), _BLANK)) if body.is_indented else quoted_json(", ")

    def _json_id(self, body: JsonCalls) -> str:
        key = f'"{body.id_key}": '
        match body.id_number:
            case "number":
                return sequence((quoted(key), _NUMBER))
            case "text":
                return sequence((quoted(key + '"'), _NUMBER, quoted('"')))
            case _:
                return sequence((quoted(key + '"'), _ID, quoted('"')))

    def _named(self, body: NamedCalls, tool: Tool) -> str:
        head: tuple[str, ...] = (quoted(tool.name + body.before_arguments),)
        if body.before_id:
            call_id = _NUMBER if body.before_id == ":" else _ID
            head = (quoted(tool.name + body.before_id), call_id, quoted(body.before_arguments))
        return sequence((*head, self.json_arguments(tool)))

    def _tagged(self, body: TaggedCalls, tool: Tool) -> str:
        return TaggedArguments(self._lark, body, tool.arguments, tool.name, self._tools).written(tool.arguments.root)

    def _python(self, tool: Tool) -> str:
        nested = PythonLiterals(self._lark, tool.arguments)
        arguments = PythonArguments(self._lark, tool.arguments, nested).arguments(tool.arguments.root)
        nested.settle()
        return arguments
