"""Answers as models of a family write them: cut out of what their template renders, or written by what was learned of it."""

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from corral.core.errors import CorralError
from corral.core.types import Message, ToolCall
from corral.parse import (
    AnswerFormat,
    BracedCalls,
    Call,
    CallFormat,
    Content,
    Event,
    JsonCalls,
    MessageFormat,
    NamedCalls,
    PythonCalls,
    Render,
    TaggedCalls,
    Thinking,
    answer_parser,
    merged,
)
from corral.parse.units import common_end, common_start, is_tag, words
from corral.template import ChatTemplate, Conversation
from tests.support.rendering import PROCESSES

WEATHER: Final = {
    "type": "object",
    "required": ["city"],
    "properties": {
        "city": {"type": "string", "description": "where"},
        "days": {"type": "integer", "description": "how many"},
        "filter": {"type": "object", "description": "what", "properties": {}, "additionalProperties": {"type": "string"}},
        "is_exact": {"type": "boolean", "description": "whether"},
    },
}
CLOCK: Final = {
    "type": "object",
    "required": ["zone"],
    "properties": {"zone": {"type": "string", "description": "which"}},
}
TOOLS: Final[tuple[dict[str, Any], ...]] = tuple(
    {"type": "function", "function": {"name": name, "description": "tells", "parameters": parameters}}
    for name, parameters in (("get_weather", WEATHER), ("get-time.v2", CLOCK))
)
QUESTION: Final = Message(role="user", content="How is it there?")
THANKS: Final = Message(role="user", content="Thanks.")
CONTENT: Final = "It is <b>fine</b>, said {she} & he:\n\n- `[1, 2]`\n- a < b > c"
THOUGHT: Final = 'The user asks.\n\nI could say {"name": 1} or <b>that</b>.\nSo I do'

CASES: Final[dict[str, tuple[tuple[str, dict[str, Any]], ...]]] = {
    "single": (("get_weather", {"city": "Paris", "days": 2}),),
    "parallel": (("get_weather", {"city": "Paris"}), ("get-time.v2", {"zone": "Europe/Paris"})),
    "nested": (
        (
            "get_weather",
            {"city": "Rome", "filter": {"a": [1, -2.5, {"deep": [[]]}, True], "b": {}, "c": "x, y"}, "is_exact": False},
        ),
    ),
    "unicode": (("get_weather", {"city": "Zürich 東京 🏔️ e\u0301"}),),
    "quotes and newlines": (("get_weather", {"city": "say \"hi\"\nand 'bye'\\n\t<b>{x: [1]}</b>\\ `y`, (z)"}),),
    "like a number": (("get_weather", {"city": "2024", "days": 0}),),
    "empty": (("get-time.v2", {}),),
}


def render_of(template: ChatTemplate) -> Render:
    """What learning asks for, out of a compiled template."""

    def render(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], *, think: bool | str | None = None) -> str:
        conversation = Conversation(messages=tuple(messages), tools=tuple(tools), think=think)
        return template.render(conversation, processes=PROCESSES)

    return render


@dataclass(frozen=True, slots=True)
class Said:
    """An answer and the prompt that it follows."""

    prompt: str
    text: str


def calling(calls: Iterable[tuple[str, Mapping[str, Any]]], content: str = "") -> Message:
    made = tuple(
        ToolCall(name=name, arguments=dict(arguments), call_id=f"call0000{number}", index=number)
        for number, (name, arguments) in enumerate(calls)
    )
    return Message(role="assistant", content=content, tool_calls=made)


def said_by_template(render: Render, message: Message) -> Said | None:
    """The assistant's turn as the template renders it, without header and end. None where it does not show all of it."""
    wanted = [call.name for call in message.tool_calls] or [message.content]
    for after in ((), (*map(_result, message.tool_calls),)) if message.tool_calls else ((), (THANKS,)):
        begin = _rendered(render, (QUESTION,))
        whole = _rendered(render, (QUESTION, message, *after))
        plain = _rendered(render, (QUESTION, Message(role="assistant", content=CONTENT), *(after and (THANKS,))))
        header, _, ending = plain.partition(CONTENT)
        start = max(common_start(begin, whole), common_start(header, whole) if ending else 0)
        if message.thinking:
            start = common_start(begin, whole)
        text = whole[start : len(whole) - common_end(whole[start:], ending)]
        end_of_turn = next((unit for unit in words(ending) if is_tag(unit)), "")
        if end_of_turn and not text.startswith(end_of_turn):
            text = text.partition(end_of_turn)[0]
        if all(part in text for part in wanted) and '{"tool_calls": [' not in text:
            return Said(whole[:start], text)
    return None


