"""The requests of /v1/responses as the domain's: items as messages, tools in namespaces, what is refused and how."""

import base64
from typing import Any

import msgspec
import pytest

from corral.api.decode import RequestDecoder
from corral.api.errors import FieldError, UnsupportedFieldError
from corral.api.openai import OPENAI
from corral.api.openai.responses.convert import chat_request
from corral.api.openai.responses.tools import Tools, tools_of
from corral.core.errors import BadRequestError
from corral.core.types import Message, ToolCall
from corral.service.requests import ChatRequest, ToolChoice
from corral.wire.responses import InputItem, ResponsesRequest

REQUEST = RequestDecoder(ResponsesRequest, OPENAI)
PNG = base64.b64encode(b"\x89PNG").decode()
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
FUNCTION = {"type": "function", "name": "f", "parameters": SCHEMA}
SPACE = {"type": "namespace", "name": "mcp__files", "description": "d", "tools": [FUNCTION]}
SHOWN = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
USER: dict[str, Any] = {"role": "user", "content": "hi"}


def decoded(**body: Any) -> ResponsesRequest:
    return REQUEST.decode(msgspec.json.encode({"model": "m", "input": [USER]} | body))


def request(**body: Any) -> ChatRequest:
    given = decoded(**body)
    assert isinstance(given.input, list)
    items = [(f"input[{index}]", item) for index, item in enumerate(given.input)]
    return chat_request(given, items, tools_of(given), client="c")


def said(*items: dict[str, Any]) -> tuple[Message, ...]:
    return request(input=list(items)).messages


def tools(*given: dict[str, Any], **more: Any) -> Tools:
    return tools_of(decoded(tools=list(given), **more))


def test_a_silent_request_leaves_all_to_the_model() -> None:
    assert request() == ChatRequest(
        model="m", messages=(Message(role="user", content="hi"),), truncate=False, call_parts=True, client="c"
    )


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({"max_output_tokens": 5, "max_tokens": 9}, {"options": {"num_predict": 5}}),
        (
            {"temperature": 0, "top_p": 0.5, "top_k": 3, "seed": 1, "stop": "x"},
            {"options": {"temperature": 0, "top_p": 0.5, "top_k": 3, "seed": 1, "stop": ["x"]}},
        ),
        ({"options": {"num_keep": 3}, "num_ctx": 512}, {"options": {"num_keep": 3, "num_ctx": 512}}),
        ({"keep_alive": "5m"}, {"keep_alive_s": 300.0}),
        ({"truncation": "auto"}, {"truncate": True}),
        ({"truncation": "disabled"}, {"truncate": False}),
        ({"reasoning": {"effort": "minimal"}}, {"think": "low"}),
        ({"reasoning": {"effort": "none"}}, {"think": False}),
        ({"reasoning": {"effort": "high"}, "think": False}, {"think": False}),
        ({"reasoning": {"summary": "detailed"}}, {"think": None}),
        ({"parallel_tool_calls": False}, {"parallel_tool_calls": False}),
        ({"include": ["message.output_text.logprobs"]}, {"logprobs": True, "top_logprobs": 0}),
        ({"top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"include": ["reasoning.encrypted_content"]}, {"logprobs": False}),
        ({"text": {"format": {"type": "text"}, "verbosity": "low"}}, {"format": None}),
        ({"text": {"format": {"type": "json_object"}}}, {"format": "json"}),
        ({"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}}}, {"format": SCHEMA}),
        ({"grammar": "root ::= 'a'"}, {"grammar": "root ::= 'a'"}),
    ],
    ids=str,
)
def test_fields_are_mapped(body: dict[str, Any], wanted: dict[str, Any]) -> None:
    made = request(**body)
    assert {name: getattr(made, name) for name in wanted} == wanted


def test_instructions_come_first() -> None:
    assert request(instructions="Be brief.").messages[0] == Message(role="system", content="Be brief.")


def test_what_the_assistant_did_in_one_turn_is_one_message() -> None:
    spoken = said(
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": '{"a": 1}'},
        {"type": "function_call", "call_id": "2", "name": "g", "namespace": "n", "arguments": ""},
        {"type": "function_call_output", "call_id": "1", "output": "11"},
        {
            "type": "function_call_output",
            "call_id": "2",
            "output": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}],
        },
    )
    assert spoken == (
        Message(
            role="assistant",
            content="I look.",
            thinking="hm",
            tool_calls=(
                ToolCall(name="f", arguments={"a": 1}, call_id="1"),
                ToolCall(name="n__g", arguments={}, call_id="2", index=1),
            ),
        ),
        Message(role="tool", content="11", tool_call_id="1"),
        Message(role="tool", content="a\nb", tool_call_id="2"),
    )


