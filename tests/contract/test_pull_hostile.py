"""Registries that lie, flood, drip or point elsewhere: a clear error, nothing outside the store, and an end to it."""

import asyncio
import gzip
import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from corral.core.errors import RegistryError, StoreError
from tests.support.fake_registry import CONFIG, MODEL, FakeRegistry, Fault, digest_of, send, status
from tests.support.pulls import QUICK, Puller

WEIGHTS = os.urandom(102_400)
GB = 1 << 30


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as fake:
        fake.add(WEIGHTS)
        yield fake


@pytest.fixture
async def puller(tmp_path: Path) -> AsyncIterator[Puller]:
    it = Puller(tmp_path / "models")
    yield it
    await it.service.aclose()


def manifest(*, digest: str = digest_of(WEIGHTS), size: Any = 102_400, **more: Any) -> bytes:
    config = {"mediaType": CONFIG, "digest": digest_of(b"{}\n"), "size": 3}
    layers = [{"mediaType": MODEL, "digest": digest, "size": size}]
    return json.dumps({"schemaVersion": 2, "mediaType": "m", "config": config, "layers": layers, **more}).encode()


def endless(piece: bytes = bytes(1 << 16), **headers: str) -> Fault:
    """A chunked body without end."""

    async def fault(request: web.Request, _data: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={k.replace("_", "-"): v for k, v in headers.items()})
        await response.prepare(request)
        while True:
            await response.write(piece)

    return fault


def dripping(pause_s: float) -> Fault:
    """One byte after the other, too quick for a watch that waits for silence."""

    async def fault(request: web.Request, data: bytes) -> web.StreamResponse:
        start = request.http_range.start or 0
        response = web.StreamResponse(status=206, headers={"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"})
        await response.prepare(request)
        for byte in data[start:]:
            await response.write(bytes([byte]))
            await asyncio.sleep(pause_s)
        return response

    return fault


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        pytest.param(manifest(digest="sha256:../../../../etc/passwd"), "which is no digest", id="digest-is-a-path"),
        pytest.param(manifest(digest="/etc/passwd"), "which is no digest", id="digest-is-absolute"),
        pytest.param(manifest(digest="sha256-" + "a" * 64), "which is no digest", id="digest-as-a-file-name"),
        pytest.param(manifest(digest="sha256:" + "A" * 64), "which is no digest", id="digest-in-capitals"),
        pytest.param(manifest(digest="sha512:" + "a" * 128), "which is no digest", id="other-algorithm"),
        pytest.param(manifest(digest="sha256:" + "a" * 63 + "\n"), "which is no digest", id="digest-with-a-newline"),
        pytest.param(manifest(digest="x" * 100_000), "which is no digest", id="digest-of-100-kB"),
        pytest.param(manifest(size=-1), "a size of -1 bytes", id="negative-size"),
        pytest.param(manifest(size=1 << 60), "a size of 1152921504606846976 bytes", id="absurd-size"),
        pytest.param(manifest(size=10**40), "a size of 100000000000000000000000000000 bytes", id="size-beyond-64-bits"),
        pytest.param(manifest(size="3"), "is no manifest", id="size-is-text"),
        pytest.param(manifest(digest=digest_of(b"{}\n"), size=4), "two sizes, 3 and 4 bytes", id="one-blob-two-sizes"),
        pytest.param(manifest(layers=None), "is no manifest", id="no-layers"),
        pytest.param(b"[" * 1_000_000, "is no manifest", id="nested-a-million-deep"),
        pytest.param(b'{"config":' * 200_000, "is no manifest", id="objects-nested-deep"),
        pytest.param(b"\xff\xfe", "is no manifest", id="no-text"),
        pytest.param(b"", "is no manifest", id="empty"),
    ],
)
async def test_a_hostile_manifest_is_refused(registry: FakeRegistry, puller: Puller, raw: bytes, said: str) -> None:
    registry.manifest_faults.append(send(raw))
    with pytest.raises(RegistryError, match=f"pull model manifest: .*{said}") as caught:
        await puller.pull(registry.name())
    assert len(str(caught.value)) < 1000
    assert registry.blob_requests() == []
    assert puller.is_clean()


async def test_a_manifest_of_a_gigabyte_is_not_read_to_its_end(registry: FakeRegistry, puller: Puller) -> None:
    sent = 0

    async def fault(request: web.Request, _data: bytes) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        response.content_length = GB
        await response.prepare(request)
        while sent < GB:
            await response.write(bytes(1 << 16))
            sent += 1 << 16
        return response

    registry.manifest_faults.append(fault)
    with pytest.raises(RegistryError, match="the manifest is larger than 4194304 bytes"):
        await puller.pull(registry.name())
    assert sent < GB / 10


@pytest.mark.parametrize(
    "fault",
    [endless(), endless(gzip.compress(bytes(1 << 20)), Content_Encoding="gzip"), endless(b" " * (1 << 16))],
    ids=["zeros", "gzip", "spaces"],
)
async def test_a_manifest_without_end_is_given_up(registry: FakeRegistry, puller: Puller, fault: Fault) -> None:
    registry.manifest_faults.append(fault)
    with pytest.raises(RegistryError, match=r"the manifest is larger than|is no manifest"):
        await puller.pull(registry.name())


