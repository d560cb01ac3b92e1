"""What clients send that some template refuses: it is rendered all the same, with as little changed as can be."""

from pathlib import Path
from typing import Any, Final

import pytest

from corral.core.errors import BadRequestError
from corral.core.types import Message, ToolCall
from corral.template import Conversation, compile_jinja
from corral.template.jinja.ways import forms_of_messages, forms_of_tools
from tests.support.rendering import PROCESSES
from tests.support.shared import shared_files

QUESTION: Final = Message(role="user", content="the question")
SAID: Final = Message(role="assistant", content="the answer")
CALL: Final = Message(
    role="assistant", tool_calls=(ToolCall(name="find", arguments={"city": "the place"}, call_id="callabcde"),)
)
RESULT: Final = Message(role="tool", content="the result", tool_name="find", tool_call_id="callabcde")


def tool(**function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "find"} | function}


def property_of(schema: Any) -> dict[str, Any]:
    return tool(description="finds", parameters={"type": "object", "properties": {"city": schema}})


TOOLS: Final = {
    "nothing but a name": tool(),
    "no description": tool(parameters={"type": "object", "properties": {"city": {"type": "string"}}}),
    "no parameters": tool(description="finds"),
    "nulls": tool(description=None, parameters=None),
    "empty parameters": tool(description="finds", parameters={}),
    "no properties": tool(description="finds", parameters={"type": "object"}),
    "a property without description": property_of({"type": "string"}),
    "a property without type": property_of({"enum": ["x", 1, None]}),
    "two types": property_of({"type": ["string", "null"], "description": "which"}),
    "two types inside": property_of({"type": "array", "items": {"type": ["string", "null"]}}),
    "alternatives": property_of({"anyOf": [{"type": "string"}, {"type": "null"}]}),
    "a reference": tool(
        description="finds",
        parameters={"type": "object", "$defs": {"x": {"type": "string"}}, "properties": {"city": {"$ref": "#/$defs/x"}}},
    ),
    "items inside": property_of({"type": "array", "items": {"type": "object", "properties": {"b": {"type": "array"}}}}),
    "anything": property_of(True),
    "properties of another kind": tool(description="finds", parameters={"type": "object", "properties": None}),
}
TURNS: Final = {
    "result without a call": (QUESTION, Message(role="tool", content="the result")),
    "result first": (Message(role="tool", content="the result"), QUESTION),
    "call without its result": (QUESTION, CALL, QUESTION),
    "two results of one call": (QUESTION, CALL, RESULT, RESULT),
    "question behind a result": (QUESTION, CALL, RESULT, QUESTION),
    "two questions": (QUESTION, QUESTION),
    "two answers": (QUESTION, SAID, SAID, QUESTION),
    "answer first": (SAID, QUESTION),
    "answer alone": (SAID,),
    "answer first behind a system's text": (Message(role="system", content="be brief"), SAID, QUESTION),
    "two system's texts": (Message(role="system", content="be"), QUESTION, Message(role="system", content="brief"), QUESTION),
    "developer": (Message(role="developer", content="be brief"), QUESTION),
    "a role of its own": (Message(role="critic", content="not so fast"), QUESTION),
}


def render(source: str, *messages: Message, **more: Any) -> str:
    return compile_jinja(source, bos_token="<s>", eos_token="</s>").render(
        Conversation(messages=messages, **more), processes=PROCESSES
    )


@pytest.mark.parametrize("path", shared_files("testdata/jinja"), ids=lambda path: path.stem)
@pytest.mark.parametrize("name", TOOLS)
def test_any_tool_renders_with_any_template(name: str, path: Path) -> None:
    text = render(path.read_text(), QUESTION, tools=(TOOLS[name],))
    assert "the question" in text
    assert ("find" in text) == ("find" in render(path.read_text(), QUESTION, tools=(TOOLS["items inside"],)))


@pytest.mark.parametrize("path", shared_files("testdata/jinja"), ids=lambda path: path.stem)
@pytest.mark.parametrize("name", TURNS)
def test_turns_in_any_order_render_with_any_template(name: str, path: Path) -> None:
    assert render(path.read_text(), *TURNS[name])


def test_what_a_template_takes_is_given_as_it_came() -> None:
    source = "{{ tools | tojson }}{{ messages | tojson }}"
    assert '"description"' not in render(source, QUESTION, QUESTION, tools=(tool(),))
    assert render(source, QUESTION, QUESTION).count("the question") == 2


def test_a_template_that_takes_nothing_says_why_in_the_first_place() -> None:
    with pytest.raises(BadRequestError, match="never 1"):
        render("{{ raise_exception('never ' ~ messages | length) }}", QUESTION, tools=(tool(),))


def test_neighbours_are_joined_where_turns_must_alternate() -> None:
    source = (
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns!') }}{% endif %}"
        "[{{ m.role }} {{ m.content }}]{% endfor %}"
    )
    assert render(source, QUESTION, Message(role="user", content="more")) == "[user the question\n\nmore]"
    assert render(source, SAID, QUESTION) == "[user ][assistant the answer][user the question]"
    assert render(source, Message(role="system", content="be"), QUESTION, SAID) == (
        "[user be\n\nthe question][assistant the answer]"
    )


def test_a_system_text_stays_in_front_where_only_the_turns_are_wrong() -> None:
    source = (
        "{% for m in messages %}{% if loop.previtem is defined and loop.previtem.role == m.role %}"
        "{{ raise_exception('turns!') }}{% endif %}[{{ m.role }} {{ m.content }}]{% endfor %}"
    )
    assert render(source, Message(role="system", content="be"), QUESTION, QUESTION) == (
        "[system be][user the question\n\nthe question]"
    )


def test_a_result_that_belongs_to_no_call_has_an_id_where_one_is_wanted() -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'tool' %}{{ m.tool_call_id | length }}{{ m.content }}{% endif %}{% endfor %}"
    )
    strict = "{% if messages[1].tool_call_id is undefined %}{{ raise_exception('no id') }}{% endif %}" + source
    assert render(strict, QUESTION, Message(role="tool", content="r")) == "9r"


def test_no_form_changes_what_it_was_made_of() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "be"},
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "tool", "content": "r"},
    ]
    tools = [TOOLS["two types"], TOOLS["nothing but a name"]]
    before = repr((messages, tools))
    forms = (list(forms_of_messages(messages)), list(forms_of_tools(tools)))
    assert repr((messages, tools)) == before
    assert [len(found) for found in forms] == [7, 3]
