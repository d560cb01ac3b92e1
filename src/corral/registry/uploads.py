"""Sending one blob to a registry: a look whether it has it, a mount from another repository, or an upload session.

A session is `POST`, which gives a place, `PATCH` with one part after the other, each of which gives the next place, and `PUT`
with the digest. A registry that keeps its blobs elsewhere answers a PATCH with a redirect: the part then goes there by a bare
`PUT` without credentials, beside the parts that follow. After a failure the session is asked how far it got, and what it has is
not sent again; a session that is lost is begun anew. Progress counts bytes that have left this machine.
Source: ollama@v0.32 server/upload.go; OCI distribution spec 1.1, "Pushing a blob in chunks".
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote, urlencode

from corral.core.errors import CorralError, RegistryError, StoreError
from corral.registry.client import RegistryClient
from corral.registry.disk import Disk
from corral.registry.failures import RegistryTransientError, first_of, shown_url
from corral.registry.limits import MIB, Limits
from corral.registry.session import Body
from corral.wire.registry import Descriptor

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")
READ_BYTES: Final = MIB
_LOST: Final = frozenset({404, 410, 416})  # what says that a session is gone, or stands elsewhere than we think
_RANGE: Final = re.compile(r"(?:bytes=)?0-(\d+)")


class _SessionLostError(RegistryTransientError):
    """The registry does not know the session any more, or not as we do."""


class Upload:
    """One blob on its way from a file to a registry."""

    def __init__(
        self,
        client: RegistryClient,
        blob: Descriptor,
        path: Path,
        *,
        mount_from: str,
        disk: Disk,
        limits: Limits,
        on_progress: Callable[[int], None],
    ) -> None:
        """`mount_from`: the repository of the same registry that is known to have the blob, or ""."""
        self._client = client
        self._session = client.session
        self._blob = blob
        self._path = path
        self._mount_from = mount_from
        self._disk = disk
        self._limits = limits
        self._on_progress = on_progress
        self._part_bytes = limits.part_bytes_of(blob.size)
        self._place = ""  # where the session goes on; "" without a session
        self._at = 0  # bytes that the registry has, or has been told where to find
        self._sent: dict[int, int] = {}  # by where a part begins: how much of it has left
        self._sums: dict[int, bytes] = {}  # by the same: the MD5 of a part that was sent whole
        self._is_spread = False  # parts of this session lie elsewhere, so it cannot be gone on with
        self._unreadable: CorralError | None = None  # what kept a body from being read; aiohttp would hide it

    async def run(self) -> None:
        """Sees to it that the registry has the blob. Raises RegistryError, StoreError."""
        try:
            if not await self._client.has_blob(self._blob.digest):
                await self._send()
        except RegistryError as exc:
            raise RegistryError(f"pushing {self._blob.digest[7:19]}: {exc}") from exc
        self._on_progress(self._blob.size)

    async def _send(self) -> None:
        """Tries until it is there. Gives up after `blob_tries` tries in a row that gained nothing."""
        failures, furthest = 0, 0
        while True:
            try:
                if not self._place and await self._begin():
                    return
                await self._send_parts()
                await self._commit()
            except RegistryTransientError as exc:
                failures = 1 if self._at > furthest else failures + 1
                furthest = max(furthest, self._at)
                if failures >= self._limits.blob_tries:
                    raise
                await self._limits.wait(failures, exc)
                if await self._is_there_after_all():
                    return
                await self._find_place(exc)
            else:
                return

    async def _begin(self) -> bool:
        """Begins a session; true where the registry needs none, because it had the blob in another repository."""
        query = f"?{urlencode({'mount': self._blob.digest, 'from': self._mount_from})}" if self._mount_from else ""
        mounts, self._mount_from = bool(self._mount_from), ""
        url = f"{self._client.repository_url}/blobs/uploads/{query}"
        self._at, self._sent, self._sums, self._is_spread = 0, {}, {}, False
        async with self._session.request("POST", url, total_s=self._limits.answer_s) as response:
            if not (mounts and 400 <= response.status < 500):
                await self._session.check(response)
                if response.status == 201:
                    return True
                self._place = self._next_place(response)
                return False
        return await self._begin()  # the other repository may not be ours to see

    async def _is_there_after_all(self) -> bool:
        """A commit whose answer was lost has worked all the same."""
        try:
            return self._at >= self._blob.size and await self._client.has_blob(self._blob.digest)
        except RegistryTransientError:
            return False

    async def _find_place(self, failure: RegistryTransientError) -> None:
        """Asks the session how far it got; without an answer, or with parts elsewhere, the next try begins a new one."""
        place, self._place = self._place, ""
        if not place or self._is_spread or isinstance(failure, _SessionLostError):
            return
        try:
            async with self._session.request("GET", place, total_s=self._limits.answer_s) as response:
                found = _RANGE.fullmatch(response.headers.get("Range", ""))
                there = int(found[1]) + 1 if found and int(found[1]) else 0  # "0-0" is what an empty session says
                if response.status in (202, 204) and found and there <= self._blob.size:
                    self._at, self._sums, self._sent = there, {}, {0: there} if there else {}
                    self._place = self._next_place(response, otherwise=place)
        except RegistryTransientError:
            return

    def _next_place(self, response: "aiohttp.ClientResponse", *, otherwise: str = "") -> str:
        """Where the session goes on, as its last answer says."""
        location = response.headers.get("Docker-Upload-Location") or response.headers.get("Location")
        if location:
            return self._session.target(str(response.url), location, method=response.method)
        if not otherwise:
            raise RegistryError("the registry began an upload and did not say where it goes on")
        return otherwise

    async def _send_parts(self) -> None:
        """Sends what the registry lacks."""
        slots = asyncio.Semaphore(self._limits.connections)
        try:
            async with asyncio.TaskGroup() as tasks:
                while self._at < self._blob.size:
                    start, end = self._at, min(self._at + self._part_bytes, self._blob.size)
                    async with slots:
                        elsewhere = await self._patch(start, end)
                    if elsewhere:
                        await slots.acquire()
                        part = self._put_elsewhere(elsewhere, start, end)
                        task = tasks.create_task(part, name=f"push-{self._blob.digest[7:19]}-{start}")
                        task.add_done_callback(lambda _: slots.release())
        except ExceptionGroup as group:
            raise first_of(group) from group

    async def _patch(self, start: int, end: int) -> str:
        """Sends a part; gives the place where it is to be put instead, or ""."""

        async def settle(response: "aiohttp.ClientResponse") -> str:
            self._refuse_if_lost(response)
            redirect = response.headers.get("Location", "") if response.status in (307, 308) else ""
            if not redirect:
                await self._session.check(response)
                self._place = self._next_place(response, otherwise=self._place)
                return ""
            elsewhere = self._session.target(str(response.url), redirect, method="PATCH")
            if "Docker-Upload-Location" in response.headers:
                self._place = self._next_place(response)
            self._is_spread = True
            self._sent.pop(start, None)
            return elsewhere

        headers = {"Content-Range": f"{start}-{end - 1}", "X-Redirect-Uploads": "1"}
        elsewhere = await self._send_part("PATCH", self._place, start, end, headers, settle)
        self._at = end
        return elsewhere

    async def _put_elsewhere(self, url: str, start: int, end: int) -> None:
        async def attempt() -> None:
            await self._send_part("PUT", url, start, end, {}, self._session.check)

        await self._limits.retrying(self._limits.blob_tries, attempt)

    async def _commit(self) -> None:
        """Ends the session: the registry checks what it has against the digest."""
        query = f"digest={quote(self._blob.digest, safe='')}"
        if parts := self._sums_of_all():
            whole = hashlib.md5(b"".join(parts), usedforsecurity=False).hexdigest()
            query += f"&etag={whole}-{len(parts)}"
        url = self._place + ("&" if "?" in self._place else "?") + query
        headers = {"Content-Type": "application/octet-stream", "Content-Length": "0"}
        async with self._session.request("PUT", url, headers, total_s=self._limits.commit_s) as response:
            self._refuse_if_lost(response)
            await self._session.check(response)

    def _refuse_if_lost(self, response: "aiohttp.ClientResponse") -> None:
        if response.status in _LOST and self._session.is_own(str(response.url)):
            raise _SessionLostError(f"the registry has lost the upload ({response.status})")

    def _sums_of_all(self) -> list[bytes]:
        """The parts' MD5 sums in order, if each was sent whole in this session: what an object store names the blob by."""
        starts = range(0, self._blob.size, self._part_bytes)
        return [self._sums[start] for start in starts] if all(start in self._sums for start in starts) else []

    async def _send_part(
        self,
        method: str,
        url: str,
        start: int,
        end: int,
        headers: dict[str, str],
        settle: Callable[["aiohttp.ClientResponse"], Awaitable[T]],
    ) -> T:
        """What `settle` makes of the answer to a request with that part of the file as its body.

        Raises RegistryTransientError where the server stops taking it, StoreError where the file cannot be read.
        """
        headers = {**headers, "Content-Type": "application/octet-stream", "Content-Length": str(end - start)}
        try:
            async with asyncio.timeout(self._limits.stall_s) as stalled:
                async with self._session.request(method, url, headers, body=self._body(start, end, stalled)) as response:
                    return await settle(response)
        except (RegistryError, TimeoutError) as exc:
            self._sent.pop(start, None)
            if self._unreadable:
                raise self._unreadable from exc
            if isinstance(exc, RegistryError):
                raise
            text = f'{method.title()} "{shown_url(url)}": the server stopped taking data: i/o timeout'
            raise RegistryTransientError(text) from exc

    def _body(self, start: int, end: int, stalled: asyncio.Timeout) -> Body:
        now = asyncio.get_running_loop().time

        async def pieces() -> AsyncIterator[bytes]:
            checksum = hashlib.md5(usedforsecurity=False)
            at = start
            while at < end:
                data = await self._read(at, min(READ_BYTES, end - at))
                checksum.update(data)
                at += len(data)
                if at == end:  # before the last piece goes: its answer may be quicker than what follows here
                    self._sums[start] = checksum.digest()
                yield data
                stalled.reschedule(now() + self._limits.stall_s)
                self._sent[start] = at - start
                self._on_progress(sum(self._sent.values()))
            stalled.reschedule(now() + self._limits.answer_s)

        return pieces

    async def _read(self, at: int, size_bytes: int) -> bytes:
        try:
            data = await self._disk.read_range(self._path, at, size_bytes)
        except StoreError as exc:
            self._unreadable = exc
            raise
        if len(data) < size_bytes:
            self._unreadable = StoreError(f"{self._path} became shorter while it was pushed; pull or create the model again")
            raise self._unreadable
        return data
