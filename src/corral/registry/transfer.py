"""Fetching one blob: ranges in parallel, each tried again from where it stopped, and the whole checked while it comes.

A blob is either delivered whole, with the digest it should have, or not at all. Progress counts bytes that are
on disk and never goes back: what a failed try has gained is kept. The checksum follows behind the front up to which
nothing is missing, so a large blob needs no second pass at its end.
Where bytes come from is client.py's business; what makes a finished file a blob is the store's.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from corral.core.errors import RegistryError
from corral.registry.client import RegistryClient, Source
from corral.registry.disk import HASH_STEP_BYTES, Disk, PartialFile, check_digest
from corral.registry.failures import RegistryTransientError, without_query
from corral.registry.limits import Limits
from corral.wire.registry import Descriptor

OnProgress = Callable[[int], None]  # bytes completed so far


@dataclass(slots=True)
class Chunk:
    """A range of a blob; the bytes from `start` to `at` are on disk."""

    start: int
    end: int
    at: int


class Transfer:
    """One blob on its way from a registry into a file."""

    def __init__(
        self, client: RegistryClient, blob: Descriptor, path: Path, *, disk: Disk, limits: Limits, on_progress: OnProgress
    ) -> None:
        self._client = client
        self._blob = blob
        self._path = path
        self._disk = disk
        self._limits = limits
        self._on_progress = on_progress
        self._completed = 0
        self._grown = asyncio.Event()
        self._chunks = cut(blob.size, limits.chunk_bytes)
        self._source = Source(client.blob_url(blob.digest), has_ranges=False)

    async def run(self) -> None:
        """Fills the file, which must not exist, and checks it. What is in it after an error is of no use.

        Raises RegistryError, StoreError.
        """
        try:
            async with PartialFile.open(self._path, self._blob.size, self._disk) as file:
                if len(self._chunks) > 1:
                    self._source = await self._limits.retrying(self._limits.blob_tries, self._locate)
                    if not self._source.has_ranges:
                        self._chunks = cut(self._blob.size, self._blob.size)
                await self._fetch_all(file)
        except RegistryError as exc:
            raise RegistryError(f"pulling {self._blob.digest[7:19]}: {exc}") from exc

    async def _locate(self) -> Source:
        return await self._client.locate(self._blob.digest)

    async def _fetch_all(self, file: PartialFile) -> None:
        waiting = deque(self._chunks)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._verify(), name=f"pull-{self._blob.digest[7:19]}-verify")
                for n in range(min(self._limits.connections, len(waiting))):
                    tasks.create_task(self._fetch_from(waiting, file), name=f"pull-{self._blob.digest[7:19]}-{n}")
        except ExceptionGroup as group:
            raise _first(group) from group

    async def _fetch_from(self, waiting: deque[Chunk], file: PartialFile) -> None:
        while waiting:
            await self._fetch(waiting.popleft(), file)

    async def _fetch(self, chunk: Chunk, file: PartialFile) -> None:
        """Fills one chunk. Gives up after `blob_tries` tries in a row that gained nothing."""
        failures = 0
        while chunk.at < chunk.end:
            before = chunk.at
            try:
                await self._read(chunk, file)
            except RegistryTransientError as exc:
                failures = 1 if chunk.at > before else failures + 1
                if failures >= self._limits.blob_tries:
                    raise
                await self._limits.wait(failures, exc)
                if self._source.has_ranges:  # the place it redirected to may be what failed
                    self._source = Source(self._client.blob_url(self._blob.digest), has_ranges=True)

    async def _verify(self) -> None:
        """Hashes what has come without a gap, and at the end raises RegistryError where it is not what the digest says."""
        checksum = hashlib.sha256()
        at, complete = 0, 0
        while at < self._blob.size:
            while complete < len(self._chunks) and self._chunks[complete].at == self._chunks[complete].end:
                complete += 1
            ready = self._chunks[complete].at if complete < len(self._chunks) else self._blob.size
            if ready - at >= HASH_STEP_BYTES or ready == self._blob.size:
                at += await self._disk.hash_range(self._path, checksum, at, min(ready - at, HASH_STEP_BYTES))
            else:
                self._grown.clear()
                await self._grown.wait()
        check_digest(self._blob.digest, self._blob.digest.removeprefix("sha256:"), checksum.hexdigest())

    async def _read(self, chunk: Chunk, file: PartialFile) -> None:
        gathered = bytearray()
        async with self._client.read(self._source.url, chunk.at, chunk.end) as received:
            try:
                async for data in received:
                    gathered += data
                    if len(gathered) >= self._limits.write_bytes:
                        await self._write(chunk, file, gathered)
            except RegistryTransientError:
                await self._write(chunk, file, gathered)
                raise
            await self._write(chunk, file, gathered)
        if chunk.at < chunk.end:
            raise RegistryTransientError(f'Get "{without_query(self._source.url)}": unexpected EOF')

    async def _write(self, chunk: Chunk, file: PartialFile, gathered: bytearray) -> None:
        """Moves what was gathered to disk, and counts it."""
        if gathered:
            await file.write(bytes(gathered), chunk.at)
            chunk.at += len(gathered)
            self._completed += len(gathered)
            gathered.clear()
            self._grown.set()
            self._on_progress(self._completed)


def cut(size_bytes: int, chunk_bytes: int) -> list[Chunk]:
    """The ranges that a blob is fetched in.

    >>> [(chunk.start, chunk.end) for chunk in cut(25, 10)]
    [(0, 10), (10, 20), (20, 25)]
    """
    return [Chunk(at, min(at + chunk_bytes, size_bytes), at) for at in range(0, size_bytes, max(1, chunk_bytes))]


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """The error to show of several that came at once: the disk's or a surprise rather than one of the registry's."""
    registry, other = group.split(RegistryError)
    found: Exception = other or registry or group
    while isinstance(found, ExceptionGroup):
        found = found.exceptions[0]
    return found
