"""Uploads: kept whole, or not at all."""

import asyncio
import errno
import hashlib
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from corral.core.aio import cancelling
from corral.core.errors import BadRequestError, ServerStoppingError, StoreError
from corral.service.blobs import BlobService
from corral.store import LocalFileError, Store
from tests.support.gguf_files import write_scripted

DATA = b"some bytes"
DIGEST = "sha256:" + hashlib.sha256(DATA).hexdigest()


async def chunks(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def test_upload_is_kept_once(tmp_path: Path) -> None:
    uploads = BlobService(Store(tmp_path))
    assert await uploads.put(DIGEST, chunks(DATA[:3], DATA[3:]))
    assert not await uploads.put(DIGEST, chunks(b"not looked at"))
    assert await uploads.has(DIGEST)
    uploads.close()


async def test_digest_that_is_none_is_refused(tmp_path: Path) -> None:
    uploads = BlobService(Store(tmp_path))
    with pytest.raises(BadRequestError, match="invalid digest format"):
        await uploads.put("sha256:x", chunks(DATA))
    uploads.close()


@pytest.mark.parametrize("size", [0, 3, 2 << 20], ids=["at-once", "early", "late"])
async def test_upload_whose_client_leaves_leaves_nothing(tmp_path: Path, size: int) -> None:
    uploads, reached = BlobService(Store(tmp_path)), asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x" * size
        reached.set()
        await asyncio.Event().wait()

    async with cancelling(uploads.put(DIGEST, endless()), name="upload"):
        await reached.wait()
    uploads.close()
    assert not (tmp_path / "blobs").exists() or not list((tmp_path / "blobs").iterdir())


async def test_upload_whose_server_stops_leaves_nothing(tmp_path: Path) -> None:
    uploads = BlobService(Store(tmp_path))

    async def until_closed() -> AsyncIterator[bytes]:
        yield b"x" * (2 << 20)
        assert list((tmp_path / "blobs").iterdir())
        uploads.close()
        yield b"more"

    with pytest.raises(ServerStoppingError):
        await uploads.put(DIGEST, until_closed())
    assert not list((tmp_path / "blobs").iterdir())


async def test_uploads_of_one_digest_at_the_same_time_make_one_file(tmp_path: Path) -> None:
    uploads, both = BlobService(Store(tmp_path)), asyncio.Barrier(2)

    async def slowly() -> AsyncIterator[bytes]:
        yield DATA[:3]
        await both.wait()
        yield DATA[3:]

    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(uploads.put(DIGEST, slowly()), name="first")
        second = tasks.create_task(uploads.put(DIGEST, slowly()), name="second")
    uploads.close()
    assert (first.result(), second.result()) == (True, True)
    (blob,) = (tmp_path / "blobs").iterdir()
    assert blob.read_bytes() == DATA


async def test_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = BlobService(Store(tmp_path))

    def full(_fd: int, _data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match="No space left on device; remove models that are no longer needed"):
        await uploads.put(DIGEST, chunks(DATA))
    uploads.close()
    assert list((tmp_path / "blobs").iterdir()) == []


async def test_file_of_this_machine_is_kept_once(tmp_path: Path) -> None:
    uploads = BlobService(Store(tmp_path / "store"))
    gguf = write_scripted(tmp_path / "a.gguf", "x")
    digest = f"sha256:{hashlib.sha256(gguf.read_bytes()).hexdigest()}"
    assert await uploads.take(digest, str(gguf))
    assert not await uploads.take(digest, "/not/looked/at")
    with pytest.raises(LocalFileError):
        await uploads.take("sha256:" + "0" * 64, str(gguf))
    uploads.close()


async def test_taking_a_file_ends_with_the_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads, reached, ended = BlobService(Store(tmp_path)), asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def take(_path: Path, _digest: str, stop: threading.Event) -> None:
        loop.call_soon_threadsafe(reached.set)
        if stop.wait(10):
            ended.set()

    monkeypatch.setattr(uploads._store, "take_file", take)
    async with cancelling(uploads.take(DIGEST, "/a.gguf"), name="take"):
        await reached.wait()
    await asyncio.to_thread(ended.wait, 10)
    uploads.close()
    assert ended.is_set()
