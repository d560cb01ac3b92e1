"""Answers read with the parts of their calls, and what parts are held to in any case."""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from corral.parse import AnswerFormat, Call, CallCut, CallPart, Content, Event, answer_parser, merged
from tests.support.answers import TOOLS, Said


def parsed_in_parts(
    form: AnswerFormat, said: Said, chunks: Iterable[str], tools: Sequence[Mapping[str, Any]] = TOOLS
) -> list[Event]:
    """The events of an answer fed in these pieces, neighbours merged: so each call has one part before it."""
    parser = answer_parser(form, prompt=said.prompt, tools=tools, parts=True)
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    events = merged([*events, *parser.close()])
    assert "".join(event.raw for event in events) == said.text
    for before, event in pairwise([None, *events, None]):
        if isinstance(event, Call | CallCut):
            assert isinstance(before, CallPart)
            assert before.name == event.name
        if isinstance(event, Call):
            assert isinstance(before, CallPart)
            assert json.dumps(json.loads(before.text)) == json.dumps(event.arguments)
            assert before.call_id in ("", event.call_id)
        if isinstance(before, CallPart):
            assert isinstance(event, Call | CallCut | Content)
    return events


def without_parts(events: Iterable[Event]) -> list[Event]:
    """The same as they are told to who has not asked for parts."""
    whole = (Content(event.raw) if isinstance(event, CallCut) else event for event in events)
    return merged(event for event in whole if not isinstance(event, CallPart))


def parts_of(events: Iterable[Event]) -> list[tuple[str, str]]:
    """Names and arguments, as their parts tell them."""
    return [(event.name, event.text) for event in events if isinstance(event, CallPart)]
