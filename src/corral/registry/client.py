"""Ollama's registry protocol for one model: its manifest, and where its blobs are to be had.

A registry may redirect a blob to another host or answer it itself, with or without support for ranges, and a registry may stand
in for another one. What to fetch or to send, when to try again and where the bytes go is up to transfer.py and uploads.py;
credentials and redirects are session.py's.
"""

import platform
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corral import __version__
from corral.core.aio import ThreadLimiter
from corral.core.errors import RegistryError
from corral.registry.failures import RegistryUnreachableError, shown_url
from corral.registry.identity import Identity
from corral.registry.limits import MIB, Limits
from corral.registry.partial import Origin
from corral.registry.proxies import ProxyRules
from corral.registry.session import Session, pieces, whole
from corral.store import ModelName
from corral.wire.registry import MANIFEST_TYPE

if TYPE_CHECKING:
    import aiohttp

_MACHINE: Final = f"{platform.machine()} {platform.system().lower()}"
USER_AGENT: Final = f"corral/{__version__} ({_MACHINE}) Python/{platform.python_version()}"
MAX_MANIFEST_BYTES: Final = 4 * MIB
_SAME_REGISTRY: Final = {"hf.co": "https://huggingface.co"}  # the short name's sign-in is at the long one: ollama#15661
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How this machine gets to registries."""

    env: Mapping[str, str] = field(default_factory=dict)  # the proxy settings, and HOME
    limits: Limits = field(default_factory=Limits)
    mirrors: Mapping[str, str] = field(default_factory=dict)  # by host: the URL that is pulled from in its place

    @property
    def home(self) -> Path:
        return Path(self.env["HOME"]) if self.env.get("HOME") else Path.home()

    def base_url(self, name: ModelName, *, insecure: bool, pushes: bool = False) -> str:
        """Where the registry of this name is. Without `insecure`, https is used whatever the name says, as Ollama does."""
        host = name.host.lower()
        if host in self.mirrors and not pushes:
            return self.mirrors[host]
        if insecure and name.scheme == "http":
            return f"http://{name.host}"
        return _SAME_REGISTRY.get(host, f"https://{name.host}")

    def may_fall_back(self, name: ModelName, *, insecure: bool, pushes: bool = False) -> bool:
        """Whether http will do where https is not spoken: only if the user allows it and has not said which it should be."""
        return insecure and not name.scheme and (pushes or name.host.lower() not in self.mirrors)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a blob's bytes come from, once redirects are followed."""

    url: str
    has_ranges: bool
    origin: Origin


