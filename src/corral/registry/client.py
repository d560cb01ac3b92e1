"""Ollama's registry protocol, the pulling half: a model's manifest, and its blobs in ranges.

One client speaks for one model. Credentials go to the registry's own origin and nowhere else, however it redirects.
A registry may redirect a blob to another host or answer it itself, with or without support for ranges.
What to fetch, when to try again and where the bytes go is up to transfer.py.
aiohttp is imported when a client is opened: an idle server does without it.
"""

import platform
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin, urlsplit

import msgspec

from corral import __version__
from corral.core.errors import RegistryError
from corral.registry.auth import Challenge
from corral.registry.failures import RegistryTransientError, RegistryUnreachableError, translate, without_query
from corral.registry.limits import MIB, Limits
from corral.registry.proxies import ProxyRules
from corral.store import ModelName
from corral.wire.registry import MANIFEST_TYPE, TokenReply

if TYPE_CHECKING:
    import aiohttp

_MACHINE: Final = f"{platform.machine()} {platform.system().lower()}"
USER_AGENT: Final = f"corral/{__version__} ({_MACHINE}) Python/{platform.python_version()}"
MAX_REDIRECTS: Final = 10
MAX_MANIFEST_BYTES: Final = 4 * MIB
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_decode_token = msgspec.json.Decoder(TokenReply).decode


@dataclass(frozen=True, slots=True)
class Source:
    """Where a blob's bytes come from, once redirects are followed."""

    url: str
    has_ranges: bool


