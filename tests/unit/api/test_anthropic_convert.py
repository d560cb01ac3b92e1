"""Anthropic's requests as the domain's: what is mapped, what is left to the model, what is refused and how."""

import base64
from typing import Any

import msgspec
import pytest

from corral.api.anthropic import ANTHROPIC
from corral.api.anthropic.convert import asks_for_caching, chat_request, render_request
from corral.api.decode import RequestDecoder
from corral.api.errors import FieldError, UnsupportedFieldError
from corral.core.errors import BadRequestError
from corral.core.options import Options
from corral.core.types import Message, ToolCall
from corral.service.requests import ChatRequest, ToolChoice
from corral.wire import anthropic as wire

REQUEST = RequestDecoder(wire.MessagesRequest, ANTHROPIC)
COUNT = RequestDecoder(wire.CountTokensRequest, ANTHROPIC)
HI: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOL = {"name": "f", "description": "d", "input_schema": SCHEMA}
PNG = base64.b64encode(b"\x89PNG").decode()
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
CACHED = {"cache_control": {"type": "ephemeral"}}


def decoded(**body: Any) -> wire.MessagesRequest:
    return REQUEST.decode(msgspec.json.encode({"model": "m", "max_tokens": 9, "messages": HI} | body))


def chat(**body: Any) -> ChatRequest:
    return chat_request(decoded(**body), client="c")


def turns(*messages: tuple[str, Any], **body: Any) -> tuple[Message, ...]:
    return chat(messages=[{"role": role, "content": content} for role, content in messages], **body).messages


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def use(call_id: str, name: str = "f", **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": name, "input": arguments}


def result(call_id: str, content: Any = None, **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content} | more


def test_a_silent_request_leaves_all_to_the_model_but_its_thinking() -> None:
    assert chat() == ChatRequest(
        model="m",
        messages=(Message(role="user", content="hi"),),
        options={"num_predict": 9},
        think=False,
        may_skip_thinking=True,
        needs_start=True,
        continues=True,
        client="c",
    )


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ({"temperature": 0}, {"temperature": 0}),
        ({"top_p": 0.5, "top_k": 7}, {"top_p": 0.5, "top_k": 7}),
        ({"stop_sequences": ["a", "", "b"]}, {"stop": ["a", "b"]}),
        ({"stop_sequences": []}, {}),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"think_budget": 1024}),
        ({"thinking": {"type": "enabled"}}, {}),
        ({"thinking": {"type": "disabled", "budget_tokens": 5}}, {}),
        ({"metadata": {"user_id": "u"}, "service_tier": "auto", "context_management": {"edits": []}, "unheard_of": 1}, {}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_options(body: dict[str, Any], options: dict[str, Any]) -> None:
    made = chat(**body).options
    assert made == {"num_predict": 9} | options
    Options.resolve({}, made)  # takes them


# Thinking


@pytest.mark.parametrize(
    ("body", "think"),
    [
        ({"thinking": {"type": "enabled"}}, True),
        ({"thinking": {"type": "adaptive"}}, True),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}, False),
        ({"output_config": {"effort": "high"}}, False),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, "low"),
        ({"thinking": {"type": "enabled"}, "output_config": {"effort": "xhigh"}}, "high"),
        ({"thinking": {"type": "enabled"}, "output_config": {"effort": "max"}}, "max"),
        ({"thinking": None, "output_config": {"effort": None}}, False),
    ],
    ids=str,
)
def test_thinking_is_off_unless_it_is_asked_for(body: dict[str, Any], think: bool | str) -> None:
    assert chat(**body).think == think


# Conversations


@pytest.mark.parametrize(
    ("system", "content"),
    [("Be brief.", "Be brief."), ([text("Be"), text("brief.") | CACHED], "Be\nbrief.")],
    ids=["text", "blocks"],
)
def test_a_system_prompt_is_the_first_message(system: Any, content: str) -> None:
    assert turns(("user", "hi"), system=system) == (
        Message(role="system", content=content),
        Message(role="user", content="hi"),
    )


@pytest.mark.parametrize("system", [None, "", []], ids=str)
def test_no_system_prompt_leaves_the_models_own(system: Any) -> None:
    assert turns(("user", "hi"), system=system) == (Message(role="user", content="hi"),)


def test_a_system_message_stays_where_it_is() -> None:
    roles = [message.role for message in turns(("user", "a"), ("system", [text("b")]), ("user", "c"))]
    assert roles == ["user", "system", "user"]