def test_what_comes_behind_a_call_or_a_message_is_another_message() -> None:
    thought = {"type": "reasoning", "encrypted_content": "hm"}
    call = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}
    text = {"role": "assistant", "content": "So."}
    whole = ToolCall(name="f", arguments={}, call_id="1")
    assert said(thought, call, thought, text, text) == (
        Message(role="assistant", thinking="hm", tool_calls=(whole,)),
        Message(role="assistant", thinking="hm", content="So."),
        Message(role="assistant", content="So."),
    )
    assert said(USER, thought) == (Message(role="user", content="hi"), Message(role="assistant", thinking="hm"))


@pytest.mark.parametrize(
    ("item", "thinking"),
    [
        ({"encrypted_content": "whole", "summary": [{"type": "summary_text", "text": "short"}]}, "whole"),
        ({"summary": [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}]}, "a\nb"),
        ({"summary": [], "content": [{"type": "reasoning_text", "text": "c"}]}, "c"),
    ],
    ids=str,
)
def test_a_thought_is_found_in_each_of_its_fields(item: dict[str, Any], thinking: str) -> None:
    assert said({"type": "reasoning"} | item) == (Message(role="assistant", thinking=thinking),)


def test_parts_of_a_message() -> None:
    parts = [
        {"type": "input_text", "text": "What is"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"},
        {"type": "input_text", "text": "this?"},
    ]
    (message,) = said({"role": "developer", "content": parts})
    assert message == Message(role="system", content="What is[img]this?", images=(b"\x89PNG",))
    output = {"type": "function_call_output", "call_id": "1", "output": parts[1:2]}
    assert said(output) == (Message(role="tool", images=(b"\x89PNG",), tool_call_id="1"),)


def test_functions_are_shown_as_in_chat() -> None:
    assert tools(FUNCTION | {"description": "d", "strict": None}).shown == (
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}},
    )
    assert tools(FUNCTION).parts == {}


@pytest.mark.parametrize(
    ("space", "whole"), [("mcp__files", "mcp__files__f"), ("mcp__files__", "mcp__files__f"), ("n", "n__f")]
)
def test_a_namespace_is_a_part_of_the_name(space: str, whole: str) -> None:
    made = tools(SPACE | {"name": space})
    assert [tool["function"]["name"] for tool in made.shown] == [whole]
    assert made.parts == {whole: (space, "f")}


@pytest.mark.parametrize(
    ("choice", "names", "wanted"),
    [
        (None, ["f", "g"], ToolChoice()),
        ("auto", ["f", "g"], ToolChoice()),
        ("none", ["f", "g"], ToolChoice(mode="none")),
        ("required", ["f", "g"], ToolChoice(mode="required")),
        ({"type": "function", "name": "g"}, ["f", "g"], ToolChoice(mode="required", name="g")),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]}, ["g"], ToolChoice()),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]},
            ["g"],
            ToolChoice(mode="required"),
        ),
    ],
    ids=str,
)
def test_which_tools_may_be_called(choice: Any, names: list[str], wanted: ToolChoice) -> None:
    made = tools(FUNCTION, FUNCTION | {"name": "g"}, tool_choice=choice)
    assert ([tool["function"]["name"] for tool in made.shown], made.choice) == (names, wanted)


