"""What there is to say, in forms that fewer and fewer templates refuse: each form changes a little more than the one before.

Messages and tools come as OpenAI's chat API spells them, and nobody's are changed: a form is made of copies. Pure.
"""

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, Final, TypeAlias

from corral.template.jinja.environment import tojson

Messages: TypeAlias = list[dict[str, Any]]
Tools: TypeAlias = list[dict[str, Any]]

_SYSTEM_ROLES: Final = ("system", "developer")
_ROLES: Final = ("system", "user", "assistant", "tool")
_BETWEEN: Final = "\n\n"


def forms_of_messages(messages: Messages) -> Iterator[Messages]:
    """The messages as they are; with ids; with the system's texts in a user's turn; with calls as text. Each also in turns."""
    if any(message["role"] == "tool" and not message.get("tool_call_id") for message in messages):
        yield messages
        messages = _with_ids(messages)
    yield from _also_in_turns(messages)
    if any(message["role"] in _SYSTEM_ROLES for message in messages):
        messages = _folded(messages)
        yield from _also_in_turns(messages)
    if any(message["role"] == "tool" or "tool_calls" in message for message in messages):
        messages = [_said_plainly(message) for message in messages]
        yield from _also_in_turns(messages)


def _also_in_turns(messages: Messages) -> Iterator[Messages]:
    yield messages
    in_turns = _in_turns(messages)
    if in_turns != messages:
        yield in_turns


def forms_of_tools(tools: Tools) -> Iterator[Tools | None]:
    """The tools as they are; with all that may be left out; and with one type for each value."""
    yield tools or None
    if not tools:
        yield []  # made for tools alone, a template runs over them unasked
        return
    tools = [_filled_tool(tool) for tool in tools]
    yield tools
    yield [_single_typed(tool) for tool in tools]


# Messages


def _with_ids(messages: Messages) -> Messages:
    """A result that nothing was said of before has an id of its own."""
    return [
        {**message, "tool_call_id": f"call{number:05d}"}
        if message["role"] == "tool" and not message.get("tool_call_id")
        else message
        for number, message in enumerate(messages)
    ]


def _folded(messages: Messages) -> Messages:
    """The system texts at the head of the first user's turn, for templates that know no such role."""
    systems = [message["content"] for message in messages if message["role"] in _SYSTEM_ROLES]
    out = [message for message in messages if message["role"] not in _SYSTEM_ROLES]
    at = next((index for index, message in enumerate(out) if message["role"] == "user"), None)
    if at is None:
        return [{"role": "user", "content": _BETWEEN.join(systems)}, *out]
    out[at] = {**out[at], "content": _BETWEEN.join((*systems, out[at]["content"]))}
    return out


def _said_plainly(message: Mapping[str, Any]) -> dict[str, Any]:
    """A call as the assistant's text and a result as the user's, for templates that know of neither."""
    if message["role"] == "tool":
        result = {"name": message.get("name", ""), "content": message["content"]}
        return {"role": "user", "content": tojson({"tool_response": result})}
    if "tool_calls" not in message:
        return dict(message)
    calls = [{key: call["function"][key] for key in ("name", "arguments")} for call in message["tool_calls"]]
    said = [message["content"], tojson({"tool_calls": calls})]
    return {"role": message["role"], "content": "\n".join(filter(None, said))}


def _in_turns(messages: Messages) -> Messages:
    """User and assistant by turns, the user first: neighbours are joined, and who is none of those that are known is a user.

    Only what has been said plainly is joined; calls and results stay as they are.
    """
    known = [message if message["role"] in _ROLES else {**message, "role": "user"} for message in messages]
    out: Messages = []
    for role, group in groupby(known, key=lambda message: message["role"] if _is_plain(message) else id(message)):
        turn = list(group)
        if len(turn) == 1:
            out += turn
        else:
            content = _BETWEEN.join(filter(None, (message["content"] for message in turn)))
            out.append({**turn[0], "role": role, "content": content})
    begin = next((index for index, message in enumerate(out) if message["role"] != "system"), len(out))
    if begin < len(out) and out[begin]["role"] == "assistant":
        out.insert(begin, {"role": "user", "content": ""})
    return out


def _is_plain(message: Mapping[str, Any]) -> bool:
    return message["role"] != "tool" and "tool_calls" not in message


# Tools


def _filled_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    if not isinstance(function, dict):
        return dict(tool)
    parameters = function.get("parameters")
    return {
        **tool,
        "type": tool.get("type") or "function",
        "function": {
            **function,
            "description": function.get("description") or "",
            "parameters": _filled({"type": "object", "properties": {}} | (parameters if isinstance(parameters, dict) else {})),
        },
    }


def _filled(schema: Any) -> dict[str, Any]:
    """The schema with a description, and so everything that it is made of; one that allows anything is an empty one."""
    if not isinstance(schema, dict):
        return {"description": ""}
    out = {**schema, "description": schema.get("description") or ""}
    if isinstance(properties := schema.get("properties"), dict):
        out["properties"] = {name: _filled(value) for name, value in properties.items()}
    elif "properties" in schema:
        out["properties"] = {}
    if isinstance(items := schema.get("items"), dict):
        out["items"] = _filled(items)
    return out


def _single_typed(value: Any) -> Any:
    """Of several types the first that is no null."""
    if isinstance(value, list):
        return [_single_typed(item) for item in value]
    if not isinstance(value, dict):
        return value
    out = {key: _single_typed(item) for key, item in value.items()}
    types = out.get("type")
    if isinstance(types, list) and types and all(isinstance(name, str) for name in types):
        out["type"] = next((name for name in types if name != "null"), types[0])
    return out
