"""What a Go template sees of a conversation: Ollama's names, Go's way of printing, JSON in Go's spelling.

Source: ollama@v0.32 api/types.go (Message, ToolCall, Tool, ToolProperty) and template/template.go (funcs, collate).
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from corral.core.types import Message, ToolCall

_TOOL_ORDER: Final = ("type", "items", "function")
_FUNCTION_ORDER: Final = ("name", "description", "parameters")
_PARAMETERS_ORDER: Final = ("type", "$defs", "items", "required", "properties")
_PROPERTY_ORDER: Final = ("anyOf", "type", "items", "description", "enum", "properties", "required")
_TYPESCRIPT: Final = {
    "string": "string",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "array": "any[]",
    "object": "Record<string, any>",
    "null": "null",
}


class View:
    """A Go struct that prints itself as JSON: `wire`. Fields are looked up in `shown`."""

    __slots__ = ("_shown", "wire")

    def __init__(self, shown: Mapping[str, Any], wire: Any) -> None:
        self._shown = shown
        self.wire = wire

    def __gotemplate_lookup__(self, field: str) -> Any:  # the hook that gotpl asks for
        return self._shown[field]

    def __str__(self) -> str:
        return go_json(self.wire)


class Items:
    """A Go slice that prints itself as JSON. Never empty: an empty list is false to a template, and this is not."""

    __slots__ = ("_items", "wire")

    def __init__(self, items: Sequence[View]) -> None:
        self._items = items
        self.wire = [item.wire for item in items]

    def __iter__(self) -> Iterator[View]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __str__(self) -> str:
        return go_json(self.wire)


def go_json(value: Any) -> str:
    """JSON as Go's encoder writes it: compact, `<`, `>` and `&` escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    for character, escaped in (
        ("<", r"\u003c"),
        (">", r"\u003e"),
        ("&", r"\u0026"),
        ("\u2028", r"\u2028"),
        ("\u2029", r"\u2029"),
    ):
        text = text.replace(character, escaped)
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return getattr(value, "wire", value)


def to_json(value: Any) -> str:
    """The template function `json`."""
    return go_json(_plain(value))


def current_date() -> str:
    return datetime.now().astimezone().strftime("%Y-%m-%d")


def yesterday_date() -> str:
    return (datetime.now().astimezone() - timedelta(days=1)).strftime("%Y-%m-%d")


def to_typescript_type(value: Any) -> str:
    """The type of a tool's property as TypeScript spells it: `string | null`."""
    return _typescript(value.wire) if isinstance(value, View) else "any"


def _typescript(schema: Any) -> str:
    if not isinstance(schema, Mapping):
        return "any"
    if schema.get("anyOf"):
        return " | ".join(map(_typescript, schema["anyOf"]))
    kinds = schema.get("type") or "any"
    return " | ".join(_TYPESCRIPT.get(kind, "any") for kind in ([kinds] if isinstance(kinds, str) else kinds))


def message_view(message: Message) -> dict[str, Any]:
    return {
        "Role": message.role,
        "Content": message.content,
        "Thinking": message.thinking,
        "Images": list(message.images),
        "ToolCalls": [_call_view(call) for call in message.tool_calls],
        "ToolName": message.tool_name,
        "ToolCallID": message.tool_call_id,
    }


def _call_view(call: ToolCall) -> View:
    from corral.template.gotmpl.arguments import Arguments

    function = {"index": call.index, "name": call.name, "arguments": call.arguments}
    shown = {"Index": call.index, "Name": call.name, "Arguments": Arguments.of(call.arguments)}
    wire = {"id": call.call_id, "function": function} if call.call_id else {"function": function}
    return View({"ID": call.call_id, "Function": View(shown, function)}, wire)


def tool_views(tools: Sequence[Mapping[str, Any]]) -> Items | list[View]:
    return Items([_tool_view(tool) for tool in tools]) if tools else []


def _tool_view(tool: Mapping[str, Any]) -> View:
    function = tool.get("function")
    shown = _function_view(function if isinstance(function, Mapping) else {})
    return View({"Type": tool.get("type", ""), "Function": shown}, _ordered({**tool, "function": shown.wire}, _TOOL_ORDER))


def _function_view(function: Mapping[str, Any]) -> View:
    parameters = function.get("parameters")
    shown = _parameters_view(parameters if isinstance(parameters, Mapping) else {})
    wire = _ordered({**function, "parameters": shown.wire}, _FUNCTION_ORDER)
    return View({"Name": function.get("name", ""), "Description": function.get("description", ""), "Parameters": shown}, wire)


def _parameters_view(parameters: Mapping[str, Any]) -> View:
    given = parameters.get("properties")
    properties = {name: property_view(value) for name, value in given.items()} if isinstance(given, Mapping) else {}
    wires = {name: view.wire for name, view in properties.items()}
    wire = _ordered({"type": "", **parameters, "properties": wires if isinstance(given, Mapping) else None}, _PARAMETERS_ORDER)
    shown = {
        "Type": parameters.get("type", ""),
        "Defs": parameters.get("$defs"),
        "Items": parameters.get("items"),
        "Required": list(parameters.get("required") or ()),
        "Properties": properties,
    }
    return View(shown, wire)


def property_view(value: Any) -> View:
    given: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
    shown = {
        "AnyOf": [property_view(option) for option in given.get("anyOf") or ()],
        "Type": given.get("type") or "",
        "Items": given.get("items"),
        "Description": given.get("description", ""),
        "Enum": list(given.get("enum") or ()),
    }
    return View(shown, _ordered(given, _PROPERTY_ORDER))


def _ordered(given: Mapping[str, Any], order: Sequence[str]) -> dict[str, Any]:
    """The mapping with these keys first, in this order."""
    return {key: given[key] for key in order if key in given} | {key: value for key, value in given.items() if key not in order}


def collated(messages: Iterable[Message]) -> tuple[str, list[Message]]:
    """All system texts as one, and the messages with neighbours of one role merged; tool results stay apart."""
    systems: list[str] = []
    merged: list[Message] = []
    for message in messages:
        if message.role == "system":
            systems.append(message.content)
        if merged and merged[-1].role == message.role != "tool":
            before = merged[-1]
            merged[-1] = _joined(before, message)
        else:
            merged.append(message)
    return "\n\n".join(systems), merged


def _joined(before: Message, after: Message) -> Message:
    """Two messages of one role as one."""
    return Message(
        role=before.role,
        content=f"{before.content}\n\n{after.content}",
        thinking=before.thinking or after.thinking,
        images=before.images + after.images,
        tool_calls=before.tool_calls + after.tool_calls,
        tool_name=before.tool_name,
        tool_call_id=before.tool_call_id,
    )