def test_neighbours_with_the_same_role_are_one_turn() -> None:
    assert turns(("user", "a"), ("user", [text("b"), text("c")]), ("assistant", "d"), ("assistant", "e")) == (
        Message(role="user", content="a\nb\nc"),
        Message(role="assistant", content="d\ne"),
    )


@pytest.mark.parametrize(
    ("content", "said", "images"),
    [
        ([IMAGE, text("what?")], "what?", 1),
        ([text("this"), IMAGE, text("or that"), IMAGE], "this[img]or that[img]", 2),
        ([], "", 0),
    ],
    ids=["before", "between", "nothing"],
)
def test_images_keep_their_places(content: list[Any], said: str, images: int) -> None:
    (message,) = turns(("user", content))
    assert (message.content, message.images) == (said, (b"\x89PNG",) * images)


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "abc"}}, "abc"),
        (
            {
                "type": "document",
                "title": "T",
                "context": "C",
                "source": {"type": "text", "data": "abc"},
                "citations": {"enabled": False},
            },
            "T\nC\nabc",
        ),
        ({"type": "document", "title": "T", "source": {"type": "content", "content": [text("a"), text("b")]}}, "T\na\nb"),
        ({"type": "document", "source": {"type": "content", "content": "a"}}, "a"),
        ({"type": "search_result", "title": "T", "source": "http://x", "content": [text("a")]}, "T\nhttp://x\na"),
    ],
    ids=["plain", "headed", "blocks", "text", "search result"],
)
def test_documents_are_read_as_text(block: dict[str, Any], said: str) -> None:
    (message,) = turns(("user", [block]))
    assert message.content == said


def test_calls_and_results_find_each_other_and_results_come_first() -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "x"}
    hidden = {"type": "redacted_thinking", "data": "zzz"}
    said = turns(
        ("user", "hi"),
        ("assistant", [thought, hidden, text("I look."), use("t1", a=1), use("t2", "g")]),
        ("user", [text("so"), result("t2", "22"), result("t1", [text("11"), IMAGE]), text("go on")]),
    )
    assert said[1:] == (
        Message(
            role="assistant",
            content="I look.",
            thinking="hm",
            tool_calls=(
                ToolCall(name="f", arguments={"a": 1}, call_id="t1"),
                ToolCall(name="g", arguments={}, call_id="t2", index=1),
            ),
        ),
        Message(role="tool", content="22", tool_call_id="t2", tool_name="g"),
        Message(role="tool", content="11[img]", images=(b"\x89PNG",), tool_call_id="t1", tool_name="f"),
        Message(role="user", content="so\ngo on"),
    )


def test_a_result_says_that_it_is_an_error_and_may_be_empty() -> None:
    said = turns(
        ("assistant", [use("t1"), use("t2")]),
        ("user", [result("t1", "no such file", is_error=True), result("t2"), result("unknown", "x")]),
    )
    assert [(one.role, one.content, one.tool_name) for one in said[1:]] == [
        ("tool", "Error: no such file", "f"),
        ("tool", "", "f"),
        ("tool", "x", ""),
    ]


# Tools, and the form of the answer


def test_tools_are_what_templates_know() -> None:
    request = chat(tools=[TOOL, {"type": "custom", "name": "g", "input_schema": {}, "strict": True, **CACHED}])
    assert request.tools == (
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}},
        {"type": "function", "function": {"name": "g", "parameters": {}, "strict": True}},
    )
    assert request.tool_choice == ToolChoice()
    assert request.parallel_tool_calls


@pytest.mark.parametrize(
    ("given", "choice", "parallel"),
    [
        ({"type": "auto"}, ToolChoice(), True),
        ({"type": "any"}, ToolChoice(mode="required"), True),
        ({"type": "tool", "name": "f"}, ToolChoice(mode="required", name="f"), True),
        ({"type": "none"}, ToolChoice(mode="none"), True),
        ({"type": "auto", "disable_parallel_tool_use": True}, ToolChoice(), False),
    ],
    ids=str,
)
def test_tool_choice(given: dict[str, Any], choice: ToolChoice, parallel: bool) -> None:
    request = chat(tools=[TOOL], tool_choice=given)
    assert (request.tool_choice, request.parallel_tool_calls) == (choice, parallel)


@pytest.mark.parametrize("field", ["output_config", "output_format"])
def test_a_schema_is_the_form_of_the_answer(field: str) -> None:
    wanted = {"type": "json_schema", "schema": SCHEMA}
    assert chat(**{field: {"format": wanted} if field == "output_config" else wanted}).format == SCHEMA


