"""Requests to one registry: its credentials, its redirects, and answers whose size nobody has promised.

Credentials go to the registry's own origin and nowhere else, however it redirects; one parser, yarl's, decides both where a
request goes and whether that is the registry's own origin. What is asked for and what the answers mean is up to client.py and
uploads.py. aiohttp and yarl are imported when a session is opened: an idle server does without them.
"""

import asyncio
import base64
import secrets
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import msgspec

from corral.core.errors import RegistryError
from corral.registry.auth import Challenge, Signer
from corral.registry.failures import (
    RegistryTransientError,
    RegistryUnreachableError,
    retry_after_s,
    shown_url,
    translate,
)
from corral.registry.limits import MIB, Limits
from corral.registry.proxies import ProxyRules
from corral.wire.registry import TokenReply

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

T = TypeVar("T")
Origin: TypeAlias = tuple[str, str, int | None]  # scheme, host, port
Body: TypeAlias = bytes | Callable[[], AsyncIterator[bytes]]  # a callable, so that it can be sent once more

MAX_REDIRECTS: Final = 10
INFLATE_STEP_BYTES: Final = MIB // 4
_FEED_BYTES: Final = 4096
_PACKING_BYTES: Final = 64 * 1024
_GZIP: Final = 16 + zlib.MAX_WBITS
_TOKEN_SERVICES: Final[Mapping[Origin, Origin]] = {("https", "registry.ollama.ai", 443): ("https", "ollama.com", 443)}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_decode_token = msgspec.json.Decoder(TokenReply).decode


