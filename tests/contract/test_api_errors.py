"""What is said to a request that cannot be answered: statuses, types and texts as Ollama's clients know them."""

from typing import Any

import pytest

from corral.core.errors import ModelLoadError
from tests.contract.conftest import Rig

JSON = "application/json; charset=utf-8"
USER = [{"role": "user", "content": "why is the sky blue?"}]
LEVELS = '"high", "medium", "low", "max", true, or false'
GO_NAMES = {
    "/api/chat": "ChatRequest",
    "/api/generate": "GenerateRequest",
    "/api/show": "ShowRequest",
    "/api/create": "CreateRequest",
    "/api/pull": "PullRequest",
    "/api/delete": "DeleteRequest",
}


def method_of(path: str) -> str:
    return "DELETE" if path == "/api/delete" else "POST"


@pytest.mark.parametrize("path", GO_NAMES)
@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param("", "missing request body", id="empty"),
        pytest.param("{", "unexpected EOF", id="truncated"),
        pytest.param("x", "invalid character 'x' looking for beginning of value", id="no JSON"),
        pytest.param("[]", "json: cannot unmarshal array into Go value of type api.{name}", id="array"),
        pytest.param(
            '{"model":3}', "json: cannot unmarshal number into Go struct field {name}.model of type string", id="type"
        ),
    ],
)
async def test_a_body_that_cannot_be_read(rig: Rig, path: str, body: str, text: str) -> None:
    reply = await rig.http.request(method_of(path), path, content=body)
    assert (reply.status_code, reply.headers["content-type"]) == (400, JSON)
    assert reply.json() == {"error": text.format(name=GO_NAMES[path])}


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/api/chat", 400, "model is required"),
        ("/api/generate", 404, "model '' not found"),
        ("/api/show", 400, "model is required"),
        ("/api/delete", 400, "model is required"),
        ("/api/create", 400, "invalid model name"),
        ("/api/pull", 400, "invalid model name"),
    ],
)
@pytest.mark.parametrize("body", [{}, {"model": ""}, {"model": None}], ids=["absent", "empty", "null"])
async def test_no_model_is_named(rig: Rig, path: str, status: int, text: str, body: dict[str, Any]) -> None:
    reply = await rig.http.request(method_of(path), path, json=body)
    assert (reply.status_code, reply.headers["content-type"], reply.json()) == (status, JSON, {"error": text})


@pytest.mark.parametrize(
    ("path", "name", "text"),
    [
        ("/api/chat", "nope", "model 'nope' not found"),
        ("/api/generate", "nope", "model 'nope' not found"),
        ("/api/generate", "nope:1b", "model 'nope:1b' not found"),
        ("/api/show", "nope", "model 'nope:latest' not found"),
        ("/api/show", "nope:1b", "model 'nope:1b' not found"),
        ("/api/delete", "nope", "model 'nope' not found"),
    ],
)
async def test_the_model_is_not_there(rig: Rig, path: str, name: str, text: str) -> None:
    body = {"model": name, "messages": USER, "prompt": "x"}
    reply = await rig.http.request(method_of(path), path, json=body)
    assert (reply.status_code, reply.headers["content-type"], reply.json()) == (404, JSON, {"error": text})


@pytest.mark.parametrize("name", ["a b", "../../etc/passwd", "x:", "a/b/c/d", "-x"])
@pytest.mark.parametrize("path", GO_NAMES)
async def test_the_name_is_malformed(rig: Rig, path: str, name: str) -> None:
    reply = await rig.http.request(
        method_of(path), path, json={"model": name, "messages": USER, "prompt": "x", "from": "hello"}
    )
    text = f'name "{name}" is invalid' if path == "/api/delete" else "invalid model name"
    assert (reply.status_code, reply.headers["content-type"], reply.json()) == (400, JSON, {"error": text})


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"options": {"temperature": "hot"}}, 'option "temperature" must be of type float32'),
        ({"options": {"num_ctx": "big"}}, 'option "num_ctx" must be of type integer'),
        ({"options": {"seed": "x"}}, 'option "seed" must be of type integer'),
        ({"options": {"use_mmap": "yes"}}, 'option "use_mmap" must be of type boolean'),
        ({"options": {"stop": 3}}, 'option "stop" must be of type array'),
        ({"options": {"stop": [3]}}, 'option "stop" must be of an array of strings'),
        ({"format": "yaml"}, r'invalid format: "\"yaml\""; expected "json" or a valid JSON Schema object'),
        ({"format": 3}, 'invalid format: "3"; expected "json" or a valid JSON Schema object'),
        ({"think": "very"}, f'invalid think value: "very" (must be {LEVELS})'),
        ({"think": 3}, f"think must be a boolean or string ({LEVELS})"),
        ({"think": True}, '"hello" does not support thinking'),
        ({"think": "high"}, '"hello" does not support thinking'),
        ({"keep_alive": "abc"}, 'time: invalid duration "abc"'),
        ({"keep_alive": "10 parrots"}, 'time: unknown unit " parrots" in duration "10 parrots"'),
        ({"keep_alive": True}, "Unsupported type: 'bool'"),
        ({"top_logprobs": 21}, "top_logprobs must be between 0 and 20"),
        ({"top_logprobs": -1}, "top_logprobs must be between 0 and 20"),
        ({"top_logprobs": 21, "model": "nope"}, "top_logprobs must be between 0 and 20"),
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
async def test_a_value_is_wrong(rig: Rig, path: str, more: dict[str, Any], text: str, stream: bool) -> None:
    body = {"model": "hello", "messages": USER, "prompt": "x", "stream": stream} | more
    reply = await rig.http.post(path, json=body)
    assert (reply.status_code, reply.headers["content-type"], reply.json()) == (400, JSON, {"error": text})
    assert rig.launcher.specs == [], "no model is loaded for a request that is refused"


