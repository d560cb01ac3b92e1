"""POST /v1/rerank in the form that Jina's and Cohere's clients know: byte for byte, and what it says to what is wrong."""

from pathlib import Path
from typing import Any

import pytest

from tests.contract.conftest import Rig
from tests.support.gguf_bert import random_bert, write_bert
from tests.support.stores import add_model

JSON = "application/json; charset=utf-8"
PLAIN_JSON = "application/json"
RANKED = {"model": "ranker", "query": "q", "documents": ["bad", {"text": "good"}]}
GOOD, BAD = '"relevance_score":0.8807970779778823', '"relevance_score":0.11920292202211755'
USED = '"usage":{"prompt_tokens":4,"total_tokens":4}'


@pytest.fixture
def ranking(rig: Rig, tmp_path: Path) -> Rig:
    """A server with a model that ranks, too."""
    add_model(rig.corral.store, "ranker", write_bert(tmp_path / "r.gguf", random_bert(classes=1), pooling="rank"))
    rig.launcher.vectors = {"good": (2.0,), "bad": (-2.0,)}
    return rig


@pytest.mark.parametrize(
    ("body", "results"),
    [
        ({}, f'{{"index":1,{GOOD}}},{{"index":0,{BAD}}}'),
        ({"top_n": 1}, f'{{"index":1,{GOOD}}}'),
        (
            {"return_documents": True},
            f'{{"index":1,{GOOD},"document":{{"text":"good"}}}},{{"index":0,{BAD},"document":{{"text":"bad"}}}}',
        ),
    ],
    ids=str,
)
async def test_documents_are_ranked(ranking: Rig, body: dict[str, Any], results: str) -> None:
    reply = await ranking.http.post("/v1/rerank", json=RANKED | body)
    assert reply.text == f'{{"object":"list","model":"ranker","results":[{results}],{USED}}}'
    assert (reply.status_code, reply.headers["content-type"]) == (200, PLAIN_JSON)


@pytest.mark.parametrize(
    ("body", "text", "param"),
    [
        ({"query": ""}, "query is missing; it must be a text", "query"),
        ({"documents": []}, "documents is missing; it must be a list of texts", "documents"),
        ({"documents": ["a", {}]}, "documents[1].text is missing; only texts are ranked", "documents[1].text"),
        ({"top_n": 0}, "top_n is 0; it must be at least 1, or left out to get all documents", "top_n"),
    ],
    ids=str,
)
async def test_documents_that_cannot_be_ranked(rig: Rig, body: dict[str, Any], text: str, param: str) -> None:
    reply = await rig.http.post("/v1/rerank", json=RANKED | body)
    assert (reply.status_code, reply.headers["content-type"]) == (400, JSON)
    assert reply.json()["error"] == {"message": text, "type": "invalid_request_error", "param": param, "code": "invalid_value"}


async def test_a_model_that_does_not_rank(rig: Rig) -> None:
    reply = await rig.http.post("/v1/rerank", json=RANKED | {"model": "hello"})
    assert (reply.status_code, reply.headers["content-type"]) == (400, PLAIN_JSON)
    assert reply.json()["error"]["message"] == '"hello" does not support rerank'
