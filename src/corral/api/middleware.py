"""Pure ASGI layers around every request: an id and one log line, then who may ask at all.

Both run before the body is read. Any Content-Type is taken here, so any web page could post a form to this server: the
Origin of a browser's request and, where the server listens on this machine alone, the Host it asked for are checked first.
Source: ollama@v0.32 server/routes.go allowedHostsMiddleware, envconfig/config.go AllowedOrigins; gin-contrib/cors.
"""

import ipaddress
import logging
import re
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from http import HTTPStatus
from typing import Final
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from corral.api.exchange import ERROR_KEY
from corral.core.log import request_id

log: Final = logging.getLogger("corral.access")

Headers = Sequence[tuple[bytes, bytes]]

_LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104  compared with, never listened on
_APP_SCHEMES: Final = ("app", "file", "tauri", "vscode-webview", "vscode-file")
_EXTENSION_SCHEMES: Final = ("chrome-extension", "safari-extension", "moz-extension", "ms-browser-extension")
_LOCAL_SUFFIXES: Final = (".localhost", ".local", ".internal")
_STAINLESS: Final = (
    "lang",
    "package-version",
    "os",
    "arch",
    "retry-count",
    "runtime",
    "runtime-version",
    "async",
    "helper-method",
    "poll-helper",
    "custom-poll-interval",
    "timeout",
)
_ALLOWED_HEADERS: Final = (
    "Authorization",
    "Content-Type",
    "User-Agent",
    "Accept",
    "X-Requested-With",
    "OpenAI-Beta",
    "x-api-key",
    "anthropic-version",
    "anthropic-beta",
    "anthropic-dangerous-direct-browser-access",
    "X-Client-Id",
    *(f"x-stainless-{name}" for name in _STAINLESS),
)
_PREFLIGHT: Final[Headers] = (
    (b"access-control-allow-methods", b"GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"),
    (b"access-control-allow-headers", ",".join(_ALLOWED_HEADERS).encode()),
    (b"access-control-max-age", b"43200"),
    (b"vary", b"Access-Control-Request-Method"),
    (b"vary", b"Access-Control-Request-Headers"),
)


class AccessLog:
    """Gives each request an id, and logs one line at its end: what was asked, what came of it, how long it took."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_ns = time.monotonic_ns()
        status = 0
        name = uuid4().hex[:16]
        token = request_id.set(name)

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", name.encode())]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            fields = {
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "duration_ms": round((time.monotonic_ns() - began_ns) / 1e6, 2),
            }
            if error := scope.get(ERROR_KEY):
                fields["error"] = error
            log.info("request", extra=fields)
            request_id.reset(token)


class Gatekeeper:
    """Answers 403 to browsers' pages and to host names that are not allowed, and browsers' questions about what is.

    A request without an Origin, or from the server's own pages, comes from no foreign page.
    """

    def __init__(self, app: ASGIApp, *, origins: Iterable[str] = (), listens_locally: bool = True) -> None:
        """`origins` are allowed beside the local ones and may hold `*`; `listens_locally` switches the check of Host on."""
        self._app = app
        given = tuple(origins)
        self._any_origin = "*" in given
        self._is_allowed = _matcher([*_default_origins(), *given])
        self._checks_host = listens_locally

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        origin, host = _header(scope, b"origin"), _header(scope, b"host")
        is_foreign = bool(origin) and origin not in (f"http://{host}", f"https://{host}")
        if is_foreign and not (self._any_origin or self._is_allowed(origin)):
            await _empty(send, 403)
        elif is_foreign and scope["method"] == "OPTIONS":
            await _empty(send, 204, [*self._origin_headers(origin), *_PREFLIGHT])
        elif self._checks_host and not is_local_host(host):
            await _empty(send, 403)
        elif self._checks_host and scope["method"] == "OPTIONS":
            await _empty(send, 204)
        else:
            await self._app(scope, receive, self._marked(send, origin) if is_foreign else send)

    def _origin_headers(self, origin: str) -> Headers:
        if self._any_origin:
            return [(b"access-control-allow-origin", b"*")]
        return [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin")]

    def _marked(self, send: Send, origin: str) -> Send:
        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._origin_headers(origin)]
            await send(message)

        return marked


def is_local_host(header: str) -> bool:
    """Does this Host header name this machine, or one of a private network?"""
    host = header.strip().lower()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host in ("", "localhost", _machine_name()) or host.endswith(_LOCAL_SUFFIXES)
    return address.is_loopback or address.is_private or address.is_unspecified or host in _own_addresses()


@cache
def _machine_name() -> str:
    return socket.gethostname().lower()


@cache
def _own_addresses() -> frozenset[str]:
    import psutil  # only for a Host that is a public address

    return frozenset(item.address for items in psutil.net_if_addrs().values() for item in items)


def _default_origins() -> list[str]:
    local = [f"{scheme}://{host}{port}" for scheme in ("http", "https") for host in _LOCAL_HOSTS for port in ("", ":*")]
    return local + [f"{scheme}://*" for scheme in (*_APP_SCHEMES, *_EXTENSION_SCHEMES)]


def _matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Does an origin match one of these patterns? A `*` stands for anything; as a port, for digits."""
    forms = [re.escape(pattern.lower()).replace(r":\*", r":\d+").replace(r"\*", ".*") for pattern in patterns]
    compiled = re.compile("|".join(forms))
    return lambda origin: compiled.fullmatch(origin.lower()) is not None


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


async def _empty(send: Send, status: int, headers: Headers = ()) -> None:
    length = [] if status == HTTPStatus.NO_CONTENT else [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
