"""What OpenAI's API says to a request that cannot be answered: statuses, types and shapes, and the fields that are named."""

from typing import Any

import pytest

from corral.core.errors import QueueFullError
from tests.contract.conftest import Rig

JSON = "application/json; charset=utf-8"
PLAIN_JSON = "application/json"
HI = [{"role": "user", "content": "hi"}]
CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
GO_NAMES = {CHAT: "ChatCompletionRequest", COMPLETIONS: "CompletionRequest", EMBEDDINGS: "EmbeddingsRequest"}


def said(
    message: str, kind: str = "invalid_request_error", param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


@pytest.mark.parametrize("path", GO_NAMES)
@pytest.mark.parametrize(
    ("body", "text", "param"),
    [
        pytest.param("", "EOF", None, id="empty"),
        pytest.param("{", "unexpected EOF", None, id="truncated"),
        pytest.param("[]", "json: cannot unmarshal array into Go value of type openai.{name}", None, id="array"),
        pytest.param(
            '{"model":3}', "json: cannot unmarshal number into Go struct field {name}.model of type string", "model", id="type"
        ),
    ],
)
async def test_a_body_that_cannot_be_read(rig: Rig, path: str, body: str, text: str, param: str | None) -> None:
    reply = await rig.http.post(path, content=body)
    assert (reply.status_code, reply.headers["content-type"]) == (400, JSON)
    code = "invalid_value" if param else None
    assert reply.json() == said(text.format(name=GO_NAMES[path]), param=param, code=code)


@pytest.mark.parametrize(
    ("path", "status", "type", "text"),
    [
        (CHAT, 400, JSON, "[] is too short - 'messages'"),
        (COMPLETIONS, 404, PLAIN_JSON, "model '' not found"),
        (EMBEDDINGS, 400, JSON, "invalid input"),
    ],
)
async def test_nothing_is_said(rig: Rig, path: str, status: int, type: str, text: str) -> None:  # noqa: A002  as in a header
    reply = await rig.http.post(path, json={})
    assert (reply.status_code, reply.headers["content-type"]) == (status, type)
    assert reply.json() == said(text, "not_found_error" if status == 404 else "invalid_request_error")


@pytest.mark.parametrize(
    ("path", "name", "status", "text"),
    [
        (CHAT, "nope", 404, "model 'nope' not found"),
        (CHAT, "", 400, "model is required"),
        (CHAT, "a b", 400, "invalid model name"),
        (COMPLETIONS, "nope", 404, "model 'nope' not found"),
        (COMPLETIONS, "../../etc/passwd", 400, "invalid model name"),
        (EMBEDDINGS, "nope", 404, 'model "nope" not found, try pulling it first'),
    ],
)
async def test_the_model_is_not_there(rig: Rig, path: str, name: str, status: int, text: str) -> None:
    reply = await rig.http.post(path, json={"model": name, "messages": HI, "prompt": "x", "input": "x"})
    assert (reply.status_code, reply.headers["content-type"]) == (status, PLAIN_JSON)
    assert reply.json() == said(text, "not_found_error" if status == 404 else "invalid_request_error")


async def test_a_model_whose_name_is_none(rig: Rig) -> None:
    for name in ("a%20b", "..%2f..%2fetc%2fpasswd", "a/b/c/d/e"):
        reply = await rig.http.get(f"/v1/models/{name}")
        assert (reply.status_code, reply.json()["error"]["type"]) == (400, "invalid_request_error"), name


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs must be between 0 and 20"),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            "registry.ollama.ai/library/hello:latest does not support tools",
        ),
        ({"reasoning_effort": "high"}, '"hello" does not support thinking'),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "data:;base64,iVBO"}]}]},
            '"hello" does not support vision',
        ),
        ({"options": {"num_keep": "x"}}, 'option "num_keep" must be of type integer'),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_the_model_cannot_do(rig: Rig, body: dict[str, Any], text: str) -> None:
    reply = await rig.http.post(CHAT, json={"model": "hello", "messages": HI} | body)
    assert (reply.status_code, reply.headers["content-type"]) == (400, PLAIN_JSON)
    assert reply.json() == said(text)


