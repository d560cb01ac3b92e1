"""POST /api/push as clients see it: the lines, the statuses and the words of Ollama."""

import json
from typing import Any

import ollama
import pytest

from tests.contract.conftest import LiveServer, Rig
from tests.support.fake_uploads import FakeUploads, answer


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


async def copied(rig: Rig, name: str) -> list[dict[str, Any]]:
    """Gives `hello` the name; its layers and config."""
    assert (await rig.http.post("/api/copy", json={"source": "hello", "destination": name})).status_code == 200
    path = rig.corral.store.root / "manifests" / name.removeprefix("http://").replace(":v1", "/v1")
    found: dict[str, Any] = json.loads(path.read_text())
    return [*found["layers"], found["config"]]


async def test_push_streams_ollamas_lines(rig: Rig) -> None:
    async with FakeUploads() as registry:
        name = registry.name("me/hello:v1")
        layers = await copied(rig, name)
        answer = await rig.http.post("/api/push", json={"model": name, "insecure": True})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
    first, *pushed, last_but_one, last = lines(answer.text)
    assert (first, last_but_one, last) == (
        {"status": "retrieving manifest"},
        {"status": "pushing manifest"},
        {"status": "success"},
    )
    whole = [line for line in pushed if line["completed"] == line["total"]]
    assert whole == [
        {
            "status": f"pushing {layer['digest'][7:19]}",
            "digest": layer["digest"],
            "total": layer["size"],
            "completed": layer["size"],
        }
        for layer in layers
    ]


@pytest.mark.parametrize("field", ["model", "name"])
async def test_push_without_a_stream_says_success(rig: Rig, field: str) -> None:
    async with FakeUploads() as registry:
        name = registry.name("me/hello:v1")
        await copied(rig, name)
        answer = await rig.http.post("/api/push", json={field: name, "insecure": True, "stream": False})
    assert (answer.status_code, answer.headers["content-type"], answer.json()) == (
        200,
        "application/json",
        {"status": "success"},
    )


async def test_push_of_an_unknown_model_ends_as_ollamas_does(rig: Rig) -> None:
    said = {"error": "model 'nope:latest' not found"}
    streamed = await rig.http.post("/api/push", json={"model": "nope"})
    assert (streamed.status_code, lines(streamed.text)) == (
        200,
        [{"status": "retrieving manifest"}, {"status": "couldn't retrieve manifest"}, said],
    )
    single = await rig.http.post("/api/push", json={"model": "nope", "stream": False})
    assert (single.status_code, single.json()) == (404, said)


async def test_a_push_that_fails_says_so_in_both_forms(rig: Rig) -> None:
    async with FakeUploads() as registry:
        name = registry.name("me/hello:v1")
        await copied(rig, name)
        registry.patch_faults.extend([answer(403)] * 2)
        streamed = await rig.http.post("/api/push", json={"model": name, "insecure": True})
        single = await rig.http.post("/api/push", json={"model": name, "insecure": True, "stream": False})
    assert streamed.status_code == 200
    assert lines(streamed.text)[-1]["error"].endswith(": 403: Forbidden")
    assert (single.status_code, single.json()["error"]) == (500, lines(streamed.text)[-1]["error"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "missing request body"),
        (b"{", "unexpected EOF"),
        (b"{}", "model is required"),
        (b'{"model": ""}', "model is required"),
        (b'{"model": null}', "model is required"),
        (b'{"model": "a b"}', "invalid model name"),
        (b'{"model": "../../etc/passwd"}', "invalid model name"),
        (b'{"model": "x\\u0000y"}', "invalid model name"),
        (b'{"model": "' + b"x" * 10_000 + b'"}', "invalid model name"),
    ],
    ids=["nothing", "cut", "no-model", "empty-model", "null", "bad-name", "climbs", "nul", "10-kB"],
)
async def test_push_refuses(rig: Rig, content: bytes, said: str) -> None:
    answer = await rig.http.post("/api/push", content=content)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json; charset=utf-8")
    assert answer.json() == {"error": said}


def test_the_official_client_pushes(live_server: LiveServer) -> None:
    client = ollama.Client(live_server.url)
    with pytest.raises(ollama.ResponseError, match="model 'nope:latest' not found"):
        list(client.push("nope", stream=True))
