"""Anthropic's own Python package against a server with real workers: messages, tools, thoughts, counts, failures."""

import base64
import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import anthropic
import psutil
import pytest

from tests.support.callers import CALLER_TEMPLATE, SAYS_CALL, SAYS_THOUGHT
from tests.support.gguf_files import write_random
from tests.support.gguf_vision import picture, write_seeing
from tests.support.process import Server, serving

SAID = "Hello, I am a scripted model."
HI: Any = [{"role": "user", "content": "hi"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}}
TOOLS: Any = [{"name": "f", "description": "d", "input_schema": SCHEMA}]
CACHED: Any = {"cache_control": {"type": "ephemeral"}}
PLAIN = "{{ range .Messages }}{{ .Role }}: {{ .Content }}\n{{ end }}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`hello` says a sentence, `tooler` calls a tool, `thinker` thinks first, `endless` counts for some
    seconds, `random` says what depends on all that was said, and `eyes` sees.
    """
    folder = tmp_path_factory.mktemp("scripted")
    with serving(tmp_path_factory.mktemp("home")) as made:
        made.add_scripted("hello", SAID, folder)
        made.add_scripted("endless", " ".join(map(str, range(2000))), folder)
        made.add(write_random(folder / "random.gguf"), "random")
        text, projector = write_seeing(tmp_path_factory.mktemp("eyes"), "mlp")
        made.add(text, "eyes", projector, template=PLAIN)
        for name, say in {"tooler": "".join(SAYS_CALL), "thinker": "".join(SAYS_THOUGHT)}.items():
            made.add_scripted(f"bare-{name}", say, folder)
            body = {"model": name, "from": f"bare-{name}", "template": CALLER_TEMPLATE, "stream": False}
            assert made.call("POST", "/api/create", body)[0] == 200
        yield made


@pytest.fixture
def client(server: Server) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="ollama", max_retries=0) as made:
        yield made


@pytest.fixture
async def async_client(server: Server) -> Any:
    async with anthropic.AsyncAnthropic(base_url=server.url, api_key="ollama", max_retries=0) as made:
        yield made


def said(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def native(server: Server, path: str, **body: Any) -> dict[str, Any]:
    status, answer = server.call("POST", path, {"stream": False, **body})
    assert status == 200, answer
    made: dict[str, Any] = json.loads(answer)
    return made


def test_a_message_whole_and_streamed(client: anthropic.Anthropic) -> None:
    whole = client.messages.create(model="hello", max_tokens=100, messages=HI)
    with client.messages.stream(model="hello", max_tokens=100, messages=HI) as stream:
        begun = next(event for event in stream if event.type == "message_start")
        streamed = stream.get_final_message()
    assert said(whole) == said(streamed) == SAID
    assert whole.stop_reason == streamed.stop_reason == "end_turn"
    assert whole.usage == streamed.usage
    assert begun.message.usage.input_tokens == whole.usage.input_tokens


async def test_the_same_async(async_client: anthropic.AsyncAnthropic) -> None:
    assert said(await async_client.messages.create(model="hello", max_tokens=100, messages=HI)) == SAID
    async with async_client.messages.stream(model="tooler", max_tokens=100, messages=HI, tools=TOOLS) as stream:
        pieces = [event.partial_json async for event in stream if event.type == "input_json"]
        final = await stream.get_final_message()
    assert "".join(pieces) == '{"a":1,"b":"x"}'
    assert [block.type for block in final.content] == ["text", "tool_use"]
    counted = await async_client.messages.count_tokens(model="tooler", messages=HI, tools=TOOLS)
    assert counted.input_tokens == final.usage.input_tokens


def test_how_it_ends(client: anthropic.Anthropic) -> None:
    short = client.messages.create(model="hello", max_tokens=3, messages=HI)
    assert (short.stop_reason, short.usage.output_tokens) == ("max_tokens", 3)
    stopped = client.messages.create(model="hello", max_tokens=100, messages=HI, stop_sequences=["model", "scripted"])
    assert (said(stopped), stopped.stop_reason, stopped.stop_sequence) == ("Hello, I am a ", "stop_sequence", "scripted")


def test_a_call_and_its_result(client: anthropic.Anthropic) -> None:
    reply = client.messages.create(model="tooler", max_tokens=100, messages=HI, tools=TOOLS)
    text, call = reply.content
    assert (said(reply), reply.stop_reason, text.type, call.type) == ("I look.\n", "tool_use", "text", "tool_use")
    assert call.type == "tool_use"
    assert (call.name, call.input) == ("f", {"a": 1, "b": "x"})
    result: Any = {"type": "tool_result", "tool_use_id": call.id, "content": "11", "is_error": True}
    again = [*HI, reply.to_param(), {"role": "user", "content": [result]}]
    assert client.messages.create(model="tooler", max_tokens=100, messages=again, tools=TOOLS).content


def test_a_thought_is_a_block_where_it_is_asked_for(client: anthropic.Anthropic) -> None:
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    with client.messages.stream(model="thinker", max_tokens=100, messages=HI, thinking=thinking) as stream:
        final = stream.get_final_message()
    thought, _ = final.content
    assert thought.type == "thinking"
    assert (thought.thinking, said(final)) == ("hm", "Yes.")
    reply = client.messages.create(model="thinker", max_tokens=100, messages=HI)
    assert {block.type for block in reply.content} == {"text"}
    assert said(client.messages.create(model="hello", max_tokens=100, messages=HI, thinking=thinking)) == SAID


@pytest.mark.parametrize("model", ["hello", "random", "tooler"])
def test_counts_are_those_of_the_native_api(server: Server, client: anthropic.Anthropic, model: str) -> None:
    body: dict[str, Any] = {"system": "Be brief.", "messages": [*HI, {"role": "assistant", "content": "ä 🦙"}, *HI]}
    given = {"tools": TOOLS} if model == "tooler" else {}
    functions = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}]
    messages = [{"role": "system", "content": "Be brief."}, *body["messages"]]
    more = {"tools": functions, "think": False} if given else {}
    told = native(server, "/api/chat", model=model, messages=messages, options={"num_predict": 1}, **more)
    counted = client.messages.count_tokens(model=model, **body, **given).input_tokens
    used = client.messages.create(model=model, max_tokens=1, **body, **given).usage
    assert counted == used.input_tokens == told["prompt_eval_count"]


def test_cached_tokens_grow_with_the_conversation(client: anthropic.Anthropic) -> None:
    messages: list[Any] = [{"role": "user", "content": "tell me of llamas and alpacas"}]
    cached = []
    for _ in range(3):
        reply = client.messages.create(model="random", max_tokens=8, messages=messages, extra_body=CACHED)
        whole = client.messages.count_tokens(model="random", messages=messages).input_tokens
        assert reply.usage.input_tokens + (reply.usage.cache_read_input_tokens or 0) == whole
        cached.append(reply.usage.cache_read_input_tokens or 0)
        messages += [{"role": "assistant", "content": "well"}, {"role": "user", "content": "and then?"}]
    assert cached == sorted(set(cached))


def test_images_count_as_the_model_reads_them(server: Server, client: anthropic.Anthropic) -> None:
    data = base64.b64encode(picture()).decode()
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    messages: Any = [{"role": "user", "content": [image, {"type": "text", "text": "what is it?"}]}]
    told = native(
        server,
        "/api/chat",
        model="eyes",
        messages=[{"role": "user", "content": "what is it?", "images": [data]}],
        options={"num_predict": 1},
    )
    counted = client.messages.count_tokens(model="eyes", messages=messages).input_tokens
    reply = client.messages.create(model="eyes", max_tokens=4, messages=messages)
    assert counted == reply.usage.input_tokens == told["prompt_eval_count"]


def test_a_worker_that_dies_ends_the_stream_with_an_error(server: Server, client: anthropic.Anthropic) -> None:
    stream = client.messages.create(model="endless", max_tokens=5000, messages=HI, stream=True)
    assert next(iter(stream)).type == "message_start"
    for child in psutil.Process(server.process.pid).children(recursive=True):
        os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(anthropic.APIStatusError, match="unexpected EOF"):
        list(stream)
    assert said(client.messages.create(model="hello", max_tokens=100, messages=HI)) == SAID
