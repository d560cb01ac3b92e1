"""Fetching one blob: ranges in parallel, each tried again from where it stopped, and the whole checked while it comes.

A blob is either delivered whole, with the digest it should have, or not at all; what a broken attempt has gained stays in its
partial file, and a later one goes on from there. Progress counts bytes that are written. The checksum follows behind the front
up to which nothing is missing, so a large blob needs no second pass at its end.
Where bytes come from is client.py's business, how they survive a kill is partial.py's; what makes a finished file a blob is the
store's.
"""

import asyncio
import hashlib
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from corral.core.errors import RegistryError
from corral.registry.client import RegistryClient, Source
from corral.registry.disk import HASH_STEP_BYTES, Disk, check_digest
from corral.registry.failures import DigestMismatchError, RegistryTransientError, first_of, shown_url
from corral.registry.limits import Limits
from corral.registry.partial import Chunk, Partial
from corral.wire.registry import Descriptor

log: Final = logging.getLogger(__name__)
OnProgress = Callable[[int], None]  # bytes completed so far


class Transfer:
    """One blob on its way from a registry into its partial file."""

    def __init__(
        self,
        client: RegistryClient,
        blob: Descriptor,
        partial: Partial,
        *,
        disk: Disk,
        limits: Limits,
        on_progress: OnProgress,
    ) -> None:
        self._client = client
        self._blob = blob
        self._partial = partial
        self._disk = disk
        self._limits = limits
        self._on_progress = on_progress
        self._grown = asyncio.Event()
        self._unsure_bytes = 0  # written since the last checkpoint began that is over
        self._is_due = asyncio.Event()  # there are enough of them for one
        self._is_sure = asyncio.Event()  # a checkpoint is over
        self._source = Source(client.blob_url(blob.digest), has_ranges=False, origin=partial.origin)

    async def run(self) -> None:
        """Fills the file and checks it. Raises RegistryError, StoreError.

        Where the whole turns out to be wrong and a part of it was there before, all is fetched anew, once.
        """
        is_resumed = self._partial.completed_bytes > 0
        try:
            try:
                await self._fill()
            except DigestMismatchError:
                await self._partial.restart()
                if not is_resumed:
                    raise
                log.warning("download begun anew", extra={"digest": self._blob.digest})
                await self._fill()
        except RegistryError as exc:
            raise RegistryError(f"pulling {self._blob.digest[7:19]}: {exc}") from exc

    async def _fill(self) -> None:
        if len(self._partial.chunks) > 1 or self._partial.completed_bytes:
            self._source = await self._limits.retrying(self._limits.blob_tries, self._locate)
            if self._partial.origin.contradicts(self._source.origin):
                await self._partial.restart()
            self._partial.origin = self._source.origin
            if not self._source.has_ranges:
                self._partial.in_one_piece()
        if completed := self._partial.completed_bytes:
            self._on_progress(completed)
        await self._fetch_all()

    async def _locate(self) -> Source:
        return await self._client.locate(self._blob.digest, self._blob.size)

    async def _fetch_all(self) -> None:
        name = f"pull-{self._blob.digest[7:19]}"
        waiting = deque(chunk for chunk in self._partial.chunks if chunk.at < chunk.end)
        try:
            async with asyncio.TaskGroup() as tasks:
                keeping = tasks.create_task(self._keep(), name=f"{name}-keep")
                verifying = tasks.create_task(self._verify(), name=f"{name}-verify")
                verifying.add_done_callback(lambda _: self._stop_keeping(keeping))
                for n in range(min(self._limits.connections, len(waiting))):
                    tasks.create_task(self._fetch_from(waiting), name=f"{name}-{n}")
        except ExceptionGroup as group:
            raise first_of(group) from group

    def _stop_keeping(self, keeping: asyncio.Task[None]) -> None:
        """All is there, or nothing is to be had: nobody waits for another checkpoint."""
        keeping.cancel()
        self._unsure_bytes = 0
        self._is_sure.set()

    async def _keep(self) -> None:
        """Makes sure of what has come, again and again."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limits.checkpoint_s):
                    await self._is_due.wait()
            self._is_due.clear()
            covered_bytes = self._unsure_bytes
            await self._partial.checkpoint()
            self._unsure_bytes -= covered_bytes
            self._is_sure.set()

    async def _count_unsure(self, size_bytes: int) -> None:
        """Waits where the disk is so far behind that a kill would cost much."""
        self._unsure_bytes += size_bytes
        while self._unsure_bytes >= self._limits.checkpoint_bytes:
            self._is_due.set()
            if self._unsure_bytes < 2 * self._limits.checkpoint_bytes:
                return
            self._is_sure.clear()
            await self._is_sure.wait()

    async def _fetch_from(self, waiting: deque[Chunk]) -> None:
        while waiting:
            await self._fetch(waiting.popleft())

    async def _fetch(self, chunk: Chunk) -> None:
        """Fills one chunk. Gives up after `blob_tries` tries in a row that gained nothing."""
        failures = 0
        while chunk.at < chunk.end:
            before = chunk.at
            try:
                await self._read(chunk)
            except RegistryTransientError as exc:
                failures = 1 if chunk.at > before else failures + 1
                if failures >= self._limits.blob_tries:
                    raise
                await self._limits.wait(failures, exc)
                if self._source.has_ranges:  # the place it redirected to may be what failed
                    self._source = replace(self._source, url=self._client.blob_url(self._blob.digest))

    async def _verify(self) -> None:
        """Hashes what has come without a gap, and at the end raises DigestMismatchError where it is not what it should be."""
        checksum = hashlib.sha256()
        chunks = self._partial.chunks
        at, complete = 0, 0
        while at < self._blob.size:
            while complete < len(chunks) and chunks[complete].at == chunks[complete].end:
                complete += 1
            ready = chunks[complete].at if complete < len(chunks) else self._blob.size
            if ready - at >= HASH_STEP_BYTES or ready == self._blob.size:
                at += await self._disk.hash_range(self._partial.path, checksum, at, min(ready - at, HASH_STEP_BYTES))
            else:
                self._grown.clear()
                await self._grown.wait()
        check_digest(self._blob.digest, self._blob.digest.removeprefix("sha256:"), checksum.hexdigest())

    async def _read(self, chunk: Chunk) -> None:
        gathered = bytearray()
        pace = _Pace(self._limits, self._source.url)
        async with self._client.read(self._source.url, chunk.at, chunk.end, self._blob.size) as received:
            try:
                async for data in received:
                    gathered += data
                    if len(gathered) >= self._limits.write_bytes:
                        await self._write(chunk, gathered)
                    pace.check(len(data))
            except RegistryTransientError:
                await self._write(chunk, gathered)
                raise
            await self._write(chunk, gathered)
        if chunk.at < chunk.end:
            raise RegistryTransientError(f'Get "{shown_url(self._source.url)}": unexpected EOF')

    async def _write(self, chunk: Chunk, gathered: bytearray) -> None:
        """Moves what was gathered to disk, and counts it."""
        if gathered:
            size_bytes = len(gathered)
            await self._partial.write(chunk, bytes(gathered))
            gathered.clear()
            self._grown.set()
            self._on_progress(self._partial.completed_bytes)
            await self._count_unsure(size_bytes)


class _Pace:
    """Watches one connection that does bring bytes, so that one which only drips is made anew; what it brought is kept."""

    def __init__(self, limits: Limits, url: str) -> None:
        self._now = asyncio.get_running_loop().time
        self._limits = limits
        self._url = url
        self._due_s = self._now() + limits.stall_s
        self._bytes = 0

    def check(self, received_bytes: int) -> None:
        """Raises RegistryTransientError where too little came in the time of a stall."""
        self._bytes += received_bytes
        if self._now() < self._due_s:
            return
        if self._bytes < self._limits.slow_bytes:
            raise RegistryTransientError(
                f'Get "{shown_url(self._url)}": only {self._bytes} bytes in {self._limits.stall_s:.0f} s'
            )
        self._due_s, self._bytes = self._now() + self._limits.stall_s, 0
