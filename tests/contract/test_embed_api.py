"""/api/embed and /api/embeddings: golden answers over a scripted engine, and Ollama's own client."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import ollama
import pytest

from corral.engine.fake import fake_vector
from tests.contract.conftest import LiveServer, Rig
from tests.support.asgi import Call, ask
from tests.support.gguf_bert import random_bert, write_bert
from tests.support.stores import add_model

JSON = "application/json; charset=utf-8"
GIVEN = {"text": (0.6, -0.8, 0.0, 0.0), "other": (1.0, 2.0, -2.0, 4.0), "nan": (float("nan"), 0.0, 0.0, 1.0)}


@pytest.fixture
def minilm(rig: Rig, tmp_path: Path) -> Rig:
    """A server with an embedding model, too, whose vectors for some texts are known."""
    add_model(rig.corral.store, "minilm", write_bert(tmp_path / "bert.gguf", random_bert()))
    rig.launcher.vectors = GIVEN
    return rig


async def embed(rig: Rig, path: str = "/api/embed", **body: Any) -> httpx.Response:
    return await rig.http.post(path, json={"model": "minilm"} | body)


def masked(reply: httpx.Response) -> str:
    assert reply.headers["content-type"] == JSON
    return re.sub(r'(_duration":)[1-9]\d*', r"\1N", reply.text)


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        pytest.param(
            {"input": "text"},
            '{"model":"minilm","embeddings":[[0.6,-0.8,0,0]],"total_duration":N,"load_duration":N,"prompt_eval_count":1}',
            id="one",
        ),
        pytest.param(
            {"input": ["text", "other"]},
            '{"model":"minilm","embeddings":[[0.6,-0.8,0,0],[0.2,0.4,-0.4,0.8]],'
            '"total_duration":N,"load_duration":N,"prompt_eval_count":2}',
            id="two",
        ),
        pytest.param(
            {"input": "other", "dimensions": 3, "truncate": None, "keep_alive": "5m", "options": {"num_ctx": 64}},
            '{"model":"minilm","embeddings":[[0.33333334,0.6666667,-0.6666667]],'
            '"total_duration":N,"load_duration":N,"prompt_eval_count":1}',
            id="dimensions",
        ),
        pytest.param({"input": []}, '{"model":"minilm","embeddings":[]}', id="empty list"),
        pytest.param({"input": ""}, '{"model":"minilm","embeddings":[]}', id="empty text"),
        pytest.param({"input": None}, '{"model":"minilm","embeddings":[]}', id="null"),
        pytest.param({}, '{"model":"minilm","embeddings":[]}', id="nothing"),
    ],
)
async def test_embed(minilm: Rig, body: dict[str, Any], wanted: str) -> None:
    reply = await embed(minilm, **body)
    assert reply.status_code == 200
    assert masked(reply) == wanted
    assert reply.headers["content-length"] == str(len(reply.content))
    assert len(minilm.launcher.engines) == 1


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({"prompt": "text"}, '{"embedding":[0.6000000238418579,-0.800000011920929,0,0]}'),
        ({"prompt": ""}, '{"embedding":[]}'),
        ({}, '{"embedding":[]}'),
    ],
    ids=["text", "empty", "missing"],
)
async def test_embeddings(minilm: Rig, body: dict[str, Any], wanted: str) -> None:
    reply = await embed(minilm, "/api/embeddings", **body)
    assert (reply.status_code, masked(reply)) == (200, wanted)


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/api/embed", {"input": 3}, 400, "invalid input type"),
        ("/api/embed", {"input": [3]}, 400, "invalid input type"),
        ("/api/embed", {"input": {"a": 1}}, 400, "invalid input type"),
        ("/api/embed", {"input": ["a", None]}, 400, "invalid input type"),
        ("/api/embed", {"input": 3, "model": "nope"}, 400, "invalid input type"),
        ("/api/embed", {"model": ""}, 404, "model '' not found"),
        ("/api/embed", {"model": None}, 404, "model '' not found"),
        ("/api/embed", {"model": "nope", "input": "x"}, 404, 'model "nope" not found, try pulling it first'),
        ("/api/embed", {"model": "a b", "input": "x"}, 400, "invalid model name"),
        ("/api/embed", {"input": "word " * 300, "truncate": False}, 400, "the input length exceeds the context length"),
        ("/api/embed", {"input": "nan"}, 400, "embedding contains NaN or Inf values"),
        ("/api/embed", {"input": "a", "keep_alive": "abc"}, 400, 'time: invalid duration "abc"'),
        ("/api/embed", {"input": "a", "options": {"num_ctx": "big"}}, 400, 'option "num_ctx" must be of type integer'),
        (
            "/api/embed",
            {"input": "a", "dimensions": "x"},
            400,
            "json: cannot unmarshal string into Go struct field EmbedRequest.dimensions of type int",
        ),
        ("/api/embeddings", {"model": ""}, 400, "model is required"),
        ("/api/embeddings", {"model": "nope", "prompt": "x"}, 404, 'model "nope" not found, try pulling it first'),
        ("/api/embeddings", {"prompt": "word " * 300}, 400, "the input length exceeds the context length"),
        ("/api/embeddings", {"prompt": "nan"}, 500, "embedding contains NaN or Inf values"),
        (
            "/api/embeddings",
            {"prompt": ["x"]},
            400,
            "json: cannot unmarshal array into Go struct field EmbeddingRequest.prompt of type string",
        ),
    ],
)
async def test_errors(minilm: Rig, path: str, body: dict[str, Any], status: int, text: str) -> None:
    reply = await embed(minilm, path, **body)
    assert (reply.status_code, reply.headers["content-type"]) == (status, JSON)
    assert reply.json() == {"error": text}


@pytest.mark.parametrize("path", ["/api/embed", "/api/embeddings"])
@pytest.mark.parametrize(
    ("body", "text"),
    [(b"", "missing request body"), (b"{", "unexpected EOF")],
    ids=["empty", "cut off"],
)
async def test_broken_bodies(minilm: Rig, path: str, body: bytes, text: str) -> None:
    reply = await minilm.http.post(path, content=body)
    assert (reply.status_code, reply.json()) == (400, {"error": text})


async def test_embedding_model_neither_chats_nor_generates(minilm: Rig) -> None:
    chat = await minilm.http.post("/api/chat", json={"model": "minilm", "messages": [{"role": "user", "content": "hi"}]})
    assert (chat.status_code, chat.json()) == (400, {"error": '"minilm" does not support chat'})
    generate = await minilm.http.post("/api/generate", json={"model": "minilm", "prompt": "x"})
    assert (generate.status_code, generate.json()) == (400, {"error": '"minilm" does not support generate'})


async def test_chat_model_embeds(minilm: Rig) -> None:
    reply = await embed(minilm, model="hello", input="text")
    assert reply.json()["embeddings"] == [[0.6, -0.8, 0, 0]]


async def test_many_texts_come_in_their_order(minilm: Rig) -> None:
    """More than is written at once."""
    texts = [f"number {number}" for number in range(6000)]
    reply = await embed(minilm, input=texts)
    assert reply.headers["content-type"] == JSON
    assert "content-length" not in reply.headers
    answer = json.loads(reply.content)
    assert list(answer) == ["model", "embeddings", "total_duration", "load_duration", "prompt_eval_count"]
    wanted = np.array([fake_vector(text) for text in texts])
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    assert np.array(answer["embeddings"]) == pytest.approx(wanted, abs=1e-6)
    assert answer["prompt_eval_count"] == 12000


async def test_client_that_leaves_frees_the_engine(minilm: Rig) -> None:
    minilm.launcher.embed_gate = asyncio.Event()
    call = Call()
    async with asyncio.TaskGroup() as tasks:
        body = b'{"model": "minilm", "input": "text"}'
        tasks.create_task(ask(minilm.corral.asgi, "POST", "/api/embed", body, call=call))
        while not (minilm.launcher.engines and minilm.launcher.engines[0].running):  # noqa: ASYNC110  it tells nobody
            await asyncio.sleep(0)
        call.leave()
    assert minilm.launcher.engines[0].running == 0


async def test_keep_alive_zero_unloads_afterwards(minilm: Rig) -> None:
    await embed(minilm, input="text")
    assert [model["name"] for model in (await minilm.http.get("/api/ps")).json()["models"]] == ["minilm:latest"]
    await embed(minilm, input="text", keep_alive=0)
    while minilm.launcher.engines[0].is_alive:  # noqa: ASYNC110  it closes in the background
        await asyncio.sleep(0)
    assert (await minilm.http.get("/api/ps")).json() == {"models": []}


async def test_document_names_them(minilm: Rig) -> None:
    document = (await minilm.http.get("/openapi.json")).json()
    assert {"/api/embed", "/api/embeddings"} <= set(document["paths"])


# Ollama's own package as a client


@pytest.fixture
def client(live_server: LiveServer) -> Iterator[ollama.Client]:
    live_server.launcher.vectors = GIVEN
    with ollama.Client(host=live_server.url) as made:
        yield made


def test_client(client: ollama.Client) -> None:
    reply = client.embed("hello", ["text", "other"], dimensions=2, truncate=True, options={"num_ctx": 512}, keep_alive="1m")
    assert [list(vector) for vector in reply.embeddings] == [[0.6, -0.8], pytest.approx([0.4472136, 0.8944272])]
    assert reply.total_duration
    assert reply.load_duration
    assert (reply.model, reply.prompt_eval_count) == ("hello", 2)
    assert list(client.embeddings("hello", "text").embedding) == pytest.approx([0.6, -0.8, 0, 0])
    with pytest.raises(ollama.ResponseError, match='model "nope" not found, try pulling it first') as caught:
        client.embed("nope", "x")
    assert caught.value.status_code == 404
    large = client.embed("hello", [str(number) for number in range(5000)])
    assert len(large.embeddings) == 5000


async def test_client_async(live_server: LiveServer) -> None:
    live_server.launcher.vectors = GIVEN
    async with ollama.AsyncClient(host=live_server.url) as made:
        assert list((await made.embed("hello", "text")).embeddings[0]) == [0.6, -0.8, 0, 0]
        assert list((await made.embeddings("hello", "text")).embedding) == pytest.approx([0.6, -0.8, 0, 0])
        assert list((await made.embed("hello")).embeddings) == []