class Session:
    """What is known of one registry while something is fetched from it or sent to it."""

    def __init__(
        self,
        http: "aiohttp.ClientSession",
        base: str,
        *,
        insecure: bool,
        proxies: ProxyRules,
        limits: Limits,
        signer: Signer | None = None,
        may_fall_back: bool = False,
    ) -> None:
        """`base`: where the registry's `/v2/` is, with a password if it takes one.

        `may_fall_back`: http will do where nobody speaks https there.
        """
        self.base, self._authorization = without_password(base)
        self.allows_http = insecure or base.startswith("http:")
        self._http = http
        self._proxies = proxies
        self._limits = limits
        self._signer = signer
        self._may_fall_back = may_fall_back
        self._has_signed = False
        self._signing_in = asyncio.Lock()

    @property
    def host(self) -> str:
        """The registry as the user should read it."""
        return urlsplit(self.base).netloc

    async def either_scheme(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """What `attempt` gives; over http where nobody answers over https, if that is allowed. It takes its URL from `base`."""
        try:
            return await attempt()
        except RegistryUnreachableError:
            if not self._may_fall_back or not self.base.startswith("https:"):
                raise
            self.base = "http:" + self.base.removeprefix("https:")
            try:
                return await attempt()
            except RegistryUnreachableError:
                pass
            raise

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        body: Body | None = None,
        total_s: float | None = None,
    ) -> AsyncIterator["aiohttp.ClientResponse"]:
        """The answer, whatever its status. GET and HEAD follow redirects; a 401 of the registry leads to a token and once more.

        `total_s` bounds the whole exchange; without it only the silence of the server is bounded.
        """
        has_signed_in = False
        for _ in range(MAX_REDIRECTS):
            shown = self._authorization
            async with self._exchange(method, url, headers or {}, body, total_s) as response:
                if method in ("GET", "HEAD") and response.status in _REDIRECTS and (to := response.headers.get("Location")):
                    url = self.target(url, to, method=method)
                    continue
                asked = ", ".join(response.headers.getall("WWW-Authenticate", []))
                challenge = Challenge.parse(asked) if response.status == 401 else None
                if not challenge or has_signed_in or not self.is_own(url):
                    yield response
                    return
            has_signed_in = True
            await self._sign_in(challenge, refused=shown)
        raise RegistryError(f'{method.title()} "{shown_url(url)}": stopped after {MAX_REDIRECTS} redirects')

    def target(self, url: str, location: str, *, method: str = "GET") -> str:
        """Where an answer of `url` leads. Raises RegistryError where it may not lead there."""
        return redirect_target(url, location, insecure=self.allows_http, method=method)

    def is_own(self, url: str) -> bool:
        """Whether credentials may go there."""
        from yarl import URL

        try:
            return _origin(URL(url, encoded=True)) == _origin(URL(self.base, encoded=True))
        except ValueError:
            return False

    async def check(self, response: "aiohttp.ClientResponse") -> None:
        """Raises what a status beyond 2xx means."""
        status = response.status
        if 200 <= status < 300:
            return
        is_own = self.is_own(str(response.url))
        said = (await beginning(response, 500)).decode(errors="replace").strip()
        text = f"{status}: {said or response.reason or 'no reason given'}"
        if status == 404 and is_own:
            raise RegistryError("file does not exist")
        if status == 401 and is_own:
            raise RegistryError(f"unauthorized: access denied ({text}); {self._advice()}")
        if status in _TRANSIENT:
            raise RegistryTransientError(text, wait_s=retry_after_s(response.headers.get("Retry-After", ""), time.time()))
        if not is_own and status in (401, 403):  # a signed place has run out: the registry gives a new one
            raise RegistryTransientError(text)
        if status in _REDIRECTS:
            raise RegistryError(f"{self.host} answers with a redirect to {shown_url(response.headers.get('Location', ''))!r}")
        raise RegistryError(text)

    def _advice(self) -> str:
        if self._has_signed and self._signer:
            return f"{self.host} does not let this machine's key in: add {self._signer.public_path} to your account there"
        return f"{self.host} asks for a sign-in that this server does not know; only public models can be had without one"

    @asynccontextmanager
    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None, total_s: float | None
    ) -> AsyncIterator["aiohttp.ClientResponse"]:
        own = {"Authorization": self._authorization} if self._authorization and self.is_own(url) else {}
        with translated(method, url):
            async with await self._send(method, url, {**headers, **own}, body, total_s) as response:
                yield response

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None, total_s: float | None
    ) -> "aiohttp.ClientResponse":
        import aiohttp
        from yarl import URL

        limits = self._limits
        timeout = aiohttp.ClientTimeout(total=total_s, connect=limits.connect_s, sock_read=total_s or limits.stall_s)
        try:  # a signed URL is only good as it was given: `encoded` keeps every character of it
            return await self._http.request(
                method,
                URL(url, encoded=True),
                headers=headers,
                data=body() if callable(body) else body,
                proxy=self._proxies.proxy_for(url),
                allow_redirects=False,
                timeout=timeout,
            )
        except aiohttp.ClientConnectorCertificateError:  # a ValueError, too
            raise
        except ValueError as exc:  # what cannot be a URL, also of a proxy
            raise RegistryError(f'{method.title()} "{shown_url(url)}": {exc}') from exc

    async def _sign_in(self, challenge: Challenge, *, refused: str) -> None:
        """Fills in the credentials for what follows, or leaves them empty: the registry's own refusal says more."""
        self._check_realm(challenge.realm)
        async with self._signing_in:
            if self._authorization != refused:  # another request has signed in meanwhile
                return
            self._authorization = ""
            token = await self._token_by_signature(challenge) or await self._token(challenge.url())
            self._authorization = f"Bearer {token}" if token else ""

    def _check_realm(self, realm: str) -> None:
        """Raises RegistryError where nobody may be asked for a token there."""
        asked = f"{self.host} asks to sign in at {shown_url(realm[:200])!r}"
        try:
            parts = urlsplit(realm)
            has_place = parts.port != 0 and bool(parts.hostname)
        except ValueError as exc:
            raise RegistryError(f"{asked}, which is no URL: {exc}") from exc
        if parts.scheme not in ("http", "https"):
            raise RegistryError(f'{asked}: unsupported protocol scheme "{parts.scheme}"')
        if not has_place:
            raise RegistryError(f"{asked}, which names no host")
        if parts.scheme != "https" and not self.allows_http:
            raise RegistryError("insecure protocol http")

    async def _token_by_signature(self, challenge: Challenge) -> str:
        """A token for this machine's key; "" where there is none to be had. Only the registry's own host sees a signature."""
        if not self._signer or not self.may_see_signature(challenge.realm):
            return ""
        url = challenge.url(ts=str(int(time.time())), nonce=secrets.token_urlsafe(16))
        signature = await self._signer.sign_get(url)
        if not signature:
            return ""
        self._has_signed = True
        return await self._token(url, {"Authorization": signature})

    def may_see_signature(self, realm: str) -> bool:
        """Whether that token service is the registry's: on its host, or where its operator is known to have it."""
        from yarl import URL

        try:
            asked, own = URL(realm, encoded=True), URL(self.base, encoded=True)
        except ValueError:
            return False
        if asked.user:  # a password is what it wants
            return False
        return _origin(asked)[1:] == _origin(own)[1:] or _origin(asked) == _TOKEN_SERVICES.get(_origin(own))

    async def _token(self, url: str, headers: Mapping[str, str] | None = None) -> str:
        async with self._exchange("GET", url, headers or {}, None, self._limits.answer_s) as response:
            if response.status != 200:
                return ""
            body = await whole(response, MIB, "the token service's answer")
        try:
            reply = _decode_token(body)
        except msgspec.MsgspecError as exc:
            raise RegistryError(f'Get "{shown_url(url)}": the token service gave no token: {exc}') from exc
        return reply.token or reply.access_token


