"""Clients that are slow, still or gone, over real sockets: the slow ones are waited for, the others are given up."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from corral.api.exchange import Endpoint, Exchange
from corral.api.ollama import OLLAMA
from corral.api.ollama.blobs import upload
from corral.api.openapi import Api, Operation
from corral.api.routes import routes
from corral.core.errors import EngineCrashedError
from corral.service import BlobService
from corral.store import Store

STALL_S = 2.0
PIECE = b"x" * 65_535 + b"\n"
PIECES = 256  # 16 MB: more than all sockets on the way hold


class Answers:
    """A handler that says a lot, and tells when it has ended and how much it got rid of."""

    def __init__(self) -> None:
        self.written = 0
        self.has_ended = threading.Event()

    async def __call__(self, exchange: Exchange) -> None:
        try:
            for _ in range(PIECES):
                await exchange.write(PIECE)
                self.written += 1
        finally:
            self.has_ended.set()


class Watched:
    """An application, and when a request to it has ended."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.has_ended = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        finally:
            self.has_ended.set()


@contextmanager
def served(app: ASGIApp) -> Iterator[int]:
    """The application on a port, in a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http="httptools", ws="none", lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="server")
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


def asked(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=10)
    client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    return client


def test_a_client_that_never_reads_is_given_up_and_learns_that_its_answer_is_not_whole() -> None:
    answers = Answers()
    with served(Endpoint(answers, OLLAMA, stall_s=STALL_S)) as port, asked(port) as client:
        assert answers.has_ended.wait(10), "its place is free again"
        assert 0 < answers.written < PIECES
        data = b""
        while part := client.recv(1 << 20):
            data += part
    assert not data.endswith(b"0\r\n\r\n"), "the last chunk of a whole answer"


def test_a_client_that_reads_slowly_gets_all_of_it() -> None:
    """It rests again and again, so that the whole takes longer than any one write may wait."""
    answers = Answers()
    with served(Endpoint(answers, OLLAMA, stall_s=STALL_S)) as port, asked(port) as client:
        data = bytearray()
        rests = 0
        while not data.endswith(b"0\r\n\r\n"):
            until = len(data) + (1 << 20)
            while len(data) < until and not data.endswith(b"0\r\n\r\n"):
                part = client.recv(1 << 18)
                assert part, "the connection ended in mid-stream"
                data += part
            if rests < 5:
                rests += 1
                threading.Event().wait(STALL_S / 4)
    assert answers.written == PIECES
    assert data.count(b"x" * 65_535) == PIECES


def test_a_stream_that_fails_while_its_client_does_not_read_is_given_up_too() -> None:
    has_failed = threading.Event()

    async def fail_when_all_is_full(exchange: Exchange) -> None:
        try:
            while True:
                async with asyncio.timeout(STALL_S / 4):
                    await exchange.write(PIECE)
        except TimeoutError as exc:
            has_failed.set()
            raise EngineCrashedError(mid_answer=True) from exc

    app = Watched(Endpoint(fail_when_all_is_full, OLLAMA, stall_s=STALL_S))
    with served(app) as port, asked(port):
        assert has_failed.wait(10)
        assert app.has_ended.wait(10), "the error line waits for as long as any other, and no longer"


class LongTaking(Store):
    """A store that takes files for ever, unless it is told to stop."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.has_begun, self.was_stopped = threading.Event(), threading.Event()

    def take_file(self, path: Path, digest: str, stop: threading.Event) -> None:
        self.has_begun.set()
        if stop.wait(10):
            self.was_stopped.set()


def test_a_client_that_leaves_ends_the_taking_of_the_file_that_it_has_named(tmp_path: Path) -> None:
    store = LongTaking(tmp_path)
    uploads = BlobService(store)
    row = Operation(path="/api/blobs/{digest}", methods=("POST",), handler=upload(uploads), summary="", tag="", uploads=True)
    with served(Router(routes([Api(OLLAMA, [row])]))) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            named = (
                f"POST /api/blobs/sha256:{'0' * 64} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nX-Corral-File: /a.gguf\r\n\r\n"
            )
            client.sendall(named.encode())
            assert store.has_begun.wait(10)
        assert store.was_stopped.wait(5), "its thread is free for others"
    uploads.close()