def test_a_function_in_a_namespace_may_be_chosen_by_its_own_name() -> None:
    choice = {"type": "function", "name": "f"}
    assert tools(SPACE, tool_choice=choice).choice == ToolChoice(mode="required", name="mcp__files__f")
    assert tools(SPACE, FUNCTION, tool_choice=choice).choice == ToolChoice(mode="required", name="f")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
        ({"n": 2}, "n"),
        ({"tools": [{"type": "web_search_preview"}]}, "tools[0].type"),
        ({"tools": [FUNCTION, {"type": "mcp", "server_label": "x"}]}, "tools[1].type"),
        ({"tools": [{"type": "custom", "name": "x"}]}, "tools[0].type"),
        ({"tools": [SPACE | {"tools": [{"type": "custom", "name": "x"}]}]}, "tools[0].tools[0].type"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "file_search"}}, "tool_choice"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "input[0].content[0].input_file"),
        ({"min_tokens": 3}, "min_tokens"),
    ],
    ids=str,
)
def test_what_cannot_be_had_is_refused_by_name(body: dict[str, Any], field: str) -> None:
    with pytest.raises(UnsupportedFieldError) as caught:
        request(**body)
    assert caught.value.field == field
    assert field.split(".")[0].split("[")[0] in str(caught.value)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"truncation": "some"}, "truncation"),
        ({"include": ["message.output_text.logprobs", "x"]}, "include[1]"),
        ({"reasoning": {"summary": "x"}}, "reasoning.summary"),
        ({"text": {"verbosity": "x"}}, "text.verbosity"),
        ({"text": {"format": {"type": "yaml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"tools": [{"name": "f"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"type": "namespace", "tools": [FUNCTION]}]}, "tools[0].name"),
        ({"tools": [{"type": "namespace", "name": "n", "tools": [7]}]}, "tools[0].tools[0].type"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice"),
        ({"tools": [FUNCTION], "tool_choice": "some"}, "tool_choice"),
        (
            {
                "tools": [FUNCTION],
                "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [FUNCTION | {"name": "x"}]},
            },
            "tool_choice.tools[0]",
        ),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"type": "message", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].image_url"),
        ({"input": [{"role": "user", "content": [{"type": "smell"}]}]}, "input[0].content[0].type"),
        ({"input": [{"type": "function_call", "call_id": "1", "arguments": "{}"}]}, "input[0].name"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call_output", "call_id": "1"}]}, "input[0].output"),
    ],
    ids=str,
)
def test_a_value_that_is_wrong_is_named(body: dict[str, Any], field: str) -> None:
    with pytest.raises(FieldError) as caught:
        request(**body)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ({"type": "function_call", "call_id": "1", "name": "f", "arguments": "{"}, "invalid tool call arguments"),
        (
            {"role": "user", "content": [{"type": "input_image", "image_url": "http://x/y.png"}]},
            "image URLs are not currently supported",
        ),
        ({"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}, "invalid image input"),
        ({"type": "computer_call"}, 'input\\[0\\]: unknown input item type: "computer_call"'),
    ],
    ids=str,
)
def test_texts_that_clients_know(item: dict[str, Any], text: str) -> None:
    with pytest.raises(BadRequestError, match=text):
        said(item)


def test_an_item_that_was_answered_with_is_one_to_ask_with() -> None:
    answered = {
        "type": "function_call",
        "id": "fc_1",
        "status": "completed",
        "call_id": "1",
        "name": "f",
        "namespace": "n",
        "arguments": "{}",
    }
    assert said(answered) == said(msgspec.to_builtins(msgspec.convert(answered, InputItem)))
    assert tools(FUNCTION).shown == (SHOWN,)


def test_as_much_metadata_as_openai_keeps_is_taken() -> None:
    request(metadata={f"{number:064}": "x" * 512 for number in range(16)})


@pytest.mark.parametrize(
    ("metadata", "field", "code", "text"),
    [
        (
            {str(number): "x" for number in range(17)},
            "metadata",
            "object_above_max_properties",
            "Invalid 'metadata': too many properties. Expected an object with at most 16 properties, "
            "but got an object with 17 properties instead.",
        ),
        (
            {"a": "x" * 513},
            "metadata.a",
            "string_above_max_length",
            "Invalid 'metadata.a': string too long. Expected a string with maximum length 512, "
            "but got a string with length 513 instead.",
        ),
        (
            {"k" * 65: "x"},
            "metadata",
            "string_above_max_length",
            "Invalid 'metadata': key too long. Expected a string with maximum length 64, "
            "but got a string with length 65 instead.",
        ),
    ],
    ids=["too many", "a long value", "a long key"],
)
def test_more_metadata_than_openai_keeps_is_refused_in_its_words(
    metadata: dict[str, str], field: str, code: str, text: str
) -> None:
    with pytest.raises(FieldError) as caught:
        request(metadata=metadata)
    assert (caught.value.field, caught.value.code, str(caught.value)) == (field, code, text)