async def test_a_field_that_is_wrong_is_named(rig: Rig) -> None:
    reply = await rig.http.post(CHAT, json={"model": "hello", "messages": HI, "n": 1000})
    assert reply.json() == said("n is 1000; it must be between 1 and 128", param="n", code="invalid_value")
    reply = await rig.http.post(CHAT, json={"model": "hello", "messages": HI, "functions": [{"name": "f"}]})
    text = "functions is not supported: it is an old form; send tools"
    assert reply.json() == said(text, param="functions", code="unsupported_parameter")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_prompt_that_is_too_long_has_a_code_and_both_numbers(rig: Rig, stream: bool) -> None:
    body = {"model": "hello", "messages": [{"role": "user", "content": "w " * 300}], "num_ctx": 256, "stream": stream}
    reply = await rig.http.post(CHAT, json=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert "(303 tokens) exceeds the available context size (256 tokens)" in reply.json()["error"]["message"]
    reply = await rig.http.post(COMPLETIONS, json={"model": "hello", "prompt": [1] * 300, "num_ctx": 256, "stream": stream})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "context_length_exceeded")


async def test_a_server_that_is_busy_says_when_to_try_again(rig: Rig) -> None:
    rig.say(failure=QueueFullError())
    reply = await rig.http.post(CHAT, json={"model": "hello", "messages": HI, "stream": True})
    text = "server busy, please try again.  maximum pending requests exceeded"
    assert (reply.status_code, reply.headers["retry-after"], reply.json()) == (503, "1", said(text, "api_error"))


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("PATCH", CHAT, 405, "405 method not allowed"),
        ("GET", EMBEDDINGS, 405, "405 method not allowed"),
        ("POST", "/v1/models", 405, "405 method not allowed"),
        ("GET", "/v1/nope", 404, "404 page not found"),
        ("POST", "/v1/chat/completions/", 404, "404 page not found"),
    ],
)
async def test_paths_and_methods_that_are_not_served(rig: Rig, method: str, path: str, status: int, text: str) -> None:
    """Alike in every dialect, as Ollama has it."""
    reply = await rig.http.request(method, path)
    assert (reply.status_code, reply.headers["content-type"], reply.text) == (status, "text/plain", text)


async def test_pages_of_elsewhere_are_turned_away_and_known_ones_may_send_keys(rig: Rig) -> None:
    reply = await rig.http.post(CHAT, content=b"{", headers={"Origin": "http://evil.example"})
    assert (reply.status_code, reply.content) == (403, b"")
    reply = await rig.http.options(CHAT, headers={"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"})
    allowed = reply.headers["access-control-allow-headers"]
    assert reply.status_code == 204
    assert all(name in allowed for name in ("Authorization", "x-api-key", "anthropic-version", "x-stainless-retry-count"))


async def test_a_key_is_taken_and_not_looked_at(rig: Rig) -> None:
    reply = await rig.http.get("/v1/models", headers={"Authorization": "Bearer ollama"})
    assert reply.status_code == 200


async def test_the_document_covers_both_dialects(rig: Rig) -> None:
    document = (await rig.http.get("/openapi.json")).json()
    chat = document["paths"][CHAT]["post"]
    assert chat["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/ChatCompletionRequest"
    }
    shapes = chat["responses"]["200"]["content"]
    assert shapes == {
        "text/event-stream": {"schema": {"$ref": "#/components/schemas/ChatCompletionChunk"}},
        "application/json": {"schema": {"$ref": "#/components/schemas/ChatCompletion"}},
    }
    failure = chat["responses"]["default"]["content"]["application/json"]["schema"]
    assert failure == {"$ref": "#/components/schemas/OpenAIError"}
    (parameter,) = document["paths"]["/v1/models/{model}"]["get"]["parameters"]
    assert parameter["name"] == "model"
    ids = [op["operationId"] for path in document["paths"].values() for op in path.values()]
    assert len(ids) == len(set(ids))
