"""What Anthropic's API says to a request that cannot be answered: statuses, types and texts."""

import asyncio
from typing import Any

import httpx
import pytest

from corral.core.errors import QueueFullError
from tests.contract.conftest import Rig

JSON = "application/json; charset=utf-8"
PLAIN_JSON = "application/json"
MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
GO_NAMES = {MESSAGES: "MessagesRequest", COUNT: "CountTokensRequest"}
HI = [{"role": "user", "content": "hi"}]


def said(reply: httpx.Response) -> tuple[str, str]:
    """Type and text of an error, whose shape must be right."""
    body = reply.json()
    assert list(body) == ["type", "error", "request_id"]
    assert body["type"] == "error"
    assert body["request_id"] == reply.headers["request-id"] == f"req_{reply.headers['x-request-id']}"
    return body["error"]["type"], body["error"]["message"]


@pytest.mark.parametrize("path", GO_NAMES)
@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param("", "EOF", id="empty"),
        pytest.param("{", "unexpected EOF", id="truncated"),
        pytest.param("x", "invalid character 'x' looking for beginning of value", id="no JSON"),
        pytest.param("[]", "json: cannot unmarshal array into Go value of type anthropic.{name}", id="array"),
        pytest.param(
            '{"model":3}', "json: cannot unmarshal number into Go struct field {name}.model of type string", id="type"
        ),
        pytest.param("null", "model is required", id="null"),
        pytest.param("{}", "model is required", id="nothing"),
        pytest.param('{"model":"hello","max_tokens":5}', "messages is required", id="no messages"),
    ],
)
async def test_a_body_that_cannot_be_read(rig: Rig, path: str, body: str, text: str) -> None:
    reply = await rig.http.post(path, content=body)
    assert (reply.status_code, reply.headers["content-type"]) == (400, JSON)
    assert said(reply) == ("invalid_request_error", text.format(name=GO_NAMES[path]))


@pytest.mark.parametrize("path", GO_NAMES)
@pytest.mark.parametrize(
    ("name", "status", "text"),
    [("nope", 404, "model 'nope' not found"), ("a b", 400, "invalid model name"), ("../../x", 400, "invalid model name")],
)
async def test_the_model_is_not_there(rig: Rig, path: str, name: str, status: int, text: str) -> None:
    reply = await rig.http.post(path, json={"model": name, "max_tokens": 5, "messages": HI})
    assert (reply.status_code, reply.headers["content-type"]) == (status, PLAIN_JSON)
    assert said(reply) == ("not_found_error" if status == 404 else "invalid_request_error", text)


