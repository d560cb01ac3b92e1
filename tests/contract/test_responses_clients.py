"""/v1/responses through OpenAI's own Python package, over a real socket, sync and async."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from corral.engine.fake import Script
from tests.contract.conftest import LiveServer
from tests.support.callers import CALLER_TEMPLATE, SAYS_CALL, SAYS_THOUGHT

SAID = "Hello, world"
TOOLS: Any = [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": None}]


class Person(BaseModel):
    name: str
    age: int


class Arguments(BaseModel):
    a: int
    b: str


@pytest.fixture
def client(live_server: LiveServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{live_server.url}/v1", api_key="ollama", max_retries=0) as made:
        yield made


@pytest.fixture
async def async_client(live_server: LiveServer) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{live_server.url}/v1", api_key="ollama", max_retries=0) as made:
        yield made


@pytest.fixture
def tooler(live_server: LiveServer) -> LiveServer:
    """The server with a second model, `tooler`, that thinks and calls tools."""
    body = {"model": "tooler", "from": "hello", "template": CALLER_TEMPLATE, "stream": False}
    httpx.post(f"{live_server.url}/api/create", json=body).raise_for_status()
    return live_server


def prompts(server: LiveServer) -> list[str]:
    (engine,) = server.launcher.engines
    return [job.prompt for job in engine.jobs]


def test_a_response(client: openai.OpenAI) -> None:
    reply = client.responses.create(
        model="hello",
        instructions="Be brief.",
        input="hi",
        temperature=0,
        max_output_tokens=50,
        metadata={"who": "me"},
        extra_body={"top_k": 5, "num_ctx": 2048, "keep_alive": "5m", "options": {"repeat_last_n": 8}},
    )
    assert (reply.status, reply.output_text, reply.incomplete_details) == ("completed", SAID, None)
    assert (reply.instructions, reply.temperature, reply.metadata) == ("Be brief.", 0, {"who": "me"})
    assert reply.usage
    assert reply.usage.total_tokens == reply.usage.input_tokens + reply.usage.output_tokens
    assert reply.usage.input_tokens_details.cached_tokens == 0
    assert reply.usage.output_tokens_details.reasoning_tokens == 0


def test_a_stream_of_events(client: openai.OpenAI) -> None:
    with client.responses.create(model="hello", input="hi", stream=True) as stream:
        events = list(stream)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == SAID
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == SAID


def test_the_stream_helper_follows_all_items(client: openai.OpenAI, tooler: LiveServer) -> None:
    tooler.launcher.scripts.append(Script(("<think>\nhm</think>\n", *SAYS_CALL)))
    with client.responses.stream(model="tooler", input="hi", tools=TOOLS) as stream:
        events = list(stream)
        final = stream.get_final_response()
    (arguments,) = [event.arguments for event in events if event.type == "response.function_call_arguments.done"]
    assert arguments == '{"a":1,"b":"x"}'
    assert [item.type for item in final.output] == ["reasoning", "message", "function_call"]
    assert final.output_text == "I look.\n"


def test_tools_over_two_turns(client: openai.OpenAI, tooler: LiveServer) -> None:
    tooler.launcher.scripts.append(Script(SAYS_CALL))
    reply = client.responses.create(model="tooler", input="hi", tools=TOOLS)
    call = reply.output[-1]
    assert call.type == "function_call"
    assert (call.name, call.arguments, call.status) == ("f", '{"a":1,"b":"x"}', "completed")
    history: Any = [
        {"role": "user", "content": "hi"},
        *(item.to_dict() for item in reply.output),
        {"type": "function_call_output", "call_id": call.call_id, "output": "11"},
    ]
    again = client.responses.create(model="tooler", input=history, tools=TOOLS)
    assert again.output_text == SAID
    assert '[assistant] I look.\n<tool_call>\n{"name": "f", "arguments": {"a":1,"b":"x"}}' in prompts(tooler)[-1]
    assert "[tool] 11" in prompts(tooler)[-1]


def test_a_conversation_goes_on_from_an_earlier_response(client: openai.OpenAI, tooler: LiveServer) -> None:
    tooler.launcher.scripts.append(Script(SAYS_CALL))
    reply = client.responses.create(model="tooler", input="hi", instructions="Old.", tools=TOOLS)
    call = reply.output[-1]
    assert call.type == "function_call"
    second = client.responses.create(
        model="tooler",
        previous_response_id=reply.id,
        instructions="New.",
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "11"}],
    )
    third = client.responses.create(model="tooler", previous_response_id=second.id, input="thanks")
    assert third.previous_response_id == second.id
    assert "Old." not in prompts(tooler)[1]
    assert prompts(tooler)[1].startswith("[system] New.[end]\n[user] hi[end]\n[assistant] I look.\n<tool_call>")
    assert prompts(tooler)[2].endswith(f"[tool] 11[end]\n[assistant] {SAID}[end]\n[user] thanks[end]\n[assistant] ")


def test_an_item_may_be_named_in_place_of_sent(client: openai.OpenAI, tooler: LiveServer) -> None:
    reply = client.responses.create(model="tooler", input="hi")
    item_id = reply.output[0].id
    assert item_id
    references: Any = [
        {"role": "user", "content": "hi"},
        {"type": "item_reference", "id": item_id},
        {"role": "user", "content": "and?"},
    ]
    client.responses.create(model="tooler", input=references)
    assert prompts(tooler)[-1] == f"[user] hi[end]\n[assistant] {SAID}[end]\n[user] and?[end]\n[assistant] "


def test_a_response_is_retrieved_and_deleted(client: openai.OpenAI) -> None:
    reply = client.responses.create(model="hello", input="hi")
    assert client.responses.retrieve(reply.id) == reply
    client.responses.delete(reply.id)
    with pytest.raises(openai.NotFoundError, match=reply.id):
        client.responses.retrieve(reply.id)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="hello", input="hi", previous_response_id=reply.id)
    assert (caught.value.code, caught.value.param) == ("previous_response_not_found", "previous_response_id")


def test_a_response_that_is_not_to_be_kept_is_not(client: openai.OpenAI) -> None:
    reply = client.responses.create(model="hello", input="hi", store=False)
    assert reply.model_dump()["store"] is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(reply.id)


def test_thinking(client: openai.OpenAI, tooler: LiveServer) -> None:
    tooler.launcher.scripts.append(Script(SAYS_THOUGHT))
    reply = client.responses.create(model="tooler", input="hi", reasoning={"effort": "low", "summary": "auto"})
    thought = reply.output[0]
    assert thought.type == "reasoning"
    assert [part.text for part in thought.summary] == ["hm"]
    assert reply.output_text == "Yes."
    again: Any = [*(item.to_dict() for item in reply.output), {"role": "user", "content": "?"}]
    client.responses.create(model="tooler", input=again)
    assert prompts(tooler)[-1].startswith("[assistant] <think>\nhm</think>\nYes.[end]\n[user] ?[end]\n")


def test_structured_output_is_parsed(client: openai.OpenAI, live_server: LiveServer) -> None:
    live_server.launcher.scripts.append(Script(('{"name": "Ann", ', '"age": 4}')))
    reply = client.responses.parse(model="hello", input="hi", text_format=Person)
    assert reply.output_parsed == Person(name="Ann", age=4)
    live_server.launcher.scripts.append(Script(('{"name": "Ann", ', '"age": 4}')))
    with client.responses.stream(model="hello", input="hi", text_format=Person) as stream:
        assert stream.get_final_response().output_parsed == Person(name="Ann", age=4)
    (engine,) = live_server.launcher.engines
    assert all(job.grammars for job in engine.jobs)


def test_calls_are_parsed(client: openai.OpenAI, tooler: LiveServer) -> None:
    tooler.launcher.scripts.append(Script(SAYS_CALL))
    tool: Any = openai.pydantic_function_tool(Arguments, name="f")
    reply = client.responses.parse(model="tooler", input="hi", tools=[tool["function"] | {"type": "function"}])
    call = reply.output[-1]
    assert call.type == "function_call"
    assert call.parsed_arguments == {"a": 1, "b": "x"}


def test_a_stream_that_fails_says_so(client: openai.OpenAI, live_server: LiveServer) -> None:
    live_server.launcher.scripts.append(Script(("a", "b"), crash_after=1))
    last = list(client.responses.create(model="hello", input="hi", stream=True))[-1]
    assert last.type == "response.failed"
    assert last.response.error
    assert (last.response.status, last.response.error.code) == ("failed", "server_error")
    assert "unexpected EOF" in last.response.error.message
    assert client.responses.create(model="hello", input="hi").output_text == SAID


async def test_the_same_async(async_client: openai.AsyncOpenAI) -> None:
    reply = await async_client.responses.create(model="hello", input="hi")
    assert reply.output_text == SAID
    stream = await async_client.responses.create(model="hello", input="hi", stream=True)
    assert "".join([event.delta async for event in stream if event.type == "response.output_text.delta"]) == SAID
    async with async_client.responses.stream(model="hello", input="hi") as events:
        assert (await events.get_final_response()).output_text == SAID
    assert (await async_client.responses.retrieve(reply.id)).output_text == SAID
    await async_client.responses.delete(reply.id)
    with pytest.raises(openai.NotFoundError):
        await async_client.responses.retrieve(reply.id)
