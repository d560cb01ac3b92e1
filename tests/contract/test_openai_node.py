"""OpenAI's own package for Node.js as a client, over a real socket: chat, calls and responses, whole and streamed."""

import json
from typing import Any, Final

import httpx
import pytest

from corral.engine.fake import Script
from tests.contract.conftest import LiveServer
from tests.support.callers import CALLER_TEMPLATE, SAYS_CALL, SAYS_THOUGHT
from tests.support.node import run_node

SAID: Final = "Hello, world"
PACKAGE: Final = "openai@6"
HEAD: Final = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: "%s/v1", apiKey: "ollama", maxRetries: 0 });
const messages = [{ role: "user", content: "hi" }];
const parameters = { type: "object", properties: { a: { type: "integer" } } };
const out = {};
"""
TAIL: Final = """
console.log(JSON.stringify(out));
"""


@pytest.fixture
def tooler(live_server: LiveServer) -> LiveServer:
    """The server with a second model, `tooler`, that thinks and calls tools."""
    body = {"model": "tooler", "from": "hello", "template": CALLER_TEMPLATE, "stream": False}
    httpx.post(f"{live_server.url}/api/create", json=body).raise_for_status()
    return live_server


def ran(server: LiveServer, program: str) -> Any:
    return json.loads(run_node(HEAD % server.url + program + TAIL, PACKAGE))


def test_chat(live_server: LiveServer) -> None:
    program = """
    const reply = await client.chat.completions.create({ model: "hello", messages, temperature: 0 });
    out.said = reply.choices[0].message.content;
    out.usage = reply.usage;
    const chunks = [];
    const stream = await client.chat.completions.create({
        model: "hello", messages, stream: true, stream_options: { include_usage: true },
    });
    for await (const chunk of stream) chunks.push(chunk);
    out.streamed = chunks.map((chunk) => chunk.choices[0]?.delta?.content ?? "").join("");
    out.reason = chunks.at(-2).choices[0].finish_reason;
    out.counted = chunks.at(-1).usage;
    out.models = (await client.models.list()).data.map((model) => model.id);
    out.embedded = (await client.embeddings.create({ model: "hello", input: ["a", "b"] })).data.length;
    try {
        await client.chat.completions.create({ model: "nope", messages });
    } catch (error) {
        out.error = [error instanceof OpenAI.NotFoundError, error.status, error.type];
    }
    """
    got = ran(live_server, program)
    assert (got["said"], got["streamed"], got["reason"]) == (SAID, SAID, "stop")
    assert got["usage"] == got["counted"]
    assert (got["models"], got["embedded"]) == (["hello:latest"], 2)
    assert got["error"] == [True, 404, "not_found_error"]


def test_calls_streamed(tooler: LiveServer) -> None:
    tooler.launcher.scripts.append(Script(SAYS_CALL))
    program = """
    const tools = [{ type: "function", function: { name: "f", parameters } }];
    const runner = client.chat.completions.stream({ model: "tooler", messages, tools });
    out.deltas = [];
    runner.on("tool_calls.function.arguments.delta", (delta) => out.deltas.push(delta.arguments_delta));
    const final = await runner.finalChatCompletion();
    out.calls = final.choices[0].message.tool_calls.map((call) => [call.function.name, call.function.arguments]);
    out.reason = final.choices[0].finish_reason;
    """
    got = ran(tooler, program)
    assert got["calls"] == [["f", '{"a":1,"b":"x"}']]
    assert got["reason"] == "tool_calls"
    assert "".join(got["deltas"]) == '{"a":1,"b":"x"}'


def test_responses(tooler: LiveServer) -> None:
    tooler.launcher.scripts.extend([Script(SAYS_THOUGHT), Script(SAYS_CALL)])
    program = """
    const reply = await client.responses.create({ model: "tooler", input: "hi" });
    out.kinds = reply.output.map((item) => item.type);
    out.said = reply.output_text;
    const tools = [{ type: "function", name: "f", parameters, strict: false }];
    const stream = client.responses.stream({ model: "tooler", input: "hi", tools });
    out.numbers = [];
    stream.on("event", (event) => out.numbers.push(event.sequence_number));
    const final = await stream.finalResponse();
    out.calls = final.output.filter((item) => item.type === "function_call").map((item) => [item.name, item.arguments]);
    const next = await client.responses.create({
        model: "tooler",
        previous_response_id: final.id,
        input: [{ type: "function_call_output", call_id: final.output.at(-1).call_id, output: "11" }],
    });
    out.next = next.output_text;
    out.kept = (await client.responses.retrieve(next.id)).output_text;
    """
    got = ran(tooler, program)
    assert (got["kinds"], got["said"]) == (["reasoning", "message"], "Yes.")
    assert got["numbers"] == list(range(len(got["numbers"])))
    assert got["calls"] == [["f", '{"a":1,"b":"x"}']]
    assert got["next"] == got["kept"] == SAID