def without_password(url: str) -> tuple[str, str]:
    """The URL alone, and the Authorization header that its user and password make.

    >>> without_password("https://me:word@mirror.example/models"), without_password("https://mirror.example")
    (('https://mirror.example/models', 'Basic bWU6d29yZA=='), ('https://mirror.example', ''))
    """
    parts = urlsplit(url)
    userinfo, at, place = parts.netloc.rpartition("@")
    header = f"Basic {base64.b64encode(unquote(userinfo).encode()).decode()}" if at else ""
    return urlunsplit(parts._replace(netloc=place)), header


def redirect_target(url: str, location: str, *, insecure: bool, method: str = "GET") -> str:
    """Where an answer of `url` leads. Raises RegistryError where it may not lead there."""
    try:
        target = urljoin(url, location)
        scheme = urlsplit(target).scheme
    except ValueError as exc:
        raise RegistryError(f'{method.title()} "{shown_url(url)}": redirected to {location[:200]!r}: {exc}') from exc
    if scheme not in ("http", "https"):
        raise RegistryError(f'{method.title()} "{shown_url(url)}": unsupported protocol scheme "{scheme}"')
    if scheme == "http" and not insecure:
        raise RegistryError("insecure protocol http")
    return target


@contextmanager
def translated(method: str, url: str) -> Iterator[None]:
    """aiohttp's errors as ours."""
    import aiohttp

    try:
        yield
    except (aiohttp.ClientError, TimeoutError) as exc:
        raise translate(exc, url, method=method) from exc


async def pieces(response: "aiohttp.ClientResponse") -> AsyncIterator[bytes]:
    """The body as it comes, unpacked where a server has compressed it although it was asked not to."""
    url = str(response.url)
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise RegistryError(
            f'{response.method.title()} "{shown_url(url)}": the answer is in {encoding!r}, which nobody asked for'
        )
    with translated(response.method, url):
        if encoding in ("", "identity"):
            async for data in response.content.iter_any():
                yield data
            return
        inflated = _Inflated(url)
        async for data in response.content.iter_any():
            for piece in inflated.feed(data):
                yield piece


class _Inflated:
    """A gzip stream of one member or several, unpacked in steps of bounded size.

    Packing that brings next to nothing, such as empty members without end, is refused: no clock would notice it.
    """

    def __init__(self, url: str) -> None:
        self._member = zlib.decompressobj(wbits=_GZIP)
        self._url = url
        self._credit_bytes = _PACKING_BYTES  # that may come in before enough must have come out

    def feed(self, data: bytes) -> Iterator[bytes]:
        for at in range(0, len(data), _FEED_BYTES):  # zlib copies what it leaves at every member: so, little
            yield from self._fed(data[at : at + _FEED_BYTES])

    def _fed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._member.eof:
                self._member = zlib.decompressobj(wbits=_GZIP)
            try:
                piece = self._member.decompress(data, INFLATE_STEP_BYTES)
            except zlib.error as exc:
                raise RegistryError(f'Get "{shown_url(self._url)}": the answer is no gzip, though it says so: {exc}') from exc
            left = self._member.unconsumed_tail or self._member.unused_data
            self._account(len(data) - len(left), len(piece))
            data = left
            if piece:
                yield piece

    def _account(self, packed_bytes: int, unpacked_bytes: int) -> None:
        self._credit_bytes = min(_PACKING_BYTES, self._credit_bytes - packed_bytes + 2 * unpacked_bytes)
        if self._credit_bytes < 0:
            raise RegistryError(f'Get "{shown_url(self._url)}": the answer is gzip with next to nothing in it')


async def whole(response: "aiohttp.ClientResponse", limit_bytes: int, what: str) -> bytes:
    """The body, if it is no larger than that. Raises RegistryError, naming `what`, for a larger one."""
    body = bytearray()
    async for data in pieces(response):
        body += data
        if len(body) > limit_bytes:
            raise RegistryError(f"{what} is larger than {limit_bytes} bytes; that is not believable")
    return bytes(body)


async def beginning(response: "aiohttp.ClientResponse", size_bytes: int) -> bytes:
    """The first part of the body, to be shown; what comes at once is enough."""
    with translated(response.method, str(response.url)):
        return (await response.content.read(size_bytes))[:size_bytes]


def _origin(url: "URL") -> Origin:
    return url.scheme.lower(), (url.host or "").lower(), url.port  # yarl knows the ports that go without saying
