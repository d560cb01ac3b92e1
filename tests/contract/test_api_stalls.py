"""Clients that read slowly, or not at all, over real sockets: the slow ones are waited for, the others are given up."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from corral.api.errors import OLLAMA
from corral.api.exchange import Endpoint, Exchange

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


@contextmanager
def served(answers: Answers) -> Iterator[int]:
    """The handler on a port, in a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    app = Endpoint(answers, OLLAMA, stall_s=STALL_S)
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
    with served(answers) as port, asked(port) as client:
        assert answers.has_ended.wait(10), "its place is free again"
        assert 0 < answers.written < PIECES
        data = b""
        while part := client.recv(1 << 20):
            data += part
    assert not data.endswith(b"0\r\n\r\n"), "the last chunk of a whole answer"


def test_a_client_that_reads_slowly_gets_all_of_it() -> None:
    """It rests again and again, so that the whole takes longer than any one write may wait."""
    answers = Answers()
    with served(answers) as port, asked(port) as client:
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
