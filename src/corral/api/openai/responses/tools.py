"""Tools as /v1/responses knows them: functions, alone or in namespaces, and which of them an answer may or must call.

A model is told of a namespace's function by a name with the namespace in it, and programs get the two apart again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from corral.api.errors import FieldError, UnsupportedFieldError
from corral.api.openai.convert import required
from corral.service.requests import ToolChoice
from corral.wire.openai import Json
from corral.wire.responses import ResponsesRequest

_ADVICE: Final[Mapping[str, str]] = {
    "custom": "send a function that takes a text",
    "web_search": "the server does not search the web; switch it off, or send a function of your own",
    "web_search_preview": "the server does not search the web; switch it off, or send a function of your own",
}
_NO_TOOL: Final = "the server runs no tools itself; send a function of your own"
_NO_CHOICE: Final = (
    'tool_choice must be none, auto, required, {"type":"function","name":…} or {"type":"allowed_tools","mode":…,"tools":[…]}'
)


@dataclass(frozen=True, slots=True)
class Tools:
    """What an answer may call."""

    shown: tuple[Json, ...]  # as templates want them
    parts: Mapping[str, tuple[str, str]]  # namespace and name of those that have one, by their whole names
    choice: ToolChoice


def tools_of(given: ResponsesRequest) -> Tools:
    """Raises FieldError for a tool that is none, or none that can be had, and for a choice among them that is impossible."""
    shown: dict[str, Json] = {}
    parts: dict[str, tuple[str, str]] = {}
    for namespace, function in _functions(given.tools or (), "tools", ""):
        name = whole_name(namespace, function["name"])
        if name in shown:
            raise FieldError("tools", f'tools: there is another tool named "{name}"; every tool needs a name of its own')
        shown[name] = {"type": "function", "function": _shown(function, name)}
        if namespace:
            parts[name] = (namespace, function["name"])
    return _chosen(given.tool_choice, shown, parts)


def whole_name(namespace: str | None, name: str) -> str:
    """By which a model knows the function."""
    if not namespace:
        return name
    return namespace + name if namespace.endswith("_") else f"{namespace}__{name}"


def _functions(given: Sequence[Any], at: str, namespace: str) -> Iterator[tuple[str, Json]]:
    """Each function, and the namespace that it is in, or ""."""
    for index, tool in enumerate(given):
        here = f"{at}[{index}]"
        kind = tool.get("type") if isinstance(tool, dict) else None
        match kind:
            case "function":
                _check_name(tool, here)
                yield namespace, tool
            case "namespace" if not namespace:
                _check_name(tool, here)
                yield from _functions(tool.get("tools") or (), f"{here}.tools", tool["name"])
            case str():
                text = f'{here}.type "{kind}" is not supported: {_ADVICE.get(kind, _NO_TOOL)}'
                raise UnsupportedFieldError(f"{here}.type", text)
            case _:
                raise FieldError(f"{here}.type", f"{here}.type is missing; it must be function or namespace")


def _check_name(tool: Json, at: str) -> None:
    if not tool.get("name") or not isinstance(tool["name"], str):
        raise FieldError(f"{at}.name", f"{at}.name is missing; every tool needs a name")


def _shown(function: Json, name: str) -> Json:
    more = {key: function[key] for key in ("description", "parameters", "strict") if function.get(key) is not None}
    return {"name": name, **more}


def _chosen(given: str | Json | None, shown: Mapping[str, Json], parts: Mapping[str, tuple[str, str]]) -> Tools:
    match given:
        case None | "auto":
            return Tools(tuple(shown.values()), parts, ToolChoice())
        case "none":
            return Tools(tuple(shown.values()), parts, ToolChoice(mode="none"))
        case "required":
            return Tools(tuple(shown.values()), parts, required("", tuple(shown.values())))
        case {"type": "function", "name": str(name)} if name:
            return Tools(tuple(shown.values()), parts, required(_known(name, shown, parts), tuple(shown.values())))
        case {"type": "allowed_tools", "mode": "auto" | "required" as mode, "tools": list(tools)}:
            return _chosen(mode, {name: shown[name] for name in _allowed(tools, shown, parts)}, parts)
        case {"type": str(kind)} if kind not in ("function", "allowed_tools"):
            raise UnsupportedFieldError("tool_choice", f'tool_choice of type "{kind}" is not supported: {_NO_TOOL}')
        case _:
            raise FieldError("tool_choice", _NO_CHOICE)


def _allowed(given: Sequence[Any], shown: Mapping[str, Json], parts: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    at = "tool_choice.tools"
    for index, (namespace, function) in enumerate(_functions(given, at, "")):
        name = _known(whole_name(namespace, function["name"]), shown, parts)
        if name not in shown:
            raise FieldError(f"{at}[{index}]", f'{at}[{index}] names "{name}", which is none of the tools')
        yield name


def _known(name: str, shown: Mapping[str, Json], parts: Mapping[str, tuple[str, str]]) -> str:
    """The whole name of the function, where it is named without its namespace, and only one can be meant."""
    same = [whole for whole, (_, own) in parts.items() if own == name]
    return same[0] if name not in shown and len(same) == 1 else name