@pytest.mark.parametrize(
    ("path", "more", "text"),
    [
        ("/api/chat", {"tools": [{"type": "function"}]}, "registry.ollama.ai/library/hello:latest does not support tools"),
        ("/api/chat", {"messages": [{"role": "user", "images": ["AAAA"]}]}, '"hello" does not support vision'),
        ("/api/chat", {"messages": [{"role": "user", "images": ["%%%"]}]}, "illegal base64 data at input byte 0"),
        ("/api/generate", {"suffix": "y"}, "registry.ollama.ai/library/hello:latest does not support insert"),
        ("/api/generate", {"raw": True, "template": "y"}, "raw mode does not support template, system, or context"),
        ("/api/generate", {"raw": True, "system": "y"}, "raw mode does not support template, system, or context"),
        ("/api/generate", {"raw": True, "context": [1]}, "raw mode does not support template, system, or context"),
    ],
    ids=str,
)
async def test_the_model_cannot_do_that(rig: Rig, path: str, more: dict[str, Any], text: str) -> None:
    reply = await rig.http.post(path, json={"model": "hello", "messages": USER, "prompt": "x"} | more)
    assert (reply.status_code, reply.json()) == (400, {"error": text})


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
async def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers(rig: Rig, path: str) -> None:
    words = "word " * 600
    body = {"model": "hello", "prompt": words, "messages": [{"role": "user", "content": words}], "options": {"num_ctx": 256}}
    reply = await rig.http.post(path, json=body)
    assert reply.status_code == 400
    assert "256" in reply.json()["error"]
    assert "60" in reply.json()["error"]


async def test_a_crash_before_the_answer_is_a_500_and_the_next_request_is_answered(rig: Rig) -> None:
    rig.say("a", "b", crash_after=0)
    body = {"model": "hello", "messages": USER, "stream": False}
    reply = await rig.http.post("/api/chat", json=body)
    assert reply.status_code == 500
    assert reply.json()["error"].startswith("model runner has unexpectedly stopped")
    assert (await rig.http.post("/api/chat", json=body)).status_code == 200


async def test_a_crash_in_mid_answer_is_the_last_line_and_the_next_request_is_answered(rig: Rig) -> None:
    rig.say("a", "b", "c", crash_after=2)
    body = {"model": "hello", "messages": USER}
    reply = await rig.http.post("/api/chat", json=body)
    assert reply.status_code == 200
    last = reply.text.splitlines()[-1]
    assert last == '{"error":"an error was encountered while running the model: unexpected EOF"}'
    assert (await rig.http.post("/api/chat", json=body)).text.splitlines()[-1].count('"done":true') == 1


async def test_a_load_that_fails_is_a_500(rig: Rig) -> None:
    rig.launcher.failure = ModelLoadError("unsupported architecture")
    reply = await rig.http.post("/api/generate", json={"model": "hello", "prompt": "x"})
    assert (reply.status_code, reply.headers["content-type"]) == (500, JSON)
    assert "unsupported architecture" in reply.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/show", 405),
        ("PATCH", "/api/chat", 405),
        ("GET", "/api/generate", 405),
        ("HEAD", "/api/ps", 405),
        ("POST", "/api/tags", 405),
        ("PUT", "/api/blobs/sha256:0", 405),
        ("GET", "/api/nope", 404),
        ("GET", "/api/tags/", 404),
        ("GET", "/nope", 404),
    ],
)
async def test_paths_and_methods_that_are_not_served(rig: Rig, method: str, path: str, status: int) -> None:
    reply = await rig.http.request(method, path)
    text = "" if method == "HEAD" else "404 page not found" if status == 404 else "405 method not allowed"
    assert (reply.status_code, reply.headers["content-type"], reply.text) == (status, "text/plain", text)


@pytest.mark.parametrize("path", ["/api/push", "/api/embed", "/api/embeddings"])
async def test_endpoints_to_come_say_so(rig: Rig, path: str) -> None:
    assert (await rig.http.post(path)).json() == {"error": "missing request body"}
    reply = await rig.http.post(path, json={"model": "hello"})
    assert (reply.status_code, reply.headers["content-type"]) == (501, JSON)
    assert path in reply.json()["error"]


async def test_foreign_pages_and_names_are_turned_away_before_the_body_is_read(rig: Rig) -> None:
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        reply = await rig.http.post("/api/chat", content=b"{", headers=headers)
        assert (reply.status_code, reply.content) == (403, b"")
        assert "content-type" not in reply.headers
    reply = await rig.http.get("/api/version", headers={"Origin": "http://localhost:3000"})
    assert reply.headers["access-control-allow-origin"] == "http://localhost:3000"


@pytest.mark.parametrize(
    ("body", "status", "complaint"),
    [
        ({}, 400, 'source "" is invalid'),
        ({"source": "a b", "destination": "x"}, 400, 'source "a b" is invalid'),
        ({"source": "hello", "destination": "a b"}, 400, 'destination "a b" is invalid'),
        ({"source": "nope", "destination": "x"}, 404, 'model "nope" not found'),
    ],
    ids=["nothing", "source", "destination", "missing"],
)
async def test_copy_refuses(rig: Rig, body: dict[str, str], status: int, complaint: str) -> None:
    reply = await rig.http.post("/api/copy", json=body)
    assert (reply.status_code, reply.json()) == (status, {"error": complaint})
