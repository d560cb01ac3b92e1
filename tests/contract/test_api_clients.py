"""Ollama's own Python package as a client, over a real socket: everything it can ask of these endpoints, sync and async."""

from collections.abc import AsyncIterator, Iterator

import httpx
import ollama
import pytest

from corral.engine.fake import Script
from tests.contract.conftest import LiveServer

HI = [{"role": "user", "content": "hi"}]
SAID = "Hello, world"


@pytest.fixture
def client(live_server: LiveServer) -> Iterator[ollama.Client]:
    with ollama.Client(host=live_server.url) as made:
        yield made


@pytest.fixture
async def async_client(live_server: LiveServer) -> AsyncIterator[ollama.AsyncClient]:
    async with ollama.AsyncClient(host=live_server.url) as made:
        yield made


def test_chat(client: ollama.Client) -> None:
    reply = client.chat("hello", HI, options={"temperature": 0, "mirostat": 0})
    assert (reply.message.role, reply.message.content, reply.done_reason) == ("assistant", SAID, "stop")
    assert reply.total_duration
    assert (reply.prompt_eval_count or 0) > 0
    assert reply.eval_count == 4
    pieces = list(client.chat("hello", HI, stream=True))
    assert "".join(piece.message.content or "" for piece in pieces) == SAID
    assert [piece.done for piece in pieces] == [False, False, False, True]


def test_generate(client: ollama.Client) -> None:
    reply = client.generate("hello", "hi")
    assert (reply.response, reply.done) == (SAID, True)
    assert reply.context
    assert "".join(piece.response or "" for piece in client.generate("hello", "hi", stream=True)) == SAID
    assert client.generate("hello").done_reason == "load"
    assert client.generate("hello", keep_alive=0).done_reason == "unload"


def test_models(client: ollama.Client) -> None:
    assert [model.model for model in client.list().models] == ["hello:latest"]
    shown = client.show("hello")
    assert shown.capabilities == ["completion"]
    assert shown.modelinfo
    assert shown.modelinfo["general.architecture"] == "llama"
    assert shown.modified_at
    assert client.ps().models == []
    client.generate("hello", keep_alive=-1)
    (running,) = client.ps().models
    assert running.expires_at
    assert running.context_length
    assert client.create("mario", from_="hello", system="You are Mario.").status == "success"
    assert client.delete("mario").status == "success"
    assert [model.model for model in client.list().models] == ["hello:latest"]


def test_errors_carry_text_and_status(client: ollama.Client, live_server: LiveServer) -> None:
    with pytest.raises(ollama.ResponseError, match="model 'nope' not found") as caught:
        client.chat("nope", HI)
    assert caught.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="model 'nope' not found"):
        list(client.generate("nope", "hi", stream=True))
    live_server.launcher.scripts.append(Script(("a", "b"), crash_after=1))
    with pytest.raises(ollama.ResponseError, match="unexpected EOF"):
        list(client.chat("hello", HI, stream=True))
    assert client.chat("hello", HI).message.content == SAID


def test_odd_line_breaks_do_not_cut_a_line(client: ollama.Client, live_server: LiveServer) -> None:
    text = "a\u2028b\u2029c\u0085d\x0be"
    live_server.launcher.scripts.append(Script((text,)))
    assert next(iter(client.chat("hello", HI, stream=True))).message.content == text


async def test_the_same_async(async_client: ollama.AsyncClient) -> None:
    reply = await async_client.chat("hello", HI)
    assert reply.message.content == SAID
    pieces = [piece async for piece in await async_client.chat("hello", HI, stream=True)]
    assert "".join(piece.message.content or "" for piece in pieces) == SAID
    said = [piece.response or "" async for piece in await async_client.generate("hello", "hi", stream=True)]
    assert "".join(said) == SAID
    assert (await async_client.generate("hello", "hi")).response == SAID
    assert [model.model for model in (await async_client.list()).models] == ["hello:latest"]
    assert (await async_client.show("hello")).capabilities == ["completion"]
    assert [model.model for model in (await async_client.ps()).models] == ["hello:latest"]
    created = [line.status async for line in await async_client.create("luigi", from_="hello", system="x", stream=True)]
    assert created[-1] == "success"
    assert (await async_client.delete("luigi")).status == "success"
    with pytest.raises(ollama.ResponseError) as caught:
        await async_client.show("luigi")
    assert (caught.value.status_code, caught.value.error) == (404, "model 'luigi:latest' not found")


def test_httpx_reads_lines_as_they_come(live_server: LiveServer) -> None:
    with httpx.stream("POST", f"{live_server.url}/api/chat", json={"model": "hello", "messages": HI}) as reply:
        assert reply.headers["content-type"] == "application/x-ndjson"
        assert reply.headers["transfer-encoding"] == "chunked"
        assert len(list(reply.iter_lines())) == 4


def test_head_over_a_socket_has_no_body(live_server: LiveServer) -> None:
    with httpx.Client(base_url=live_server.url) as http:
        for path, status in (("/", 200), ("/api/tags", 200), ("/api/version", 200), ("/api/blobs/foo", 400), ("/nope", 404)):
            reply = http.head(path)
            assert (reply.status_code, reply.content) == (status, b"")


def test_one_connection_carries_many_requests(live_server: LiveServer) -> None:
    with httpx.Client(base_url=live_server.url, limits=httpx.Limits(max_connections=1)) as http:
        for _ in range(5):
            assert http.post("/api/chat", json={"model": "hello", "messages": HI}).status_code == 200
            assert http.post("/api/chat", content=b"{").status_code == 400
            assert http.post("/api/generate", json={"model": "hello", "prompt": "x", "stream": False}).status_code == 200
