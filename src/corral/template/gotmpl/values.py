"""What a Go template sees of a conversation: Ollama's names, in Go's types, and JSON in Go's spelling.

Tools and the arguments of calls print themselves as JSON, in the order in which they were given.
Source: ollama@v0.32 api/types.go (Message, ToolCall, Tool, ToolProperty) and template/template.go (funcs, collate, convert).
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from corral.core.types import Message, ToolCall
from corral.template.gotmpl.printing import Items, OrderedMap, Struct, float_text

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
_encode: Final = msgspec.json.Encoder(enc_hook=str).encode
_ESCAPES: Final = (("<", r"\u003c"), (">", r"\u003e"), ("&", r"\u0026"), ("\u2028", r"\u2028"), ("\u2029", r"\u2029"))


def go_json(value: Any) -> str:
    """JSON as Go's encoder writes it: compact, `<`, `>` and `&` escaped, numbers without a point where they need none."""
    text = _encode(_plain(value)).decode()
    for char, escaped in _ESCAPES:
        text = text.replace(char, escaped)
    return text


def _plain(value: Any) -> Any:
    """What JSON is made of. A struct's is its `wire`, or its fields by name."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return None if isinstance(value, Items) and not value else [_plain(item) for item in value]
    if isinstance(value, Struct):
        if value.wire is not None:
            return _plain(value.wire)
        return {name: None if item == [] else _plain(item) for name, item in value.fields.items()}  # no slice is null
    if isinstance(value, float):
        return msgspec.Raw(float_text(value, exponent_from=21, exponent_below=-6).replace("e-0", "e-").encode())
    return value


def to_json(value: Any) -> str:
    """The template function `json`."""
    return go_json(value)


def current_date() -> str:
    return datetime.now().astimezone().strftime("%Y-%m-%d")


def yesterday_date() -> str:
    return (datetime.now().astimezone() - timedelta(days=1)).strftime("%Y-%m-%d")


def to_typescript_type(value: Any) -> str:
    """The type of a tool's property as TypeScript spells it: `string | null`."""
    return _typescript(value.wire) if isinstance(value, Struct) and value.type_name == _PROPERTY else "any"


def _typescript(schema: Any) -> str:
    if not isinstance(schema, Mapping):
        return "any"
    options = schema.get("anyOf")
    if options and isinstance(options, list):
        return " | ".join(map(_typescript, options))
    kinds = schema.get("type") or "any"
    return " | ".join(_TYPESCRIPT.get(str(kind), "any") for kind in (kinds if isinstance(kinds, list) else [kinds]))


def message_view(message: Message) -> Struct:
    return Struct(
        "*template.templateMessage",
        {
            "Role": message.role,
            "Content": message.content,
            "Thinking": message.thinking,
            "Images": list(message.images),
            "ToolCalls": [_call_view(call) for call in message.tool_calls],
            "ToolName": message.tool_name,
            "ToolCallID": message.tool_call_id,
        },
    )


def _call_view(call: ToolCall) -> Struct:
    given = call.arguments
    arguments = OrderedMap("template.templateArgs", given, wire=given, text=lambda: go_json(given))
    function = {"Index": call.index, "Name": call.name, "Arguments": arguments}
    return Struct(
        "template.templateToolCall",
        {"ID": call.call_id, "Function": Struct("template.templateToolCallFunction", function)},
    )


def tool_views(tools: Sequence[Mapping[str, Any]]) -> Items:
    views = [_tool_view(tool) for tool in tools]
    return Items(views, "template.templateTools", lambda: go_json(views or None))  # no slice is null


def _printing(type_name: str, fields: Mapping[str, Any], wire: Any) -> Struct:
    """A struct that prints itself as JSON."""
    return Struct(type_name, fields, wire=wire, text=lambda: go_json(wire))


def _tool_view(tool: Mapping[str, Any]) -> Struct:
    function = _function_view(_mapping(tool.get("function")))
    fields = {"Type": tool.get("type", ""), "Items": tool.get("items"), "Function": function}
    return _printing("template.templateTool", fields, _ordered({**tool, "function": function.wire}, _TOOL_ORDER))


def _function_view(function: Mapping[str, Any]) -> Struct:
    parameters = _parameters_view(_mapping(function.get("parameters")))
    fields = {"Name": function.get("name", ""), "Description": function.get("description", ""), "Parameters": parameters}
    wire = _ordered({**function, "parameters": parameters.wire}, _FUNCTION_ORDER)
    return _printing("template.templateToolFunction", fields, wire)


def _parameters_view(parameters: Mapping[str, Any]) -> Struct:
    given = parameters.get("properties")
    properties = {str(name): property_view(value) for name, value in _mapping(given).items()}
    wires = {name: view.wire for name, view in properties.items()}
    wire = _ordered({"type": "", **parameters, "properties": wires if isinstance(given, Mapping) else None}, _PARAMETERS_ORDER)
    fields = {
        "Type": parameters.get("type", ""),
        "Defs": parameters.get("$defs"),
        "Items": parameters.get("items"),
        "Required": _list(parameters.get("required")),
        "Properties": properties,
    }
    return _printing("template.templateToolFunctionParameters", fields, wire)


_PROPERTY: Final = "api.ToolProperty"


def property_view(value: Any) -> Struct:
    given = _mapping(value)
    fields = {
        "AnyOf": [property_view(option) for option in _list(given.get("anyOf"))],
        "Type": given.get("type") or "",
        "Items": given.get("items"),
        "Description": given.get("description", ""),
        "Enum": _list(given.get("enum")),
        "Properties": {str(name): property_view(item) for name, item in _mapping(given.get("properties")).items()},
        "Required": _list(given.get("required")),
    }
    wire = _ordered(given, _PROPERTY_ORDER)
    view = _printing(_PROPERTY, fields, wire)
    view.methods = {"ToTypeScriptType": lambda: _typescript(wire)}
    return view


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


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
