"""A registry on loopback that serves the models it is given, and misbehaves as a test asks it to."""

import hashlib
import json
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from aiohttp import web

MODEL = "application/vnd.ollama.image.model"
LICENSE = "application/vnd.ollama.image.license"
CONFIG = "application/vnd.docker.container.image.v1+json"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"

Fault = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    path: str
    query: str
    headers: dict[str, str]
    method: str = "GET"


@dataclass
class FakeRegistry:
    """Behaves well unless told otherwise; each fault is used up by one request. An async context manager."""

    has_ranges: bool = True
    blobs_at: str = ""  # where blobs are redirected to, for example "http://localhost:1234"
    token: str = ""  # what a client must show, and can have from /token
    token_uses: int = 10**9  # requests that a token is good for
    token_at: str = ""  # where tokens are to be had, if not here
    signatures: list[tuple[str, str]] = field(default_factory=list)  # the whole URL of each token request, and its signature
    etag: str = ""
    tls: ssl.SSLContext | None = None
    manifest_faults: deque[Fault] = field(default_factory=deque)
    blob_faults: deque[Fault] = field(default_factory=deque)
    manifests: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    port: int = 0

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 30)
        self.add_routes(app.router)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self.tls)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        await self._runner.cleanup()

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/v2/{repository:.+}/manifests/{tag}", self._manifest)
        router.add_get("/v2/{repository:.+}/blobs/{digest}", self._blob)
        router.add_get("/token", self._token)

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    def name(self, path: str = "library/tiny:latest") -> str:
        """A model's name as a user would type it."""
        return f"{self.url}/{path}"

    def add(self, *layers: bytes, path: str = "library/tiny", tag: str = "latest", config: bytes = b"{}\n") -> bytes:
        """Adds a model whose first layer is its GGUF; returns the manifest."""

        def entry(kind: str, data: bytes) -> dict[str, object]:
            self.blobs[digest_of(data)] = data
            return {"mediaType": kind, "digest": digest_of(data), "size": len(data)}

        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": entry(CONFIG, config),
            "layers": [entry(LICENSE if n else MODEL, data) for n, data in enumerate(layers)],
        }
        self.manifests[f"{path}:{tag}"] = json.dumps(manifest, separators=(",", ":")).encode()
        return self.manifests[f"{path}:{tag}"]

    def blob_requests(self) -> list[Seen]:
        return [seen for seen in self.seen if "/blobs/" in seen.path]

    def note(self, request: web.Request) -> web.StreamResponse | None:
        """Remembers the request; the refusal of one that shows no good token."""
        self.seen.append(Seen(request.path, request.rel_url.raw_query_string, dict(request.headers), request.method))
        if not self.token:
            return None
        if request.headers.get("Authorization") == f"Bearer {self.token}" and self.token_uses > 0:
            self.token_uses -= 1
            return None
        challenge = f'Bearer realm="{self.token_at or self.url}/token",service="fake",scope="pull"'
        return web.json_response({"errors": [{"code": "UNAUTHORIZED"}]}, status=401, headers={"WWW-Authenticate": challenge})

    async def _token(self, request: web.Request) -> web.StreamResponse:
        self.signatures.append((str(request.url), request.headers.get("Authorization", "")))
        assert (request.query["service"], request.query["scope"]) == ("fake", "pull")
        self.token_uses = max(self.token_uses, 3)
        return web.json_response({"token": self.token})

    async def _manifest(self, request: web.Request) -> web.StreamResponse:
        if refusal := self.note(request):
            return refusal
        manifest = self.manifests.get(f"{request.match_info['repository']}:{request.match_info['tag']}")
        if self.manifest_faults:
            return await self.manifest_faults.popleft()(request, manifest or b"")
        if manifest is None:
            return web.json_response({"errors": [{"code": "MANIFEST_UNKNOWN"}]}, status=404)
        return web.Response(body=manifest, content_type=MANIFEST)

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        if refusal := self.note(request):
            return refusal
        if self.blobs_at:
            return web.Response(status=307, headers={"Location": f"{self.blobs_at}{request.path}?signature=a%2Fb%3D"})
        data = self.blobs.get(request.match_info["digest"])
        if data is None:
            return web.json_response({"errors": [{"code": "BLOB_UNKNOWN"}]}, status=404)
        if self.blob_faults:
            return await self.blob_faults.popleft()(request, data)
        return self.answer(request, data)

    def answer(self, request: web.Request, data: bytes) -> web.Response:
        """The blob, or the range of it that is asked for."""
        wanted = request.http_range
        etag = {"ETag": self.etag} if self.etag else {}
        if not self.has_ranges or wanted.start is None:
            return web.Response(body=data, headers=etag)
        start, end = wanted.start, min(wanted.stop or len(data), len(data))
        headers = {"Content-Range": f"bytes {start}-{end - 1}/{len(data)}", **etag}
        return web.Response(status=206, body=data[start:end], headers=headers)


def status(code: int, body: str = "no", **headers: str) -> Fault:
    """Answers with a status. Header names are spelled with `_` for `-`."""

    async def fault(_request: web.Request, _data: bytes) -> web.StreamResponse:
        return web.Response(status=code, text=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return fault


def cut_after(size_bytes: int) -> Fault:
    """Sends so many bytes of the whole blob, or of the range asked for, and closes the connection."""

    async def fault(request: web.Request, data: bytes) -> web.StreamResponse:
        response = await _begin(request, data)
        start = request.http_range.start or 0
        await response.write(data[start : start + size_bytes])
        assert request.transport
        request.transport.close()
        return response

    return fault


def stall_after(size_bytes: int, gate: Callable[[], Awaitable[object]]) -> Fault:
    """Sends so many bytes and then nothing until `gate()` ends."""

    async def fault(request: web.Request, data: bytes) -> web.StreamResponse:
        response = await _begin(request, data)
        start = request.http_range.start or 0
        await response.write(data[start : start + size_bytes])
        await gate()
        return response

    return fault


def send(other: bytes) -> Fault:
    """Sends these bytes instead, as if they were the blob."""

    async def fault(_request: web.Request, _data: bytes) -> web.StreamResponse:
        return web.Response(body=other)

    return fault


async def _begin(request: web.Request, data: bytes) -> web.StreamResponse:
    wanted = request.http_range
    start, end = wanted.start or 0, min(wanted.stop or len(data), len(data))
    response = web.StreamResponse(status=206, headers={"Content-Range": f"bytes {start}-{end - 1}/{len(data)}"})
    response.content_length = end - start
    await response.prepare(request)
    return response
