"""What the HTTP server itself refuses, over a real socket."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import Receive, Scope, Send

from corral.api import BoundedHttpProtocol


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


@asynccontextmanager
async def server() -> AsyncIterator[int]:
    """A port that it listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(hello, http=BoundedHttpProtocol, ws="none", lifespan="off", log_config=None)
        running = uvicorn.Server(config)
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(running.serve(sockets=[listener]))
            yield_port = listener.getsockname()[1]
            try:
                yield yield_port
            finally:
                running.should_exit = True
                await serving


async def ask(port: int, *pieces: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await reader.readuntil(b"\r\n")
    finally:
        writer.close()


async def test_a_header_that_never_ends_is_refused() -> None:
    async with server() as port:
        begun = b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * 65536
        assert await ask(port, begun, *[b"x" * 65536] * 20) == b"HTTP/1.1 431 Request Header Fields Too Large\r\n"


async def test_a_large_body_is_no_header() -> None:
    async with server() as port:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3276800\r\n\r\n"
        assert await ask(port, head, *[b"x" * 65536] * 50) == b"HTTP/1.1 200 OK\r\n"


async def test_heads_of_many_requests_are_counted_one_by_one() -> None:
    async with server() as port:
        request = b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * 300_000 + b"\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(5):
            writer.write(request)
            assert await reader.readuntil(b"\r\n") == b"HTTP/1.1 200 OK\r\n"
            assert await reader.readuntil(b"hi")
        writer.close()
