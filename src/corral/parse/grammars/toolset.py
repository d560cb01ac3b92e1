"""The tools of a request, checked: their names, and what their arguments must be."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from corral.core.errors import BadRequestError
from corral.parse.grammars.compiling import compiled
from corral.parse.grammars.refusals import UnenforceableError, shown
from corral.parse.grammars.shapes import Schema

_BARE_NAME: Final = re.compile(r"[^\s<>\[\](){}\"'`,=]{1,256}")  # what calls.py reads where a name stands without quotes
_NO_ARGUMENTS: Final[Mapping[str, Any]] = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    arguments: Schema
    where: str
    is_lenient: bool = False  # what cannot be enforced of it is let be

    def loosened(self) -> "Tool":
        """The same, taking any arguments."""
        return replace(self, arguments=compiled(True, f"{self.where}.parameters", only="object"))

    def check_bare(self) -> None:
        """Raises UnenforceableError where the name can only stand in quotes."""
        if not _BARE_NAME.fullmatch(self.name) or "=" in self.name:
            raise UnenforceableError(
                f"{self.where}.name: {shown(self.name)} cannot be written in this model's calls; use letters, digits, _ and -"
            )


def toolset(tools: Sequence[Mapping[str, Any]], *, is_lenient: bool) -> list[Tool]:
    """The tools, in OpenAI's spelling or without its outer object. Raises BadRequestError for one that is none.

    With `is_lenient` a schema is enforced as far as it can be, but for tools that say `"strict": true`.
    """
    found: dict[str, Tool] = {}
    for at, tool in enumerate(tools):
        function, where = tool.get("function"), f"tools[{at}].function"
        if not isinstance(function, Mapping):
            function, where = tool, f"tools[{at}]"
        name = function.get("name")
        if not isinstance(name, str) or not name:
            raise BadRequestError(f"{where}.name: a tool needs a name")
        if name in found:
            raise BadRequestError(f"{where}.name: {shown(name)} is the name of {found[name].where} already")
        is_tool_lenient = is_lenient and function.get("strict") is not True
        arguments = _arguments(function.get("parameters"), f"{where}.parameters", is_lenient=is_tool_lenient)
        found[name] = Tool(name, arguments, where, is_tool_lenient)
    return list(found.values())


def named(tools: Sequence[Tool], name: str) -> list[Tool]:
    """The one tool of that name; all of them without one. Raises BadRequestError where there is none."""
    found = [tool for tool in tools if not name or tool.name == name]
    if not found:
        raise BadRequestError(f"tool_choice: {shown(name)} is none of the tools" if name else "tool_choice: there are no tools")
    return found


def _arguments(parameters: Any, where: str, *, is_lenient: bool) -> Schema:
    """Of a tool that says nothing of its arguments there are none. Whatever a schema says, they are an object."""
    if parameters is None:
        parameters = _NO_ARGUMENTS
    if not isinstance(parameters, Mapping | bool):
        raise BadRequestError(f"{where}: a JSON schema is an object or a boolean, not {shown(parameters)}")
    return compiled(parameters, where, is_lenient=is_lenient, only="object")
