"""OpenAI's own packages against a server with real workers: chat, tools, thoughts, responses, completions, embeddings, what
answers are held to, failures.
"""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
from pydantic import BaseModel

from tests.support.callers import CALLER_TEMPLATE, SAYS_CALL, SAYS_THOUGHT, TOOL
from tests.support.gguf_files import write_random
from tests.support.node import run_node
from tests.support.process import Server, serving

SAID = "Hello, I am a scripted model."
HI: Any = [{"role": "user", "content": "hi"}]
TOOLS: Any = [TOOL]
FUNCTIONS: Any = [{"type": "function", "strict": None, **TOOL["function"]}]


class Person(BaseModel):
    name: str
    age: int


class Arguments(BaseModel):
    city: str


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`hello` says a sentence, `tooler` calls a tool, `thinker` thinks first, `endless` counts for some
    seconds, and what `random` says depends on all that was said.
    """
    folder = tmp_path_factory.mktemp("scripted")
    with serving(tmp_path_factory.mktemp("home")) as made:
        made.add_scripted("hello", SAID, folder)
        made.add_scripted("endless", " ".join(map(str, range(2000))), folder)
        made.add(write_random(folder / "random.gguf"), "random")
        for name, say in {"tooler": "".join(SAYS_CALL), "thinker": "".join(SAYS_THOUGHT)}.items():
            made.add_scripted(f"bare-{name}", say, folder)
            body = {"model": name, "from": f"bare-{name}", "template": CALLER_TEMPLATE, "stream": False}
            assert made.call("POST", "/api/create", body)[0] == 200
        yield made


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="ollama", max_retries=0) as made:
        yield made


def test_several_answers_to_one_prompt_share_what_was_read_of_it(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="hello", messages=HI, n=3, stream=True, temperature=0, stream_options={"include_usage": True}
        )
    )
    choices = [choice for chunk in chunks for choice in chunk.choices]
    for index in range(3):
        assert "".join(choice.delta.content or "" for choice in choices if choice.index == index) == SAID
    whole = client.chat.completions.create(model="hello", messages=HI, n=3, temperature=0)
    assert chunks[-1].usage
    assert whole.usage
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    assert whole.usage.prompt_tokens_details
    assert (whole.usage.prompt_tokens_details.cached_tokens or 0) > 0


def test_logprobs_are_those_of_the_answers_tokens(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="hello", messages=HI, logprobs=True, top_logprobs=2)
    logprobs = reply.choices[0].logprobs
    assert logprobs
    assert logprobs.content
    assert "".join(token.token for token in logprobs.content).startswith(SAID)
    assert all(len(token.top_logprobs) == 2 for token in logprobs.content)


def test_a_call_and_its_result(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="tooler", messages=HI, tools=TOOLS)
    message = reply.choices[0].message
    assert (reply.choices[0].finish_reason, message.content) == ("tool_calls", "I look.\n")
    assert message.tool_calls
    (call,) = message.tool_calls
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("f", '{"a":1,"b":"x"}')
    result = {"role": "tool", "tool_call_id": call.id, "content": "11"}
    again: Any = [*HI, message.to_dict(), result]
    assert client.chat.completions.create(model="tooler", messages=again).choices[0].message.content


def test_a_thought_is_told_apart_and_counted(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="thinker", messages=HI)
    message: Any = reply.choices[0].message
    assert (message.content, message.reasoning, message.reasoning_content) == ("Yes.", "hm", "hm")


def test_calls_stream_as_they_are_written(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model="tooler", messages=HI, tools=TOOLS, stream=True)
    deltas = [call for chunk in stream for choice in chunk.choices for call in choice.delta.tool_calls or ()]
    assert [bool(delta.id) for delta in deltas] == [True, *[False] * (len(deltas) - 1)]
    assert "".join(delta.function.arguments or "" for delta in deltas if delta.function) == '{"a":1,"b":"x"}'


def test_responses_over_several_turns(client: openai.OpenAI) -> None:
    with client.responses.stream(model="tooler", input="hi", tools=FUNCTIONS) as stream:
        events = list(stream)
        first = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [item.type for item in first.output] == ["message", "function_call"]
    call = first.output[-1]
    assert call.type == "function_call"
    assert (first.output_text, call.name, call.arguments) == ("I look.\n", "f", '{"a":1,"b":"x"}')
    result: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "11"}]
    second = client.responses.create(model="tooler", previous_response_id=first.id, input=result)
    assert second.output_text
    assert second.usage
    assert second.usage.input_tokens_details.cached_tokens > 0
    assert client.responses.retrieve(second.id) == second


def test_a_response_that_is_cut_says_so(client: openai.OpenAI) -> None:
    *_, last = client.responses.create(model="endless", input="hi", max_output_tokens=5, stream=True)
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details
    assert last.response.incomplete_details.reason == "max_output_tokens"
    assert last.response.usage
    assert last.response.usage.output_tokens == 5


def test_a_response_thinks_first(client: openai.OpenAI) -> None:
    reply = client.responses.create(model="thinker", input="hi")
    assert [item.type for item in reply.output] == ["reasoning", "message"]
    assert reply.output_text == "Yes."
    assert reply.usage
    assert reply.usage.output_tokens_details.reasoning_tokens > 0


def test_a_prompt_of_tokens_is_the_prompt_of_their_text(server: Server, client: openai.OpenAI) -> None:
    _, body = server.call("POST", "/api/tokenize", {"model": "hello", "content": "one two three", "add_special": True})
    tokens = json.loads(body)["tokens"]
    by_tokens = client.completions.create(model="hello", prompt=tokens, temperature=0, echo=True)
    by_text = client.completions.create(
        model="hello", prompt="one two three", temperature=0, echo=True, extra_body={"raw": True}
    )
    assert by_tokens.choices[0].text == by_text.choices[0].text == "one two three" + SAID
    assert by_tokens.usage
    assert by_text.usage
    assert by_tokens.usage.prompt_tokens == by_text.usage.prompt_tokens == len(tokens)
    with pytest.raises(openai.BadRequestError, match="token 999999"):
        client.completions.create(model="hello", prompt=[999_999])


def test_texts_and_tokens_are_embedded_alike(server: Server, client: openai.OpenAI) -> None:
    _, body = server.call("POST", "/api/tokenize", {"model": "random", "content": "one two"})
    tokens = json.loads(body)["tokens"]
    texts = client.embeddings.create(model="random", input=["one two", "three"], encoding_format="float")
    packed = client.embeddings.create(model="random", input=[tokens, tokens], encoding_format="base64")
    assert len(texts.data) == 2
    assert texts.data[0].embedding != texts.data[1].embedding
    plain = client.embeddings.create(model="random", input=tokens, encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(texts.data[0].embedding, abs=1e-6)
    assert len(packed.data) == 2


def test_a_worker_that_dies_ends_the_stream_with_an_error(server: Server, client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model="endless", messages=HI, stream=True)
    next(iter(stream))
    for child in psutil.Process(server.process.pid).children(recursive=True):
        os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(openai.APIError, match="unexpected EOF"):
        list(stream)
    assert client.chat.completions.create(model="hello", messages=HI).choices[0].message.content == SAID


def test_a_worker_that_dies_fails_the_response(server: Server, client: openai.OpenAI) -> None:
    stream = client.responses.create(model="endless", input="hi", stream=True)
    while next(iter(stream)).type != "response.output_text.delta":
        pass
    for child in psutil.Process(server.process.pid).children(recursive=True):
        os.kill(child.pid, signal.SIGKILL)
    *_, last = stream
    assert last.type == "response.failed"
    assert last.response.error
    assert "unexpected EOF" in last.response.error.message
    assert client.responses.create(model="hello", input="hi").output_text == SAID


def test_node(server: Server) -> None:
    """OpenAI's package for Node.js: chat and responses, whole and streamed."""
    program = """
    import OpenAI from "openai";
    const client = new OpenAI({ baseURL: "%s/v1", apiKey: "ollama", maxRetries: 0 });
    const messages = [{ role: "user", content: "hi" }];
    const out = {};
    out.chat = (await client.chat.completions.create({ model: "hello", messages })).choices[0].message.content;
    out.streamed = "";
    for await (const chunk of await client.chat.completions.create({ model: "hello", messages, stream: true }))
        out.streamed += chunk.choices[0].delta.content ?? "";
    out.response = (await client.responses.create({ model: "hello", input: "hi" })).output_text;
    out.final = (await client.responses.stream({ model: "hello", input: "hi" }).finalResponse()).output_text;
    console.log(JSON.stringify(out));
    """
    assert set(json.loads(run_node(program % server.url, "openai@6")).values()) == {SAID}


