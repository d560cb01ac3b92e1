"""Uploads: kept whole, or not at all."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from corral.core.aio import cancelling
from corral.core.errors import BadRequestError
from corral.service.blobs import BlobService
from corral.store import Store

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
