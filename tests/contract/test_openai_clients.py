"""OpenAI's own Python package as a client, over a real socket, sync and async."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from corral.engine.fake import Script
from tests.contract.conftest import LiveServer
from tests.support.callers import CALLER_TEMPLATE, SAYS_CALL, TOOL

HI: Any = [{"role": "user", "content": "hi"}]
SAID = "Hello, world"
TOOLS: Any = [TOOL]


class Person(BaseModel):
    name: str
    age: int


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


def test_chat(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model="hello",
        messages=[{"role": "developer", "content": "Be brief."}, *HI],
        temperature=0,
        max_completion_tokens=50,
        seed=1,
        stop=["\n\n"],
        logit_bias={"7": -100},
        extra_body={"top_k": 5, "num_ctx": 2048, "keep_alive": "5m", "options": {"repeat_last_n": 8}},
    )
    (choice,) = reply.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", SAID, "stop")
    assert reply.usage
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.usage.prompt_tokens_details
    assert reply.usage.completion_tokens_details


def test_chat_stream(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model="hello", messages=HI, stream=True, stream_options={"include_usage": True}, n=2
    ) as stream:
        chunks = list(stream)
    for index in range(2):
        mine = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
        assert "".join(choice.delta.content or "" for choice in mine) == SAID
        assert [choice.delta.role for choice in mine][:2] == ["assistant", None]
        assert mine[-1].finish_reason == "stop"
    assert chunks[-1].usage
    assert len({chunk.created for chunk in chunks}) == 1


def test_logprobs(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="hello", messages=HI, logprobs=True, top_logprobs=2)
    logprobs = reply.choices[0].logprobs
    assert logprobs
    assert logprobs.content
    assert "".join(token.token for token in logprobs.content) == SAID
    assert [len(token.top_logprobs) for token in logprobs.content] == [2, 2, 2]


def test_tools_over_two_turns(client: openai.OpenAI, tooler: LiveServer) -> None:
    tooler.launcher.scripts.append(Script(SAYS_CALL))
    reply = client.chat.completions.create(model="tooler", messages=HI, tools=TOOLS, tool_choice="auto")
    message = reply.choices[0].message
    assert reply.choices[0].finish_reason == "tool_calls"
    assert message.tool_calls
    (call,) = message.tool_calls
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("f", '{"a":1,"b":"x"}')
    messages = [*HI, message.to_dict(), {"role": "tool", "tool_call_id": call.id, "content": "11"}]
    again = client.chat.completions.create(model="tooler", messages=messages, tools=TOOLS)
    assert again.choices[0].message.content == SAID
    (engine,) = tooler.launcher.engines
    assert '{"name": "f", "arguments": {"a":1,"b":"x"}}' in engine.jobs[-1].prompt
    assert "[tool] 11" in engine.jobs[-1].prompt


def test_tools_streamed(client: openai.OpenAI, tooler: LiveServer) -> None:
    tooler.launcher.scripts.append(Script(SAYS_CALL))
    with client.chat.completions.stream(model="tooler", messages=HI, tools=TOOLS) as stream:
        names = [event.name for event in stream if event.type == "tool_calls.function.arguments.done"]
        final = stream.get_final_completion()
    assert names == ["f"]
    assert final.choices[0].message.tool_calls
    (call,) = final.choices[0].message.tool_calls
    assert call.function.arguments == '{"a":1,"b":"x"}'


def test_thinking(client: openai.OpenAI, tooler: LiveServer) -> None:
    tooler.launcher.scripts.append(Script(("<think>\nhm</think>\n", "Yes.")))
    reply = client.chat.completions.create(model="tooler", messages=HI, reasoning_effort="low")
    message: Any = reply.choices[0].message
    assert (message.content, message.reasoning, message.reasoning_content) == ("Yes.", "hm", "hm")


def test_structured_output_is_parsed(client: openai.OpenAI, live_server: LiveServer) -> None:
    live_server.launcher.scripts.append(Script(('{"name": "Ann", ', '"age": 4}')))
    reply = client.chat.completions.parse(model="hello", messages=HI, response_format=Person)
    assert reply.choices[0].message.parsed == Person(name="Ann", age=4)


def test_completions(client: openai.OpenAI) -> None:
    reply = client.completions.create(model="hello", prompt=["a", "b"], echo=True)
    assert [choice.text for choice in reply.choices] == ["a" + SAID, "b" + SAID]
    stream = client.completions.create(model="hello", prompt=[1, 2], stream=True, logprobs=1)
    chunks = [choice for chunk in stream for choice in chunk.choices]
    assert "".join(choice.text for choice in chunks) == SAID
    assert chunks[0].logprobs
    assert chunks[0].logprobs.text_offset == [0]


def test_embeddings_in_both_encodings(client: openai.OpenAI) -> None:
    packed = client.embeddings.create(model="hello", input=["a", "b"])  # the package asks for base64 by itself
    plain = client.embeddings.create(model="hello", input=["a", "b"], encoding_format="float")
    assert [item.index for item in packed.data] == [0, 1]
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding)
    short = client.embeddings.create(model="hello", input="a", dimensions=2, encoding_format="float")
    assert len(short.data[0].embedding) == 2
    many = client.embeddings.create(model="hello", input=[str(index) for index in range(5000)], encoding_format="float")
    assert [item.index for item in many.data] == list(range(5000))
    assert (
        many.data[4321].embedding
        == client.embeddings.create(model="hello", input="4321", encoding_format="float").data[0].embedding
    )


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["hello:latest"]
    assert client.models.retrieve("hello").owned_by == "library"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nope")


def test_errors_have_their_classes(client: openai.OpenAI, live_server: LiveServer) -> None:
    with pytest.raises(openai.NotFoundError, match="model 'nope' not found"):
        client.chat.completions.create(model="nope", messages=HI)
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="hello", messages=HI, temperature=3)
    assert (caught.value.param, caught.value.code) == ("temperature", "invalid_value")
    live_server.launcher.scripts.append(Script(("a", "b"), crash_after=1))
    with pytest.raises(openai.APIError, match="unexpected EOF"):
        list(client.chat.completions.create(model="hello", messages=HI, stream=True))
    assert client.chat.completions.create(model="hello", messages=HI).choices[0].message.content == SAID


async def test_the_same_async(async_client: openai.AsyncOpenAI) -> None:
    reply = await async_client.chat.completions.create(model="hello", messages=HI)
    assert reply.choices[0].message.content == SAID
    stream = await async_client.chat.completions.create(model="hello", messages=HI, stream=True)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == SAID
    async with async_client.chat.completions.stream(model="hello", messages=HI) as events:
        assert (await events.get_final_completion()).choices[0].message.content == SAID
    assert (await async_client.completions.create(model="hello", prompt="a")).choices[0].text == SAID
    assert len((await async_client.embeddings.create(model="hello", input="a")).data) == 1
    assert [model.id async for model in async_client.models.list()] == ["hello:latest"]
    with pytest.raises(openai.NotFoundError):
        await async_client.models.retrieve("nope")