class RegistryClient:
    """A connection to the registry of one model's name; made by `connect`."""

    def __init__(self, session: Session, name: ModelName, limits: Limits) -> None:
        self.session = session
        self._name = name
        self._limits = limits

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, name: ModelName, reach: Reach, threads: ThreadLimiter, *, insecure: bool = False, pushes: bool = False
    ) -> AsyncIterator["RegistryClient"]:
        """A client for as long as the block runs. `insecure` allows http and bad certificates; `threads` read files."""
        import aiohttp

        limits = reach.limits
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=not insecure),
            timeout=aiohttp.ClientTimeout(total=None, connect=limits.connect_s, sock_read=limits.stall_s),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        ) as http:
            session = Session(
                http,
                reach.base_url(name, insecure=insecure, pushes=pushes),
                insecure=insecure,
                proxies=ProxyRules(reach.env),
                limits=limits,
                signer=Identity(reach.home, threads),
                may_fall_back=reach.may_fall_back(name, insecure=insecure, pushes=pushes),
            )
            yield cls(session, name, limits)

    @property
    def repository_url(self) -> str:
        return f"{self.session.base}/v2/{self.repository}"

    @property
    def repository(self) -> str:
        return f"{self._name.namespace}/{self._name.model}"

    def blob_url(self, digest: str) -> str:
        return f"{self.repository_url}/blobs/{digest}"

    async def manifest(self) -> bytes:
        """The manifest, byte for byte.

        Raises RegistryUnreachableError at once where nobody answers; other failures that may pass are tried again.
        """
        return await self.session.either_scheme(self._manifest)

    async def _manifest(self) -> bytes:
        return await self._limits.retrying(self._limits.manifest_tries, self._manifest_once, but=RegistryUnreachableError)

    async def _manifest_once(self) -> bytes:
        headers = {"Accept": MANIFEST_TYPE}
        async with self.session.request("GET", self._manifest_url, headers, total_s=self._limits.answer_s) as response:
            await self.session.check(response)
            return await whole(response, MAX_MANIFEST_BYTES, "the manifest")

    async def put_manifest(self, manifest: bytes) -> None:
        """Makes the model on the registry, once all its blobs are there. Raises RegistryError."""

        async def attempt() -> None:
            headers = {"Content-Type": MANIFEST_TYPE}
            async with self.session.request(
                "PUT", self._manifest_url, headers, body=manifest, total_s=self._limits.answer_s
            ) as response:
                await self.session.check(response)

        await self._limits.retrying(self._limits.blob_tries, attempt)

    async def has_blob(self, digest: str) -> bool:
        """Whether the registry has it. Raises RegistryUnreachableError at once where nobody answers, and RegistryError."""
        return await self.session.either_scheme(lambda: self._has_blob(digest))

    async def _has_blob(self, digest: str) -> bool:
        async def attempt() -> bool:
            async with self.session.request("HEAD", self.blob_url(digest), total_s=self._limits.answer_s) as response:
                if response.status == 404:
                    return False
                await self.session.check(response)
                return True

        return await self._limits.retrying(self._limits.manifest_tries, attempt, but=RegistryUnreachableError)

    async def locate(self, digest: str, size_bytes: int) -> Source:
        """Where the blob's bytes are. Asks for one byte, which also shows whether ranges are understood."""
        async with self.session.request("GET", self.blob_url(digest), {"Range": "bytes=0-0"}) as response:
            await self.session.check(response)
            _check_size(response, size_bytes)
            etag = response.headers.get("ETag", "")
            origin = Origin(f"{response.url.host}:{response.url.port}", "" if etag.startswith("W/") else etag)
            return Source(str(response.url), response.status == 206, origin)

    @asynccontextmanager
    async def read(self, url: str, start: int, end: int, size_bytes: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of a blob of that size from `start` up to, not including, `end`, also from a server that ignores ranges.

        The iterator ends early, without an error, where the server does: count what comes.
        """
        async with self.session.request("GET", url, {"Range": f"bytes={start}-{end - 1}"}) as response:
            await self.session.check(response)
            _check_size(response, size_bytes)
            skip = start
            if response.status == 206:
                content_range = response.headers.get("Content-Range", "")
                found = _CONTENT_RANGE.fullmatch(content_range)
                if not found or int(found[1]) != start:
                    raise RegistryError(f'Get "{shown_url(url)}": asked for bytes {start}-{end - 1}, got {content_range!r}')
                if response.headers.get("Content-Encoding", "identity") != "identity":
                    raise RegistryError(f'Get "{shown_url(url)}": a range of a compressed blob, which nobody asked for')
                skip = 0
            yield _cut(response, skip, end - start)

    @property
    def _manifest_url(self) -> str:
        return f"{self.repository_url}/manifests/{self._name.tag}"


def _check_size(response: "aiohttp.ClientResponse", size_bytes: int) -> None:
    """Raises RegistryError where the answer shows that the blob is not as large as the manifest says."""
    found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "")) if response.status == 206 else None
    if found:
        there = int(found[3]) if found[3] != "*" else size_bytes
    elif response.status == 200 and "Content-Encoding" not in response.headers:
        there = response.content_length if response.content_length is not None else size_bytes
    else:
        return
    if there != size_bytes:
        raise RegistryError(f"the manifest gives it {size_bytes} bytes, and the registry has {there}: one of them is wrong")


async def _cut(response: "aiohttp.ClientResponse", skip: int, size: int) -> AsyncIterator[bytes]:
    """`size` bytes of the body after the first `skip`."""
    if not size:
        return
    async for data in pieces(response):
        kept = data[skip : skip + size]
        skip = max(0, skip - len(data))
        size -= len(kept)
        if kept:
            yield kept
        if not size:
            return