# Counting, and caching


def test_counting_renders_what_a_chat_would_and_needs_no_limit() -> None:
    body = {"model": "m", "messages": HI, "tools": [TOOL], "tool_choice": {"type": "none"}, "thinking": {"type": "adaptive"}}
    request = render_request(COUNT.decode(msgspec.json.encode(body)), client="c")
    assert request.debug_render_only
    asked = chat(**body)
    for field in ("messages", "tools", "tool_choice", "think", "may_skip_thinking"):
        assert getattr(request, field) == getattr(asked, field)


@pytest.mark.parametrize(
    ("body", "asks"),
    [
        ({}, False),
        (CACHED, True),
        ({"system": [text("x") | CACHED]}, True),
        ({"tools": [TOOL | CACHED]}, True),
        ({"messages": [{"role": "user", "content": [text("x") | CACHED]}]}, True),
        ({"messages": [{"role": "user", "content": [result("t", [text("x") | CACHED])]}]}, True),
        ({"system": "x", "tools": [TOOL], "messages": [{"role": "user", "content": [result("t", "x")]}]}, False),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_marked_to_be_cached_is_found(body: dict[str, Any], asks: bool) -> None:
    assert asks_for_caching(decoded(**body)) is asks


# Refusals


def in_user(block: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [block]}]}


def in_assistant(block: Any) -> dict[str, Any]:
    return {"messages": [{"role": "assistant", "content": [block]}]}


AT = "messages[0].content[0]"
IMAGE_KINDS = "it must be one of image/jpeg, image/png, image/gif, image/webp"