@pytest.mark.parametrize("path", GO_NAMES)
@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            {"tools": [{"name": "f", "input_schema": {}}]},
            "registry.ollama.ai/library/hello:latest does not support tools",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}],
                    }
                ]
            },
            '"hello" does not support vision',
        ),
        (
            {"tool_choice": {"type": "any"}},
            "tool_choice asks for a call, and there are no tools; send tools or leave tool_choice out",
        ),
        ({"container": "c"}, "container is not supported: no code is run here; leave it out"),
        (
            {"output_config": {"effort": 3}},
            "json: cannot unmarshal number into Go struct field {name}.output_config.effort of type string",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_cannot_be_had(rig: Rig, path: str, body: dict[str, Any], text: str) -> None:
    reply = await rig.http.post(path, json={"model": "hello", "max_tokens": 5, "messages": HI} | body)
    assert reply.status_code == 400
    assert said(reply) == ("invalid_request_error", text.format(name=GO_NAMES[path]))


async def test_thinking_that_the_model_cannot_do_is_left_out(rig: Rig) -> None:
    body = {"model": "hello", "max_tokens": 50, "messages": HI, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    reply = await rig.http.post(MESSAGES, json=body)
    assert reply.json()["content"] == [{"type": "text", "text": "Hello, world"}]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_prompt_that_is_too_long_has_both_numbers(rig: Rig, stream: bool) -> None:
    made = await rig.http.post("/api/create", json={"model": "small", "from": "hello", "parameters": {"num_ctx": 256}})
    assert made.status_code == 200
    body = {"model": "small", "max_tokens": 5, "messages": [{"role": "user", "content": "w " * 300}], "stream": stream}
    reply = await rig.http.post(MESSAGES, json=body)
    kind, text = said(reply)
    assert (reply.status_code, kind) == (400, "invalid_request_error")
    assert "(303 tokens) exceeds the available context size (256 tokens)" in text


async def test_a_server_that_is_busy_says_when_to_try_again(rig: Rig) -> None:
    rig.say(failure=QueueFullError())
    reply = await rig.http.post(MESSAGES, json={"model": "hello", "max_tokens": 5, "messages": HI, "stream": True})
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert said(reply)[0] == "overloaded_error"


async def test_a_body_that_is_too_large(rig: Rig) -> None:
    reply = await rig.http.post(MESSAGES, content=b"{", headers={"Content-Length": str(1 << 40)})
    assert reply.status_code == 413
    assert said(reply)[0] == "request_too_large"


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("PATCH", MESSAGES, 405, "405 method not allowed"),
        ("GET", COUNT, 405, "405 method not allowed"),
        ("POST", f"{MESSAGES}/nope", 404, "404 page not found"),
        ("POST", f"{MESSAGES}/batches", 404, "404 page not found"),
    ],
)
async def test_paths_and_methods_that_are_not_served(rig: Rig, method: str, path: str, status: int, text: str) -> None:
    """Alike in every dialect, as Ollama has it."""
    reply = await rig.http.request(method, path)
    assert (reply.status_code, reply.headers["content-type"], reply.text) == (status, "text/plain", text)


async def test_pages_may_ask_with_the_headers_of_anthropics_package(rig: Rig) -> None:
    wanted = ("x-api-key", "anthropic-version", "anthropic-beta", "anthropic-dangerous-direct-browser-access")
    asked = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    reply = await rig.http.options(MESSAGES, headers=asked)
    assert reply.status_code == 204
    assert set(wanted) <= set(reply.headers["access-control-allow-headers"].split(","))


async def test_a_beta_and_a_key_are_taken(rig: Rig) -> None:
    headers = {"x-api-key": "x", "anthropic-version": "2023-06-01", "anthropic-beta": "x-2025-01-01"}
    body = {"model": "hello", "max_tokens": 50, "messages": HI}
    for path in (f"{MESSAGES}?beta=true", f"{COUNT}?beta=true"):
        reply = await rig.http.post(path, json=body, headers=headers)
        assert (reply.status_code, reply.headers["request-id"][:4]) == (200, "req_")


async def test_many_at_once_have_names_of_their_own(rig: Rig) -> None:
    async with asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(rig.http.post(MESSAGES, content=b""), name=f"ask-{number}") for number in range(4)]
    assert len({call.result().json()["request_id"] for call in calls}) == 4


async def test_the_document_has_the_events(rig: Rig) -> None:
    document = (await rig.http.get("/openapi.json")).json()
    shapes = document["paths"][MESSAGES]["post"]["responses"]["200"]["content"]
    assert shapes["application/json"] == {"schema": {"$ref": "#/components/schemas/MessagesResponse"}}
    names = [kind["$ref"].rsplit("/", 1)[1] for kind in shapes["text/event-stream"]["schema"]["oneOf"]]
    types = [document["components"]["schemas"][name]["properties"]["type"]["enum"] for name in names]
    assert types == [
        ["message_start"],
        ["content_block_start"],
        ["content_block_delta"],
        ["content_block_stop"],
        ["message_delta"],
        ["message_stop"],
        ["ping"],
        ["error"],
    ]
    failure = document["paths"][MESSAGES]["post"]["responses"]["default"]["content"]["application/json"]["schema"]
    assert failure == {"$ref": "#/components/schemas/AnthropicError"}
