import logging

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from corral.api.exchange import Endpoint, Exchange
from corral.api.middleware import AccessLog, Gatekeeper, is_local_host
from corral.api.ollama import OLLAMA
from corral.core.errors import EngineCrashedError

LOCAL = "http://127.0.0.1:11434"


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"hello"})


async def ask(app: ASGIApp, method: str = "GET", **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=LOCAL) as client:
        return await client.request(method, "/api/tags", headers=headers)


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost",
        "https://localhost",
        "http://localhost:3000",
        "https://127.0.0.1:8443",
        "http://0.0.0.0:1",
        "HTTP://LOCALHOST:3000",
        "app://obsidian.md",
        "file://",
        "tauri://localhost",
        "vscode-webview://abc",
        "vscode-file://x",
        "chrome-extension://abcdef",
        "moz-extension://abcdef",
    ],
)
async def test_a_local_origin_may_ask(origin: str) -> None:
    reply = await ask(Gatekeeper(hello), Origin=origin)
    assert (reply.status_code, reply.text) == (200, "hello")
    assert reply.headers["access-control-allow-origin"] == origin
    assert reply.headers["vary"] == "Origin"


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://localhost.evil.example", "http://localhost:80.evil.example", "ftp://localhost"],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_a_foreign_origin_gets_403_and_nothing_else(origin: str, method: str) -> None:
    reply = await ask(Gatekeeper(hello), method, Origin=origin)
    assert (reply.status_code, reply.content) == (403, b"")
    assert "content-type" not in reply.headers
    assert "access-control-allow-origin" not in reply.headers


async def test_the_servers_own_pages_need_no_permission() -> None:
    reply = await ask(Gatekeeper(hello), Origin="http://box.internal:8080", Host="box.internal:8080")
    assert reply.status_code == 200
    assert "access-control-allow-origin" not in reply.headers


async def test_a_request_without_an_origin_gets_no_cors_headers() -> None:
    reply = await ask(Gatekeeper(hello))
    assert reply.status_code == 200
    assert "vary" not in reply.headers


async def test_a_preflight_is_answered() -> None:
    reply = await ask(Gatekeeper(hello), "OPTIONS", Origin="http://localhost:3000")
    assert (reply.status_code, reply.content) == (204, b"")
    assert reply.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert reply.headers["access-control-allow-methods"] == "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
    assert reply.headers["access-control-max-age"] == "43200"
    assert reply.headers.get_list("vary") == ["Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"]
    allowed = reply.headers["access-control-allow-headers"].split(",")
    assert {"Authorization", "Content-Type", "x-api-key", "anthropic-version", "x-stainless-poll-helper"} <= set(allowed)


@pytest.mark.parametrize(
    ("pattern", "origin", "status"),
    [
        ("http://*.example.com", "http://chat.example.com", 200),
        ("http://*.example.com", "http://example.com", 403),
        ("http://box:*", "http://box:99", 200),
        ("http://box:*", "http://box:99.evil", 403),
        ("https://chat.example.com", "https://chat.example.com", 200),
        ("https://chat.example.com", "https://chatxexample.com", 403),
    ],
)
async def test_origins_can_be_added(pattern: str, origin: str, status: int) -> None:
    assert (await ask(Gatekeeper(hello, origins=[pattern]), Origin=origin)).status_code == status


async def test_a_star_lets_every_origin_ask() -> None:
    reply = await ask(Gatekeeper(hello, origins=["*"]), Origin="http://evil.example")
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "vary" not in reply.headers


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("", True),
        ("localhost", True),
        ("LOCALHOST:11434", True),
        ("127.0.0.1:11434", True),
        ("127.9.9.9", True),
        ("[::1]:11434", True),
        ("::1", True),
        ("0.0.0.0:1", True),
        ("192.168.1.7", True),
        ("10.0.0.1:80", True),
        ("box.local", True),
        ("box.localhost:80", True),
        ("host.docker.internal", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("evil.example:11434", False),
        ("8.8.8.8", False),
        ("[2001:4860:4860::8888]:80", False),
        ("local", False),
    ],
)
async def test_only_local_hosts_may_be_asked_for(host: str, is_local: bool) -> None:
    assert is_local_host(host) is is_local
    reply = await ask(Gatekeeper(hello), Host=host)
    assert reply.status_code == (200 if is_local else 403)
    assert (await ask(Gatekeeper(hello), "OPTIONS", Host=host)).status_code == (204 if is_local else 403)


async def test_a_server_for_others_takes_any_host() -> None:
    assert (await ask(Gatekeeper(hello, listens_locally=False), Host="evil.example")).status_code == 200


async def test_a_request_leaves_one_line_with_its_id(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "corral.access"):
        reply = await ask(AccessLog(hello), "DELETE")
    (record,) = caplog.records
    assert record.message == "request"
    fields = vars(record)
    assert (fields["method"], fields["path"], fields["status"]) == ("DELETE", "/api/tags", 200)
    assert fields["duration_ms"] >= 0
    assert len(reply.headers["x-request-id"]) == 16


async def test_the_line_names_the_error_that_ended_the_request(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(exchange: Exchange) -> None:
        await exchange.write(b"{}\n")
        raise EngineCrashedError(mid_answer=True)

    with caplog.at_level(logging.INFO, "corral.access"):
        await ask(AccessLog(Endpoint(broken, OLLAMA)))
    (record,) = caplog.records
    assert (vars(record)["status"], vars(record)["error"]) == (200, "engine_crashed")
