"""One rendering of a Jinja template, in a rendering process: as its author meant it, then by the ways around what it cannot do.

Most templates want what OpenAI's chat API sends: content as text, arguments of calls as an object. Some want the content in
parts, some the arguments as JSON text. Which, is found out by trying, once for each template.
"""

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from jinja2 import Template, TemplateError

from corral.template.jinja.environment import compiled, tojson
from corral.template.jinja.job import Job
from corral.template.jinja.ways import Messages, Tools, forms_of_messages, forms_of_tools

_PROBE_TEXT: Final = "probe-text"
_PROBE_KEY: Final = "probe_key"
_PROBE_ARGUMENTS: Final = {_PROBE_KEY: "probe-value"}
_PROBE_TURNS: Final[list[dict[str, Any]]] = [
    {"role": "user", "content": _PROBE_TEXT},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "probecall", "type": "function", "function": {"name": "probe", "arguments": _PROBE_ARGUMENTS}}],
    },
    {"role": "tool", "content": "result", "name": "probe", "tool_call_id": "probecall"},
]


class RefusedError(Exception):
    """What a template, or Python on its behalf, says against a conversation."""


@dataclass(frozen=True, slots=True)
class _Habits:
    """How a template wants to be given what can be given in two ways."""

    content_in_parts: bool = False
    no_content_is_none: bool = False  # of an assistant's message that only makes calls
    arguments_as_text: bool = False

    def applied(self, messages: Messages) -> Messages:
        return messages if self == _USUAL else [self._message(message) for message in messages]

    def _message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        out = dict(message)
        if self.content_in_parts and isinstance(out["content"], str):
            out["content"] = [{"type": "text", "text": out["content"]}]
        if "tool_calls" in out:
            if self.no_content_is_none and not message["content"]:
                out["content"] = None
            if self.arguments_as_text:
                out["tool_calls"] = [_with_arguments_as_text(call) for call in out["tool_calls"]]
        return out


_USUAL: Final = _Habits()


def _with_arguments_as_text(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {**call, "function": {**function, "arguments": tojson(function["arguments"])}}


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to give a template what there is to say."""

    messages: Messages
    tools: list[dict[str, Any]] | None
    is_lenient: bool = True


def render(job: Job) -> str:
    """The prompt. Raises RefusedError with what the template said to the first way."""
    first: RefusedError | None = None
    for way in _ways(job):
        try:
            return _run(_compiled(job.source, is_lenient=way.is_lenient), job.names, way)
        except RefusedError as exc:
            first = first or exc
    assert first
    raise first


def _ways(job: Job) -> Iterator[_Way]:
    """What to try one after the other: as Hugging Face does it, then around what the template refuses, least change first.

    Each way has what it gives to itself: a template may change it.
    """
    yield _Way(_habits(job.source).applied(job.messages) if job.messages else [], job.tools or None, is_lenient=False)
    habits = _habits(job.source)
    tools = _tools_taken(job, habits)
    for messages in forms_of_messages(job.messages):
        yield _Way(habits.applied(deepcopy(messages)), deepcopy(tools))


def _tools_taken(job: Job, habits: _Habits) -> Tools | None:
    """The first form of the tools that the template takes beside one short question; where it takes none, as they are."""
    for tools in forms_of_tools(job.tools):
        try:
            _run(_compiled(job.source, is_lenient=True), job.names, _Way(habits.applied([_PROBE_TURNS[0]]), deepcopy(tools)))
        except RefusedError:
            continue
        return tools
    return job.tools or None


def _compiled(source: str, *, is_lenient: bool = False) -> Template:
    try:
        return compiled(source, is_lenient=is_lenient)
    except MemoryError:
        raise
    except Exception as exc:  # its text is anyone's; jinja2 and Python's compiler fail in many ways over it
        line = getattr(exc, "lineno", 0) if isinstance(exc, TemplateError) else 0
        raise RefusedError(f"line {line}: {exc}" if line else _said(exc)) from exc


def _run(template: Template, names: Mapping[str, Any], way: _Way) -> str:
    given = {"messages": way.messages, "tools": way.tools, "documents": None, "add_generation_prompt": True, **names}
    try:
        return template.render(given)
    except MemoryError:
        raise
    except Exception as exc:  # besides its own complaints it can make Python raise anything
        raise RefusedError(_said(exc)) from exc


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


@lru_cache(maxsize=32)
def _habits(source: str) -> _Habits:
    """What the template does with a text and with a call, each given in two ways."""
    template = _compiled(source)

    def said(habits: _Habits, messages: Messages) -> str:
        try:
            return _run(template, {"bos_token": "", "eos_token": ""}, _Way(habits.applied(messages), None))
        except RefusedError:
            return ""

    question = [_PROBE_TURNS[0]]
    in_parts = _PROBE_TEXT not in said(_USUAL, question) and _PROBE_TEXT in said(_Habits(content_in_parts=True), question)
    for as_none, as_text in ((False, False), (False, True), (True, False), (True, True)):
        habits = _Habits(in_parts, as_none, as_text)
        text = said(habits, _PROBE_TURNS)
        if json.dumps(_PROBE_ARGUMENTS) in text or (not as_text and _PROBE_KEY in text and f"'{_PROBE_KEY}'" not in text):
            return habits
    return _Habits(in_parts)
