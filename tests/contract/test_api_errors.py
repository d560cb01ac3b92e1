"""What is said to a request that cannot be answered: statuses, types and texts as Ollama's clients know them.

What chat and generate alone refuse is in test_api_refusals.
"""

from typing import Any

import pytest

from tests.contract.conftest import Rig

JSON = "application/json; charset=utf-8"
USER = [{"role": "user", "content": "why is the sky blue?"}]
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
