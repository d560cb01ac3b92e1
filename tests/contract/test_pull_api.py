"""POST /api/pull as clients see it: the lines, the statuses and the words of Ollama."""

import json
import socket
from typing import Any

import pytest

from tests.contract.conftest import Rig
from tests.support.fake_registry import FakeRegistry, digest_of

WEIGHTS = b"GGUF" + bytes(1000)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


async def test_pull_streams_ollamas_lines(empty: Rig) -> None:
    async with FakeRegistry() as registry:
        registry.add(WEIGHTS)
        answer = await empty.http.post("/api/pull", json={"model": registry.name(), "insecure": True})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")

    def layer(data: bytes) -> dict[str, Any]:
        digest = digest_of(data)
        return {"status": f"pulling {digest[7:19]}", "digest": digest, "total": len(data), "completed": len(data)}

    assert lines(answer.text) == [
        {"status": "pulling manifest"},
        layer(WEIGHTS),
        layer(b"{}\n"),
        {"status": "verifying sha256 digest"},
        {"status": "writing manifest"},
        {"status": "success"},
    ]


@pytest.mark.parametrize("field", ["model", "name"])
async def test_pull_without_a_stream_says_success(empty: Rig, field: str) -> None:
    async with FakeRegistry() as registry:
        registry.add(WEIGHTS)
        answer = await empty.http.post("/api/pull", json={field: registry.name(), "insecure": True, "stream": False})
    assert (answer.status_code, answer.json()) == (200, {"status": "success"})


@pytest.mark.parametrize("insecure", [True, False], ids=["http", "https"])
async def test_pull_from_nobody_is_ollamas_error(empty: Rig, closed_port: int, insecure: bool) -> None:
    where = f"127.0.0.1:{closed_port}"
    asked = {"model": f"http://{where}/library/x", "insecure": insecure}
    url = f"{'http' if insecure else 'https'}://{where}/v2/library/x/manifests/latest"
    error = f'pull model manifest: Get "{url}": dial tcp {where}: connect: connection refused'

    streamed = await empty.http.post("/api/pull", json=asked)
    assert (streamed.status_code, lines(streamed.text)) == (200, [{"status": "pulling manifest"}, {"error": error}])
    single = await empty.http.post("/api/pull", json={**asked, "stream": False})
    assert (single.status_code, single.json()) == (500, {"error": error})


async def test_pull_of_an_unknown_model_is_ollamas_error(empty: Rig) -> None:
    async with FakeRegistry() as registry:
        answer = await empty.http.post("/api/pull", json={"model": registry.name(), "insecure": True})
    assert lines(answer.text)[-1] == {"error": "pull model manifest: file does not exist"}


@pytest.mark.parametrize("body", [{"model": "a b"}, {}], ids=["bad-name", "no-name"])
async def test_pull_without_a_valid_name_is_refused(empty: Rig, body: dict[str, str]) -> None:
    answer = await empty.http.post("/api/pull", json=body)
    assert (answer.status_code, answer.json()) == (400, {"error": "invalid model name"})
