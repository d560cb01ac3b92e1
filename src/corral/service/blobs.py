"""Uploads: the files that models are created from, taken as they arrive, or from where they lie on this machine."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from corral.core.aio import ThreadLimiter
from corral.store import BlobWriter, Store

_WRITE_BYTES: Final = 1 << 20


class BlobService:
    def __init__(self, store: Store, *, threads: ThreadLimiter | None = None) -> None:
        self._store = store
        self._threads = threads or ThreadLimiter("corral-upload", 4)

    async def has(self, digest: str) -> bool:
        """Whether it is there; if so, it stays for an hour at least. Raises BadRequestError for a digest that is none."""
        return await self._threads.run(self._store.keep_blob, digest)

    async def take(self, digest: str, path: str) -> bool:
        """Keeps a GGUF of this machine, without a copy where that is possible; False where the digest is there already.

        Raises LocalFileError where it is not taken, whatever the reason; BadRequestError for a digest that is none; StoreError.
        """
        if await self.has(digest):
            return False
        stop = threading.Event()
        try:
            await self._threads.run(self._store.take_file, Path(path), digest, stop)
        finally:
            stop.set()
        return True

    async def put(self, digest: str, chunks: AsyncIterator[bytes]) -> bool:
        """Keeps the bytes under that digest; False, without looking at them, where it is there already.

        Raises BadRequestError for a digest that is none, or not that of the bytes; StoreError. Nothing is left of an upload
        that ends early, by an error or because its client leaves.
        """
        if await self.has(digest):
            return False
        writer = self._store.start_blob(digest)
        try:
            await self._write(writer, chunks)
            await self._threads.run(writer.commit)
        finally:
            await asyncio.to_thread(writer.close)  # no thread of the pool: that may be closed, and this is to be done even so
        return True

    async def _write(self, writer: BlobWriter, chunks: AsyncIterator[bytes]) -> None:
        gathered = bytearray()
        async for chunk in chunks:
            gathered += chunk
            if len(gathered) >= _WRITE_BYTES:
                await self._threads.run(writer.write, bytes(gathered))
                gathered.clear()
        await self._threads.run(writer.write, bytes(gathered))

    def close(self) -> None:
        self._threads.close()