@pytest.mark.parametrize(
    ("body", "field", "text"),
    [
        ({"model": None}, "model", "model is required"),
        ({"max_tokens": None}, "max_tokens", "max_tokens is required and must be positive"),
        ({"max_tokens": 0}, "max_tokens", "max_tokens is required and must be positive"),
        ({"max_tokens": -1}, "max_tokens", "max_tokens is required and must be positive"),
        ({"messages": None}, "messages", "messages is required"),
        ({"messages": []}, "messages", "messages is required"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "messages[0].role is missing; it must be user or assistant"),
        (
            {"messages": [*HI, {"role": "tool", "content": "x"}]},
            "messages[1].role",
            'messages[1].role is "tool"; it must be user or assistant',
        ),
        (
            {"messages": [{"role": "user"}]},
            "messages[0].content",
            "messages[0].content is missing; it must be a text or a list of blocks",
        ),
        ({"temperature": 2.5}, "temperature", "temperature is 2.5; it must be between 0 and 2"),
        ({"top_p": -1}, "top_p", "top_p is -1; it must be between 0 and 1"),
        ({"top_k": -1}, "top_k", "top_k is -1; it must be 0 or more"),
        (
            {"thinking": {"type": "between_tools"}},
            "thinking.type",
            'thinking.type is "between_tools"; it must be enabled, adaptive or disabled',
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 0}},
            "thinking.budget_tokens",
            "thinking.budget_tokens is 0; it must be positive",
        ),
        (
            {"output_config": {"effort": "huge"}},
            "output_config.effort",
            'output_config.effort is "huge"; it must be one of low, medium, high, xhigh, max',
        ),
        (
            {"output_format": {"type": "json_object"}},
            "output_format.type",
            'output_format.type is "json_object"; it must be json_schema',
        ),
        (
            {"output_config": {"format": {"type": "json_schema"}}},
            "output_config.format.schema",
            "output_config.format.schema is missing; it must be a JSON Schema object",
        ),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name", "tools[0].name is missing; every tool needs a name"),
        (
            {"tools": [TOOL, {"name": "g"}]},
            "tools[1].input_schema",
            "tools[1].input_schema is missing; it must be a JSON Schema object",
        ),
        (
            {"tools": [TOOL], "tool_choice": {"type": "tool"}},
            "tool_choice.name",
            "tool_choice.name is missing; it must name one of the tools",
        ),
        (
            {"tools": [TOOL], "tool_choice": {"type": "maybe"}},
            "tool_choice.type",
            'tool_choice.type is "maybe"; it must be auto, any, tool or none',
        ),
        (in_user({"text": "x"}), f"{AT}.type", f"{AT}.type is missing; it must say which block this is"),
        (in_user({"type": "text"}), f"{AT}.text", f"{AT}.text is missing; it must be a text"),
        (in_assistant({"type": "thinking"}), f"{AT}.thinking", f"{AT}.thinking is missing; it must be a text"),
        (in_assistant(use("")), f"{AT}.id", "tool_use block missing required 'id' field"),
        (in_assistant(use("t", "")), f"{AT}.name", "tool_use block missing required 'name' field"),
        (in_user(result("")), f"{AT}.tool_use_id", "tool_result block missing required 'tool_use_id' field"),
        (
            in_user({"type": "image", "source": {"type": "url", "url": "http://x"}}),
            f"{AT}.source.type",
            "invalid image source type: url. Only base64 images are supported.",
        ),
        (
            in_user({"type": "image"}),
            f"{AT}.source.type",
            "invalid image source type: . Only base64 images are supported.",
        ),
        (
            in_user({"type": "image", "source": {"type": "base64", "media_type": "image/tiff", "data": PNG}}),
            f"{AT}.source.media_type",
            f'{AT}.source.media_type is "image/tiff"; {IMAGE_KINDS}',
        ),
        (
            in_user({"type": "image", "source": {"type": "base64", "media_type": "image/png"}}),
            f"{AT}.source.data",
            f"{AT}.source.data is missing; it must be a text",
        ),
        (
            in_user({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "a*b"}}),
            f"{AT}.source.data",
            f"{AT}.source.data: illegal base64 data at input byte 1",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 40 else "",
)
def test_what_is_wrong_is_named(body: dict[str, Any], field: str, text: str) -> None:
    with pytest.raises(FieldError) as caught:
        chat(**body)
    assert (caught.value.field, str(caught.value)) == (field, text)
    assert not isinstance(caught.value, UnsupportedFieldError)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"container": "c"}, "container"),
        ({"mcp_servers": [{"url": "http://x"}]}, "mcp_servers"),
        ({"compaction": {"type": "x"}}, "compaction"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [TOOL, {"type": "bash_20250124", "name": "bash"}]}, "tools[1].type"),
        (in_user({"type": "server_tool_use", "id": "x", "name": "y"}), f"{AT}.type"),
        (in_user(use("x")), f"{AT}.type"),
        (in_assistant(IMAGE), f"{AT}.type"),
        (in_assistant(result("x")), f"{AT}.type"),
        (in_user({"type": "document", "source": {"type": "base64", "data": PNG}}), f"{AT}.source.type"),
        (in_user({"type": "document"}), f"{AT}.source.type"),
        (
            in_user({"type": "document", "source": {"type": "content", "content": [{"type": "document"}]}}),
            f"{AT}.source.content[0].type",
        ),
        (
            in_user({"type": "document", "source": {"type": "text", "data": "x"}, "citations": {"enabled": True}}),
            f"{AT}.citations",
        ),
        (in_user(result("t", [{"type": "tool_reference", "tool_name": "f"}])), f"{AT}.content[0].type"),
        ({"system": [IMAGE]}, "system[0].type"),
        (
            {"messages": [{"role": "system", "content": [IMAGE]}, *HI]},
            "messages[0].content[0].type",
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_cannot_be_had_is_refused_by_name(body: dict[str, Any], field: str) -> None:
    with pytest.raises(UnsupportedFieldError, match="is not supported: ") as caught:
        chat(**body)
    assert caught.value.field == field
    assert str(caught.value).startswith(field)


@pytest.mark.parametrize("value", [None, False, "", [], {}], ids=str)
def test_what_is_refused_may_be_empty(value: Any) -> None:
    assert chat(container=value, mcp_servers=value) == chat()


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"messages": "x"}, "MessagesRequest.messages of type []anthropic.InputMessage"),
        ({"max_tokens": "x"}, "MessagesRequest.max_tokens of type int"),
        ({"messages": [{"role": "user", "content": [{"type": 3}]}]}, "MessagesRequest.messages.content.type of type string"),
        (
            {"messages": [{"role": "user", "content": [result("x", [{"type": 3}])]}]},
            "MessagesRequest.messages.content.content.type of type string",
        ),
        ({"tools": [{"input_schema": []}]}, "MessagesRequest.tools.input_schema of type map[string]interface {}"),
    ],
    ids=str,
)
def test_values_of_a_wrong_type(body: dict[str, Any], where: str) -> None:
    with pytest.raises(BadRequestError, match="json: cannot unmarshal") as caught:
        decoded(**body)
    assert str(caught.value).endswith(where)