class RegistryClient:
    """A connection to the registry of one model's name; made by `connect`."""

    def __init__(
        self, session: "aiohttp.ClientSession", name: ModelName, *, insecure: bool, proxies: ProxyRules, limits: Limits
    ) -> None:
        self._session = session
        self._name = name
        self._insecure = insecure
        self._proxies = proxies
        self._limits = limits
        self._base = f"{'http' if insecure and name.scheme == 'http' else 'https'}://{name.host}"
        self._authorization = ""

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, name: ModelName, *, insecure: bool = False, env: Mapping[str, str] | None = None, limits: Limits | None = None
    ) -> AsyncIterator["RegistryClient"]:
        """A client for as long as the block runs. `env` has the proxy settings; `insecure` allows http and bad certificates.

        Without `insecure`, https is used whatever the name says, as Ollama does.
        """
        import aiohttp

        limits = limits or Limits()
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=not insecure),
            timeout=aiohttp.ClientTimeout(total=None, connect=limits.connect_s, sock_read=limits.stall_s),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        ) as session:
            yield cls(session, name, insecure=insecure, proxies=ProxyRules(env or {}), limits=limits)

    async def manifest(self) -> bytes:
        """The manifest, byte for byte.

        Raises RegistryUnreachableError at once where nobody answers; other failures that may pass are tried again.
        """
        try:
            return await self._manifest()
        except RegistryUnreachableError:
            if not self._insecure or self._name.scheme or self._base.startswith("http:"):
                raise
            self._base = f"http://{self._name.host}"
            try:
                return await self._manifest()
            except RegistryUnreachableError:
                pass
            raise

    async def _manifest(self) -> bytes:
        return await self._limits.retrying(self._limits.manifest_tries, self._manifest_once, but=RegistryUnreachableError)

    async def _manifest_once(self) -> bytes:
        async with self._get(f"{self._repository}/manifests/{self._name.tag}", {"Accept": MANIFEST_TYPE}) as response:
            await self._check(response)
            body = bytearray()
            async for data in response.content.iter_any():
                body += data
                if len(body) > MAX_MANIFEST_BYTES:
                    raise RegistryError(f"the manifest is larger than {MAX_MANIFEST_BYTES} bytes; this is no model")
            return bytes(body)

    async def locate(self, digest: str) -> Source:
        """Where the blob's bytes are. Asks for one byte, which also shows whether ranges are understood."""
        async with self._get(self.blob_url(digest), {"Range": "bytes=0-0"}) as response:
            await self._check(response)
            return Source(str(response.url), has_ranges=response.status == 206)

    def blob_url(self, digest: str) -> str:
        return f"{self._repository}/blobs/{digest}"

    @asynccontextmanager
    async def read(self, url: str, start: int, end: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes from `start` up to, not including, `end`, as they come; also from a server that ignores ranges.

        The iterator ends early, without an error, where the server does: count what comes.
        """
        async with self._get(url, {"Range": f"bytes={start}-{end - 1}"}) as response:
            await self._check(response)
            skip = start
            if response.status == 206:
                content_range = response.headers.get("Content-Range", "")
                found = _CONTENT_RANGE.fullmatch(content_range)
                if not found or int(found[1]) != start:
                    raise RegistryError(f'Get "{without_query(url)}": asked for bytes {start}-{end - 1}, got {content_range!r}')
                skip = 0
            yield _cut(response, skip, end - start)

    @property
    def _repository(self) -> str:
        return f"{self._base}/v2/{self._name.namespace}/{self._name.model}"

    @asynccontextmanager
    async def _get(self, url: str, headers: Mapping[str, str]) -> AsyncIterator["aiohttp.ClientResponse"]:
        """The answer after redirects and, where the registry asks for one, with an anonymous token."""
        asked_for_token = False
        for _ in range(MAX_REDIRECTS):
            async with self._get_once(url, headers) as response:
                if response.status in _REDIRECTS and (location := response.headers.get("Location")):
                    url = redirect_target(url, location, insecure=self._insecure)
                    continue
                challenge = Challenge.parse(response.headers.get("WWW-Authenticate", "")) if response.status == 401 else None
                if not challenge or asked_for_token or _origin(url) != self._base.lower():
                    yield response
                    return
            asked_for_token = True
            await self._ask_token(challenge)
        raise RegistryError(f'Get "{without_query(url)}": stopped after {MAX_REDIRECTS} redirects')

    @asynccontextmanager
    async def _get_once(self, url: str, headers: Mapping[str, str]) -> AsyncIterator["aiohttp.ClientResponse"]:
        with _translated(url):
            async with await self._send(url, headers) as response:
                yield response

    async def _send(self, url: str, headers: Mapping[str, str]) -> "aiohttp.ClientResponse":
        from yarl import URL

        own = {"Authorization": self._authorization} if self._authorization and _origin(url) == self._base.lower() else {}
        try:  # a signed URL is only good as it was given: `encoded` keeps every character of it
            return await self._session.get(
                URL(url, encoded=True), headers={**headers, **own}, proxy=self._proxies.proxy_for(url), allow_redirects=False
            )
        except ValueError as exc:  # what cannot be a URL, also of a proxy
            raise RegistryError(f'Get "{without_query(url)}": {exc}') from exc

    async def _ask_token(self, challenge: Challenge) -> None:
        """Fills in the credentials for what follows, or leaves them empty: the registry's own refusal says more."""
        if urlsplit(challenge.realm).scheme != "https" and not self._insecure:
            raise RegistryError("insecure protocol http")
        async with self._get_once(challenge.url, {}) as response:
            if response.status != 200:
                return
            body = await response.content.read(MIB)
        try:
            reply = _decode_token(body)
        except msgspec.MsgspecError as exc:
            raise RegistryError(f'Get "{without_query(challenge.url)}": the token service gave no token: {exc}') from exc
        if token := reply.token or reply.access_token:
            self._authorization = f"Bearer {token}"

    async def _check(self, response: "aiohttp.ClientResponse") -> None:
        """Raises what a status other than 200 and 206 means."""
        status = response.status
        if status in (200, 206):
            return
        elsewhere = _origin(str(response.url)) != self._base.lower()
        body = (await response.content.read(500)).decode(errors="replace").strip()
        text = f"{status}: {body or response.reason or 'no reason given'}"
        if status == 404 and not elsewhere:
            raise RegistryError("file does not exist")
        if status == 401 and not elsewhere:
            raise RegistryError(f"{text}: {self._name.host} asks for a sign-in; only public models can be pulled from it")
        if status in _TRANSIENT:
            raise RegistryTransientError(text, wait_s=_seconds(response.headers.get("Retry-After", "")))
        if elsewhere and status in (401, 403):  # a signed place has run out: the registry gives a new one
            raise RegistryTransientError(text)
        raise RegistryError(text)


def redirect_target(url: str, location: str, *, insecure: bool) -> str:
    """Where an answer of `url` leads. Raises RegistryError where it may not lead there."""
    target = urljoin(url, location)
    scheme = urlsplit(target).scheme
    if scheme not in ("http", "https"):
        raise RegistryError(f'Get "{without_query(url)}": unsupported protocol scheme "{scheme}"')
    if scheme == "http" and not insecure:
        raise RegistryError("insecure protocol http")
    return target


@contextmanager
def _translated(url: str) -> Iterator[None]:
    import aiohttp

    try:
        yield
    except (aiohttp.ClientError, TimeoutError) as exc:
        raise translate(exc, url) from exc


async def _cut(response: "aiohttp.ClientResponse", skip: int, size: int) -> AsyncIterator[bytes]:
    """`size` bytes of the body after the first `skip`."""
    with _translated(str(response.url)):
        async for data in response.content.iter_any():
            kept = data[skip : skip + size]
            skip = max(0, skip - len(data))
            size -= len(kept)
            if kept:
                yield kept
            if not size:
                return


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def _seconds(retry_after: str) -> float:
    """A Retry-After header in seconds; its other form, a date, counts as none."""
    return float(retry_after) if retry_after.strip().isdecimal() else 0.0
