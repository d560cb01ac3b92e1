"""The Go template language against Go itself: go_recorded.jsonl is what Go 1.27's text/template made of our own templates.

Recorded with the conversation below, in the types that Ollama gives a template, and its option missingkey=zero.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from corral.core.errors import BadRequestError
from corral.core.types import Message, ToolCall
from corral.template import Conversation, compile_go

CASES = [json.loads(line) for line in Path(__file__).with_name("go_recorded.jsonl").read_text().splitlines()]
USES_MESSAGES = "{{ if .Messages }}{{ end }}"  # so that it is given the whole conversation
CONVERSATION = Conversation(
    messages=(
        Message(role="system", content="Be brief."),
        Message(role="user", content="hi"),
        Message(
            role="assistant",
            thinking="hm",
            tool_calls=(ToolCall(name="get_weather", arguments={"city": "Pa<ris", "days": 2}, call_id="c1"),),
        ),
        Message(role="tool", content="sunny", tool_name="get_weather", tool_call_id="c1"),
    ),
    tools=(
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "description": "Weather <now>",
                "parameters": {
                    "type": "object",
                    "required": ["city"],
                    "properties": {
                        "city": {"type": "string", "description": "where"},
                        "days": {"type": ["integer", "null"], "enum": [1, 2]},
                    },
                },
            },
        },
    ),
    think="high",
)


def cases(kind: str) -> Any:
    return [pytest.param(case, id=case["name"]) for case in CASES if case["kind"] == kind]


@pytest.mark.parametrize("case", cases("text"))
def test_template_is_rendered_as_go_does(case: dict[str, str]) -> None:
    assert compile_go(case["template"] + USES_MESSAGES).render(CONVERSATION) == case["text"]


@pytest.mark.parametrize("case", cases("syntax"))
def test_bad_syntax_is_refused_in_gos_words(case: dict[str, str]) -> None:
    with pytest.raises(BadRequestError) as caught:
        compile_go(case["template"])
    assert str(caught.value) == case["error"]


@pytest.mark.parametrize("case", cases("running"))
def test_failure_is_told_in_gos_words(case: dict[str, str]) -> None:
    template = compile_go(case["template"] + USES_MESSAGES)
    with pytest.raises(BadRequestError) as caught:
        template.render(CONVERSATION)
    assert str(caught.value) == case["error"]
