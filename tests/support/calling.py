"""Calls by a grammar, read back: tools to call, and what the parser makes of random texts of a grammar."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from jsonschema import Draft202012Validator

from corral.core.types import Grammar
from corral.parse import AnswerFormat, Call, Content, TaggedCalls, answer_parser, markers, merged
from tests.support.answer_formats import prompt_of
from tests.support.grammars import Walker


def tool(name: str, parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": "tells", "parameters": parameters}}


WEATHER: Final = {
    "type": "object",
    "required": ["city"],
    "properties": {
        "city": {"type": "string", "description": "where"},
        "days": {"type": "integer", "description": "how many"},
        "filter": {"type": "object", "description": "what"},
        "is_exact": {"type": "boolean", "description": "whether"},
    },
}
CLOCK: Final = {"type": "object", "properties": {"zone": {"type": "string", "description": "which"}}}
TOOLS: Final = (tool("get_weather", WEATHER), tool("get-time.v2", CLOCK))


class MisreadError(AssertionError):
    """What a grammar takes is no call, or one that its tool does not take."""


def read_calls(form: AnswerFormat, text: str, tools: Sequence[Mapping[str, Any]]) -> list[Call]:
    """The calls of an answer, all of which meet their schemas. Nothing but calls may be in it."""
    parser = answer_parser(form, prompt=prompt_of(form), tools=tools)
    events = merged([*parser.feed(text), *parser.close()])
    content = "".join(event.text for event in events if isinstance(event, Content)).strip()
    if content:
        raise MisreadError(f"{content!r} is left of {text!r}")
    calls = [event for event in events if isinstance(event, Call)]
    if not calls:
        raise MisreadError(f"no call in {text!r}")
    schemas = {one["function"]["name"]: one["function"].get("parameters") for one in tools}
    for call in calls:
        schema = {"type": "object", "maxProperties": 0} if schemas[call.name] is None else schemas[call.name]
        for error in Draft202012Validator(schema).iter_errors(call.arguments):
            raise MisreadError(f"{call.name}: {error.message} in {text!r}")
    return calls


def walks(form: AnswerFormat, grammar: Grammar, seeds: range, hints: Sequence[str] = ()) -> Iterator[str]:
    """Random answers: the text that the grammar begins behind, and what it takes."""
    ends = [form.calls.body.after_value] if isinstance(form.calls.body, TaggedCalls) else []
    walker = Walker(grammar, [*markers(form), *ends, *hints])
    header = " to=x<|message|>" if grammar.after and form.family == "atem" else ""  # it says nothing that the call does not
    for seed in seeds:
        yield header + grammar.after + walker.text(seed)
