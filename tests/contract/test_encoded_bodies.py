"""Requests whose bodies are packed, in every dialect; uploads of blobs, which are taken as they are."""

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import zstandard

from tests.contract.conftest import LiveServer, Rig

HI = [{"role": "user", "content": "hi"}]
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
}
REQUESTS: dict[str, dict[str, Any]] = {
    "/api/chat": {"model": "hello", "messages": HI, "stream": False},
    "/v1/chat/completions": {"model": "hello", "messages": HI},
    "/v1/responses": {"model": "hello", "input": "hi"},
    "/v1/messages": {"model": "hello", "messages": HI, "max_tokens": 50},
    "/api/show": {"model": "hello"},
}


@pytest.mark.parametrize("path", REQUESTS)
@pytest.mark.parametrize("name", PACK)
async def test_a_packed_body_is_read(rig: Rig, name: str, path: str) -> None:
    data = PACK[name](json.dumps(REQUESTS[path]).encode())
    reply = await rig.http.post(path, content=data, headers={"content-encoding": name})
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize(
    ("path", "message_at"),
    [
        ("/api/chat", ["error"]),
        ("/v1/chat/completions", ["error", "message"]),
        ("/v1/responses", ["error", "message"]),
        ("/v1/messages", ["error", "message"]),
    ],
)
async def test_what_cannot_be_unpacked_is_refused_in_the_dialects_shape(rig: Rig, path: str, message_at: list[str]) -> None:
    for encoding, status, text in [("br", 415, "content-encoding 'br' is not supported"), ("gzip", 400, "not the gzip data")]:
        reply = await rig.http.post(path, json=REQUESTS[path], headers={"content-encoding": encoding})
        said = reply.json()
        for key in message_at:
            said = said[key]
        assert reply.status_code == status
        assert text in said


def test_a_bomb_is_refused(live_server: LiveServer) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(1 << 20)
    bomb = b"".join([*(packer.compress(zeros) for _ in range(300)), packer.flush()])
    with httpx.Client(base_url=live_server.url) as client:
        reply = client.post("/v1/responses", content=bomb, headers={"content-encoding": "gzip"})
        assert (reply.status_code, reply.json()["error"]["type"]) == (413, "invalid_request_error")
        assert client.get("/api/version").status_code == 200


async def test_a_blob_is_taken_as_it_is(rig: Rig) -> None:
    data = gzip.compress(b"some bytes")
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    reply = await rig.http.post(f"/api/blobs/{digest}", content=data, headers={"content-encoding": "gzip"})
    assert reply.status_code == 201
