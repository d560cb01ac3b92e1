"""OpenAI's asynchronous client, endpoint by endpoint, and the requests of KTransformers' users, against real workers."""

import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel, Field

from tests.support.gguf_files import write_random
from tests.support.process import Server, serving

SAID = "Hello, I am a scripted model."
HI: Any = [{"role": "user", "content": "hi"}]


class Person(BaseModel):
    name: str = Field(max_length=10)
    age: int = Field(ge=0, le=120)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`hello` says a sentence, and what `random` says depends on all that was said."""
    folder = tmp_path_factory.mktemp("scripted")
    with serving(tmp_path_factory.mktemp("home")) as made:
        made.add_scripted("hello", SAID, folder)
        made.add(write_random(folder / "random.gguf"), "random")
        yield made


@pytest.fixture
async def client(server: Server) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as made:
        yield made


async def test_chat_whole_and_streamed(client: openai.AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model="hello", messages=HI)
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == (SAID, "stop")
    stream = await client.chat.completions.create(model="hello", messages=HI, stream=True)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == SAID
    assert [chunk.choices[0].finish_reason for chunk in chunks][-2:] == [None, "stop"]
    assert len({chunk.created for chunk in chunks}) == len({chunk.id for chunk in chunks}) == 1


async def test_structured_output_is_parsed(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.parse(model="random", messages=HI, response_format=Person, temperature=1)
    assert isinstance(answer.choices[0].message.parsed, Person)
    response = await client.responses.parse(model="random", input="hi", text_format=Person)
    assert isinstance(response.output_parsed, Person)


async def test_a_call_that_is_required_and_its_result(client: openai.AsyncOpenAI) -> None:
    parameters = {"type": "object", "required": ["age"], "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 9}}}
    template = "{{ .Tools }}{{ range .Messages }}{{ .Role }}: {{ .Content }}{{ range .ToolCalls }}<tool_call>\n" + (
        '{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}\n</tool_call>{{ end }}\n{{ end }}'
    )
    made = await client.post(
        str(client.base_url).removesuffix("/v1/") + "/api/create",
        body={"model": "caller", "from": "random", "template": template, "stream": False},
        cast_to=object,
    )
    assert made == {"status": "success"}
    tools: Any = [{"type": "function", "function": {"name": "set_age", "parameters": parameters}}]
    first = await client.chat.completions.create(model="caller", messages=HI, tools=tools, tool_choice="required")
    assert first.choices[0].finish_reason == "tool_calls"
    assert first.choices[0].message.tool_calls
    call = first.choices[0].message.tool_calls[0]
    assert call.type == "function"
    assert (call.function.name, 0 <= json.loads(call.function.arguments)["age"] <= 9) == ("set_age", True)
    history: Any = [*HI, first.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "done"}]
    second = await client.chat.completions.create(model="caller", messages=history, tools=tools, max_completion_tokens=5)
    assert second.usage
    assert second.usage.completion_tokens == 5


async def test_completions_whole_and_streamed(client: openai.AsyncOpenAI) -> None:
    whole = await client.completions.create(model="hello", prompt="hi")
    assert whole.choices[0].text == SAID
    stream = await client.completions.create(model="hello", prompt="hi", stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream if chunk.choices]) == SAID


async def test_embeddings_in_both_encodings(client: openai.AsyncOpenAI) -> None:
    numbers = await client.embeddings.create(model="random", input=["a horse", "a mare"], encoding_format="float")
    packed = await client.embeddings.create(model="random", input=["a horse", "a mare"], encoding_format="base64")
    default = await client.embeddings.create(model="random", input=["a horse", "a mare"])  # packed on the wire
    assert [len(one.embedding) for one in numbers.data] == [64, 64]
    assert [one.embedding for one in default.data] == [pytest.approx(one.embedding, abs=1e-6) for one in numbers.data]
    assert all(isinstance(one.embedding, str) for one in packed.data)


async def test_responses_whole_and_streamed(client: openai.AsyncOpenAI) -> None:
    whole = await client.responses.create(model="hello", input="hi")
    assert (whole.status, whole.output_text) == ("completed", SAID)
    stream = await client.responses.create(model="hello", input="hi", stream=True)
    events = [event async for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == SAID


async def test_models_are_listed_and_found(client: openai.AsyncOpenAI) -> None:
    assert {model.id async for model in client.models.list()} >= {"hello:latest", "random:latest"}
    assert (await client.models.retrieve("hello")).id == "hello"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("nope")


# KTransformers: the two requests of its API page, with this server's address and model


def curl(url: str, body: str) -> str:
    command = ["curl", "--silent", "--no-buffer", "-X", "POST", url]
    headers = ["-H", "accept: application/json", "-H", "Content-Type: application/json"]
    return subprocess.run([*command, *headers, "-d", body], capture_output=True, text=True, check=True, timeout=60).stdout


def test_chat_completions_stream_as_clients_of_ktransformers_expect(server: Server) -> None:
    body = '{"messages": [{"content": "tell a joke", "role": "user"}], "model": "hello", "stream": true}'
    lines = [line for line in curl(f"{server.url}/v1/chat/completions", body).splitlines() if line]
    assert all(line.startswith("data:") for line in lines)
    events = [line.removeprefix("data:").strip() for line in lines]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == SAID
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_generate_streams_as_clients_of_ktransformers_expect(server: Server) -> None:
    body = '{"model": "hello", "prompt": "tell me a joke", "stream": true}'
    lines = [json.loads(line) for line in curl(f"{server.url}/api/generate", body).splitlines()]
    assert "".join(line["response"] for line in lines) == SAID
    assert [line["done"] for line in lines] == [*[False] * (len(lines) - 1), True]