# What answers are held to, with a model that would say something else


@pytest.fixture(scope="module")
def talker(server: Server, smollm2: Path) -> str:
    """SmolLM2, with a template that has tools."""
    server.add(smollm2, "smollm2")
    body = {"model": "talker", "from": "smollm2", "template": CALLER_TEMPLATE, "parameters": {"num_ctx": 1024}, "stream": False}
    assert server.call("POST", "/api/create", body)[0] == 200
    return "talker"


def test_structured_output_is_parsed(client: openai.OpenAI, talker: str) -> None:
    asks: Any = [{"role": "user", "content": "Who was the first man on the moon, and how old was he?"}]
    reply = client.chat.completions.parse(
        model=talker, messages=asks, response_format=Person, temperature=0, max_completion_tokens=100
    )
    assert isinstance(reply.choices[0].message.parsed, Person)
    response = client.responses.parse(model=talker, input=asks, text_format=Person, temperature=0, max_output_tokens=100)
    assert response.output_parsed == reply.choices[0].message.parsed
    with client.responses.stream(model=talker, input=asks, text_format=Person, temperature=0) as stream:
        assert stream.get_final_response().output_parsed == response.output_parsed


def test_a_call_that_is_required_is_made(client: openai.OpenAI, talker: str) -> None:
    """Over two turns, in both forms; the arguments meet the function's own model."""
    asks: Any = [{"role": "user", "content": "What is the weather in Paris?"}]
    tool: Any = openai.pydantic_function_tool(Arguments, name="weather")
    reply = client.chat.completions.parse(
        model=talker, messages=asks, tools=[tool], tool_choice="required", temperature=0, max_completion_tokens=100
    )
    message = reply.choices[0].message
    assert message.tool_calls
    called = message.tool_calls[0]
    assert isinstance(called.function.parsed_arguments, Arguments)
    history = [*asks, message.to_dict(), {"role": "tool", "tool_call_id": called.id, "content": "11 degrees"}]
    assert client.chat.completions.create(model=talker, messages=history, max_completion_tokens=20).choices[0].message.content
    function: Any = {"type": "function", **tool["function"]}
    response = client.responses.create(
        model=talker, input=asks, tools=[function], tool_choice={"type": "function", "name": "weather"}, temperature=0
    )
    call = response.output[0]
    assert call.type == "function_call"
    Arguments.model_validate_json(call.arguments)
    result: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "11 degrees"}]
    second = client.responses.create(
        model=talker, previous_response_id=response.id, input=result, tools=[function], tool_choice="none", max_output_tokens=20
    )
    assert second.output_text