async def test_a_manifest_that_drips_is_given_up(registry: FakeRegistry, tmp_path: Path) -> None:
    puller = Puller(tmp_path / "models", limits=replace(QUICK, answer_s=0.3, manifest_tries=1))
    registry.manifest_faults.append(dripping(0.05))
    with pytest.raises(RegistryError, match="i/o timeout"):
        await puller.pull(registry.name())
    await puller.service.aclose()


async def test_a_compressed_manifest_is_read(registry: FakeRegistry, puller: Puller) -> None:
    async def fault(_request: web.Request, data: bytes) -> web.StreamResponse:
        return web.Response(body=gzip.compress(data), headers={"Content-Encoding": "gzip"})

    registry.manifest_faults.append(fault)
    assert (await puller.pull(registry.name()))[-1].status == "success"


async def test_a_bomb_of_a_manifest_is_not_unpacked(registry: FakeRegistry, puller: Puller) -> None:
    async def fault(_request: web.Request, _data: bytes) -> web.StreamResponse:
        return web.Response(body=gzip.compress(bytes(200 << 20), 1), headers={"Content-Encoding": "gzip"})

    registry.manifest_faults.append(fault)
    with pytest.raises(RegistryError, match="the manifest is larger than 4194304 bytes"):
        await puller.pull(registry.name())


async def test_a_compressed_blob_is_read(registry: FakeRegistry, puller: Puller) -> None:
    """Some proxy compresses what it passes on, whatever was asked for; it cannot do ranges then."""

    async def fault(_request: web.Request, data: bytes) -> web.StreamResponse:
        return web.Response(body=gzip.compress(data), headers={"Content-Encoding": "gzip"})

    registry.blob_faults.extend([fault] * 3)
    assert (await puller.pull(registry.name()))[-1].status == "success"
    assert puller.blob(WEIGHTS) == WEIGHTS


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        pytest.param(endless(), "digest mismatch", id="endless-blob"),
        pytest.param(endless(gzip.compress(bytes(1 << 20)), Content_Encoding="gzip"), "digest mismatch", id="endless-gzip"),
        pytest.param(send(WEIGHTS + b"more"), "102400 bytes, and the registry has 102404", id="longer-than-promised"),
        pytest.param(send(WEIGHTS[:-1]), "102400 bytes, and the registry has 102399", id="shorter-than-promised"),
        pytest.param(status(206, "x", Content_Range="bytes 7-7/102400"), "got 'bytes 7-7/102400'", id="other-range"),
        pytest.param(status(206, "x", Content_Range="rubbish"), "got 'rubbish'", id="rubbish-range"),
        pytest.param(status(206, "x"), "got ''", id="no-range"),
        pytest.param(status(200, "x", Content_Encoding="br"), "in 'br', which nobody asked for", id="brotli"),
        pytest.param(status(200, "x" * 102400, Content_Encoding="gzip"), "no gzip, though it says so", id="no-gzip"),
        pytest.param(status(302, Location="file:///etc/passwd"), 'unsupported protocol scheme "file"', id="file"),
        pytest.param(status(302, Location="http://[::1"), "redirected to", id="no-url"),
        pytest.param(status(302, Location="http://a b/"), "Get ", id="spaces"),
    ],
)
async def test_a_hostile_blob_is_refused(registry: FakeRegistry, puller: Puller, fault: Fault, said: str) -> None:
    registry.blob_faults.extend([fault] * 100)
    with pytest.raises(RegistryError, match=f"pulling [0-9a-f]{{12}}: .*{said}"):
        await puller.pull(registry.name())
    assert puller.blob(WEIGHTS) is None
    assert puller.is_clean()


async def test_a_size_that_no_disk_has_is_refused_before_anything_is_written(registry: FakeRegistry, puller: Puller) -> None:
    registry.manifest_faults.append(send(manifest(size=1 << 52)))
    with pytest.raises(StoreError, match="not enough space on the disk"):
        await puller.pull(registry.name())
    assert registry.blob_requests() == []


async def test_a_blob_that_drips_is_fetched_over_new_connections(registry: FakeRegistry, tmp_path: Path) -> None:
    """What a slow connection brought is kept, and another one brings the rest."""
    puller = Puller(
        tmp_path / "models", limits=replace(QUICK, stall_s=0.5, slow_bytes=1000, connections=1, chunk_bytes=1 << 20)
    )
    registry.blob_faults.append(dripping(0.01))
    assert (await puller.pull(registry.name()))[-1].status == "success"
    wanted = [seen.headers["Range"] for seen in registry.blob_requests() if digest_of(WEIGHTS) in seen.path]
    assert len(wanted) == 2
    start = int(wanted[1].removeprefix("bytes=").partition("-")[0])
    assert 0 < start < 1000
    await puller.service.aclose()


async def test_nothing_outside_the_store_is_touched(registry: FakeRegistry, puller: Puller, tmp_path: Path) -> None:
    for raw in (manifest(digest="sha256:../../../escaped"), manifest(digest="../" * 8 + "escaped")):
        registry.manifest_faults.append(send(raw))
        with pytest.raises(RegistryError):
            await puller.pull(registry.name())
    assert set(os.listdir(tmp_path)) <= {"models", "home"}  # noqa: PTH208  a look from a coroutine
