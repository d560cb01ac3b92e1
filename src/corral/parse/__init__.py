"""From the text of an answer to events: what the model thought, what it said, and which tools it called.

How its family writes thoughts and calls is learned once from the model's chat template; a parser is made for each answer.
Pure: templates are rendered by whoever asks.

    form = learn(render, template.source)
    parser = answer_parser(form, prompt=prompt, tools=tools)
    for text in stream:
        events = parser.feed(text)
    events = parser.close()
"""

from collections.abc import Mapping, Sequence
from typing import Any

from corral.parse.events import Call, CallCut, CallPart, Content, Event, Markup, Thinking, merged
from corral.parse.formats import (
    AnswerFormat,
    Body,
    BracedCalls,
    CallFormat,
    JsonCalls,
    MessageFormat,
    NamedCalls,
    Pair,
    PlainFormat,
    PythonCalls,
    Route,
    TaggedCalls,
    ThoughtFormat,
)
from corral.parse.grammars import answer_grammar, call_grammars, call_or_answer_grammar, check_schema
from corral.parse.machine import Parser, PlainParser, ReadingParser
from corral.parse.markers import markers
from corral.parse.messages import MessageParser
from corral.parse.probe import Render, learn

__all__ = [
    "AnswerFormat",
    "Body",
    "BracedCalls",
    "Call",
    "CallCut",
    "CallFormat",
    "CallPart",
    "Content",
    "Event",
    "JsonCalls",
    "Markup",
    "MessageFormat",
    "NamedCalls",
    "Pair",
    "Parser",
    "PlainFormat",
    "PythonCalls",
    "ReadingParser",
    "Render",
    "Route",
    "TaggedCalls",
    "Thinking",
    "ThoughtFormat",
    "answer_grammar",
    "answer_parser",
    "call_grammars",
    "call_or_answer_grammar",
    "check_schema",
    "learn",
    "markers",
    "merged",
]


def answer_parser(
    form: AnswerFormat, *, prompt: str = "", tools: Sequence[Mapping[str, Any]] = (), parts: bool = False
) -> ReadingParser:
    """A parser for the answer to that prompt. Without tools nothing is a call: what looks like one stays text.

    The prompt's end tells whether the model is thinking already. With `parts` calls are told in parts while they are written,
    and whole when they are complete.
    """
    if isinstance(form, MessageFormat):
        return MessageParser(form, prompt, tools, has_parts=parts)
    return PlainParser(form, prompt, tools, has_parts=parts)