def _result(call: ToolCall) -> Message:
    return Message(role="tool", content="sunny", tool_name=call.name, tool_call_id=call.call_id)


def _rendered(render: Render, messages: Sequence[Message]) -> str:
    try:
        return render(messages, TOOLS)
    except CorralError:
        return ""


def written(form: CallFormat, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """The same by the learned format alone."""
    body = form.body
    opening, closing = form.around_all.open, form.around_all.close
    if isinstance(body, JsonCalls | PythonCalls):
        opening, closing = opening + body.list_open, body.list_close + closing
    each = (
        form.around_each.open + _body(form, number, name, arguments) + form.around_each.close
        for number, (name, arguments) in enumerate(calls)
    )
    return opening + form.separator.join(each) + closing


def _body(form: CallFormat, number: int, name: str, arguments: Mapping[str, Any]) -> str:
    said = json.dumps(arguments, ensure_ascii=False)
    match form.body:
        case JsonCalls(is_keyed=True):
            return f'{{"{name}": {said}}}'
        case JsonCalls() as body:
            members = [f'"{body.name_key}": "{name}"', f'"{body.arguments_key}": {said}']
            if body.id_key:
                call_id = str(number) if body.id_number else f"call0000{number}"
                members.insert(
                    0 if body.id_first else 2,
                    f'"{body.id_key}": {call_id if body.id_number == "number" else json.dumps(call_id)}',
                )
            return "{" + ", ".join(members) + "}"
        case NamedCalls() as body:
            call_id = "" if not body.before_id else str(number) if body.before_id == ":" else f"call0000{number}"
            return name + body.before_id + call_id + body.before_arguments + said
        case TaggedCalls() as body:
            pieces = [name, body.after_name]
            for key, value in arguments.items():
                is_text = isinstance(value, str)
                before = body.before_string if is_text else body.before_value
                text = value if is_text else json.dumps(value, ensure_ascii=False)
                pieces += [body.before_key, key, before, text, body.after_value]
            return "".join(pieces)
        case BracedCalls() as body:
            return name + _braced(dict(arguments), body.quote)
        case PythonCalls():
            return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


def _braced(value: Any, quote: str) -> str:
    match value:
        case str():
            return quote + value + quote
        case dict():
            return "{" + ",".join(f"{key}:{_braced(value[key], quote)}" for key in sorted(value)) + "}"
        case list():
            return "[" + ",".join(_braced(one, quote) for one in value) + "]"
        case _:
            return json.dumps(value)


def parsed(form: AnswerFormat, said: Said, chunks: Iterable[str], tools: Sequence[Mapping[str, Any]] = TOOLS) -> list[Event]:
    """The events of an answer fed in these pieces, neighbours merged. Nothing may have gone missing."""
    parser = answer_parser(form, prompt=said.prompt, tools=tools)
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    events = merged([*events, *parser.close()])
    assert "".join(event.raw for event in events) == said.text
    return events


def cuts(text: str, seed: int = 0) -> dict[str, list[str]]:
    """The text whole, in random pieces, and character by character."""
    random_cuts = random.Random(seed)
    pieces: list[str] = []
    at = 0
    while at < len(text):
        size = random_cuts.choice((1, 1, 2, 3, 5, 8, 20))
        pieces.append(text[at : at + size])
        at += size
    return {"whole": [text], "random": pieces, "characters": list(text)}


def content_of(events: Iterable[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Content))


def thought_of(events: Iterable[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Thinking))


def calls_of(events: Iterable[Event]) -> list[tuple[str, dict[str, Any]]]:
    return [(event.name, event.arguments) for event in events if isinstance(event, Call)]


def shows_calls(form: AnswerFormat) -> bool:
    """Whether it was the template itself, or its family's known form, that told how to call."""
    return isinstance(form, MessageFormat) or form.family != "generic"
