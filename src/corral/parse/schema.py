"""What tools say of themselves: their names, and which types their arguments may have.

Needed where a format writes arguments as bare text: there "2" is a number or a string by the tool's schema alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from corral.parse.source import NotACallError
from corral.parse.values import whole

_MAX_SCHEMAS: Final = 64  # looked at for one argument: references may go round in circles
_KINDS: Final = ("anyOf", "oneOf", "allOf")


class Toolbox:
    """The tools of a request, in OpenAI's spelling."""

    def __init__(self, tools: Sequence[Mapping[str, Any]]) -> None:
        self._schemas: dict[str, Mapping[str, Any]] = {}
        for tool in tools:
            function = tool.get("function")
            function = function if isinstance(function, Mapping) else tool
            name, parameters = function.get("name"), function.get("parameters")
            if isinstance(name, str):
                self._schemas[name] = parameters if isinstance(parameters, Mapping) else {}

    def __bool__(self) -> bool:
        return bool(self._schemas)

    def __contains__(self, name: str) -> bool:
        return name in self._schemas

    def is_text(self, name: str, key: str) -> bool:
        """Whether the schema says that this argument is text, whatever it looks like."""
        return self.types(name, key) == {"string"}

    def types(self, name: str, key: str) -> frozenset[str]:
        """The types that an argument may have, as far as the tool's schema says it plainly; none where it does not."""
        schema = self._schemas.get(name, {})
        properties = schema.get("properties")
        of_key = properties.get(key) if isinstance(properties, Mapping) else None
        return _types(of_key, schema) if isinstance(of_key, Mapping) else frozenset()

    def typed(self, name: str, key: str, text: str) -> Any:
        """What a text means as that argument: text where the schema says so, else the JSON value that it is, if it is one."""
        types = self.types(name, key)
        if types == {"string"}:
            return text
        meant = json_value(text)
        if isinstance(meant, str) or (types and not types & _types_of(meant)):
            return text
        return meant


def json_value(text: str) -> Any:
    """The value that a text is in JSON or as Python prints it; the text itself where it is none."""
    try:
        return whole(text)
    except NotACallError:
        return text


def _types(schema: Mapping[str, Any], root: Mapping[str, Any]) -> frozenset[str]:
    """The types that a value may have; none where the schema does not say."""
    found: set[str] = set()
    looked_at = 0
    ahead = [schema]
    while ahead and (looked_at := looked_at + 1) <= _MAX_SCHEMAS:
        part = ahead.pop()
        named = part.get("type")
        types = {named} if isinstance(named, str) else set(_strings(named))
        values = part.get("enum", [part["const"]] if "const" in part else None)
        if not types and isinstance(values, list):
            types.update(*map(_types_of, values))
        if isinstance(reference := part.get("$ref"), str):
            ahead.append(_referred(reference, root))
        elif not types:
            ahead.extend(inner for kind in _KINDS for inner in _mappings(part.get(kind)))
        found |= types | ({"null"} if types and part.get("nullable") is True else set())
    return frozenset(found)


def _referred(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    at: Any = root
    for step in reference.removeprefix("#/").split("/"):
        at = at.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(at, Mapping) else None
    return at if isinstance(at, Mapping) else {}


def _strings(value: Any) -> Iterable[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list | tuple) else []


def _mappings(value: Any) -> Iterable[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list | tuple) else []


def _types_of(value: Any) -> frozenset[str]:
    match value:
        case None:
            return frozenset({"null"})
        case bool():
            return frozenset({"boolean"})
        case int():
            return frozenset({"integer", "number"})
        case float():
            return frozenset({"number", "integer"} if value.is_integer() else {"number"})
        case str():
            return frozenset({"string"})
        case list():
            return frozenset({"array"})
        case _:
            return frozenset({"object"})
