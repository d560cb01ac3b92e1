"""Anthropic's own Python package as a client, over a real socket, sync and async."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic
import httpx
import pytest
from pydantic import BaseModel

from corral.engine.fake import Script
from tests.contract.conftest import LiveServer
from tests.support.callers import CALLER_TEMPLATE, SAYS_CALL, SAYS_THOUGHT

HI: Any = [{"role": "user", "content": "hi"}]
SAID = "Hello, world"
TOOLS: Any = [{"name": "f", "description": "d", "input_schema": {"type": "object"}}]
THINKING: Any = {"type": "enabled", "budget_tokens": 1024}
ARGUMENTS = {"a": 1, "b": "x"}


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture
def client(live_server: LiveServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=live_server.url, api_key="ollama", max_retries=0) as made:
        yield made


@pytest.fixture
async def async_client(live_server: LiveServer) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=live_server.url, api_key="ollama", max_retries=0) as made:
        yield made


@pytest.fixture
def tooler(live_server: LiveServer) -> LiveServer:
    """The server with a second model, `tooler`, that thinks and calls tools."""
    body = {"model": "tooler", "from": "hello", "template": CALLER_TEMPLATE, "stream": False}
    httpx.post(f"{live_server.url}/api/create", json=body).raise_for_status()
    return live_server


def said(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def test_a_message(client: anthropic.Anthropic) -> None:
    reply = client.messages.create(
        model="hello",
        max_tokens=50,
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        messages=[*HI, {"role": "assistant", "content": "hm"}, {"role": "user", "content": [{"type": "text", "text": "and?"}]}],
        stop_sequences=["\n\n"],
        metadata={"user_id": "u"},
        service_tier="auto",
        extra_body={"temperature": 0, "top_k": 5, "top_p": 0.9},  # the package no longer names them
    )
    assert (reply.type, reply.role, reply.model, said(reply)) == ("message", "assistant", "hello", SAID)
    assert (reply.stop_reason, reply.stop_sequence) == ("end_turn", None)
    assert (reply.usage.output_tokens, reply.usage.cache_read_input_tokens) == (4, 0)
    assert reply.usage.input_tokens > 3
    assert reply._request_id
    assert reply._request_id.startswith("req_")


def test_a_stream_of_events(client: anthropic.Anthropic) -> None:
    with client.messages.create(model="hello", max_tokens=50, messages=HI, stream=True) as stream:
        kinds = [event.type for event in stream]
    assert kinds == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


def test_a_stream_that_the_package_puts_together(client: anthropic.Anthropic, live_server: LiveServer) -> None:
    live_server.launcher.scripts.append(Script(("So ", "it is"), stop_text="END", cached_tokens=2))
    with client.messages.stream(
        model="hello", max_tokens=50, messages=HI, stop_sequences=["END"], cache_control={"type": "ephemeral"}
    ) as stream:
        assert "".join(stream.text_stream) == "So it is"
        final = stream.get_final_message()
    assert (final.stop_reason, final.stop_sequence) == ("stop_sequence", "END")
    assert (final.usage.input_tokens, final.usage.cache_read_input_tokens, final.usage.output_tokens) == (1, 2, 3)


def test_tools_over_two_turns(client: anthropic.Anthropic, tooler: LiveServer) -> None:
    tooler.launcher.scripts.append(Script(SAYS_CALL))
    reply = client.messages.create(model="tooler", max_tokens=50, messages=HI, tools=TOOLS, tool_choice={"type": "auto"})
    assert reply.stop_reason == "tool_use"
    text, call = reply.content
    assert (text.type, call.type) == ("text", "tool_use")
    assert call.type == "tool_use"
    assert (call.name, call.input) == ("f", ARGUMENTS)
    result: Any = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "11"}]}
    messages = [*HI, reply.to_param(), {"role": "user", "content": [result, {"type": "text", "text": "well?"}]}]
    again = client.messages.create(model="tooler", max_tokens=50, messages=messages, tools=TOOLS)
    assert said(again) == SAID
    (engine,) = tooler.launcher.engines
    assert '{"name": "f", "arguments": {"a":1,"b":"x"}}' in engine.jobs[-1].prompt
    assert "[tool] 11[end]\n[user] well?[end]" in engine.jobs[-1].prompt


def test_tools_streamed_with_a_thought(client: anthropic.Anthropic, tooler: LiveServer) -> None:
    tooler.launcher.scripts.append(Script(("<think>\n", "hm", "</think>\n", *SAYS_CALL)))
    with client.messages.stream(model="tooler", max_tokens=50, messages=HI, tools=TOOLS, thinking=THINKING) as stream:
        kinds = [event.type for event in stream if event.type in ("thinking", "signature", "text", "input_json")]
        final = stream.get_final_message()
    assert kinds == ["thinking", "signature", "text", "text", "input_json"]
    thought, text, call = final.content
    assert thought.type == "thinking"
    assert (thought.thinking, bool(thought.signature)) == ("hm", True)
    assert text.type == "text"
    assert call.type == "tool_use"
    assert (text.text, call.input, final.stop_reason) == ("I look.\n", ARGUMENTS, "tool_use")
    result: Any = {"type": "tool_result", "tool_use_id": call.id, "content": "11"}
    messages = [*HI, final.to_param(), {"role": "user", "content": [result]}]
    client.messages.create(model="tooler", max_tokens=50, messages=messages, tools=TOOLS, thinking=THINKING)
    (engine,) = tooler.launcher.engines
    assert "[assistant] <think>\nhm</think>\nI look.\n<tool_call>" in engine.jobs[-1].prompt


def test_thinking_whole_and_off(client: anthropic.Anthropic, tooler: LiveServer) -> None:
    tooler.launcher.scripts.append(Script(SAYS_THOUGHT))
    reply = client.messages.create(model="tooler", max_tokens=50, messages=HI, thinking=THINKING)
    thought, text = reply.content
    assert thought.type == "thinking"
    assert text.type == "text"
    assert (thought.thinking, bool(thought.signature), text.text) == ("hm", True, "Yes.")
    tooler.launcher.scripts.append(Script(SAYS_THOUGHT))
    assert [block.type for block in client.messages.create(model="tooler", max_tokens=50, messages=HI).content] == ["text"]


def test_structured_output_is_parsed(client: anthropic.Anthropic, live_server: LiveServer) -> None:
    live_server.launcher.scripts.append(Script(('{"name": "Ann", ', '"age": 4}')))
    reply = client.messages.parse(model="hello", max_tokens=50, messages=HI, output_format=Person)
    assert reply.parsed_output == Person(name="Ann", age=4)


def test_the_beta_client(client: anthropic.Anthropic, live_server: LiveServer) -> None:
    reply = client.beta.messages.create(
        model="hello",
        max_tokens=50,
        messages=HI,
        betas=["context-management-2025-06-27"],
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    )
    assert said(reply) == SAID
    assert client.beta.messages.count_tokens(model="hello", messages=HI).input_tokens == reply.usage.input_tokens


def test_counting(client: anthropic.Anthropic, tooler: LiveServer) -> None:
    body: Any = {
        "model": "tooler",
        "messages": [*HI, {"role": "assistant", "content": "a b"}, {"role": "user", "content": "c"}],
        "system": "Be brief.",
        "tools": TOOLS,
    }
    counted = client.messages.count_tokens(**body).input_tokens
    assert counted == client.messages.create(max_tokens=50, **body).usage.input_tokens


def test_errors(client: anthropic.Anthropic, live_server: LiveServer) -> None:
    with pytest.raises(anthropic.NotFoundError, match="model 'nope' not found") as missing:
        client.messages.create(model="nope", max_tokens=5, messages=HI)
    assert missing.value.request_id
    with pytest.raises(anthropic.BadRequestError, match="max_tokens is required and must be positive"):
        client.messages.create(model="hello", max_tokens=0, messages=HI)
    live_server.launcher.scripts.append(Script(("a", "b"), crash_after=1))
    with pytest.raises(anthropic.APIStatusError, match="unexpected EOF"):
        list(client.messages.create(model="hello", max_tokens=50, messages=HI, stream=True))
    assert said(client.messages.create(model="hello", max_tokens=50, messages=HI)) == SAID


async def test_the_same_async(async_client: anthropic.AsyncAnthropic, tooler: LiveServer) -> None:
    reply = await async_client.messages.create(model="hello", max_tokens=50, messages=HI)
    assert said(reply) == SAID
    async with async_client.messages.stream(model="hello", max_tokens=50, messages=HI) as stream:
        assert "".join([text async for text in stream.text_stream]) == SAID
    tooler.launcher.scripts.append(Script(SAYS_CALL))
    async with async_client.messages.stream(model="tooler", max_tokens=50, messages=HI, tools=TOOLS) as stream:
        final = await stream.get_final_message()
    assert [block.input for block in final.content if block.type == "tool_use"] == [ARGUMENTS]
    assert (await async_client.messages.count_tokens(model="hello", messages=HI)).input_tokens == reply.usage.input_tokens
    with pytest.raises(anthropic.NotFoundError):
        await async_client.messages.create(model="nope", max_tokens=5, messages=HI)
