"""A load generator that costs next to nothing: raw sockets, no parsing but for the last line of an answer."""

import asyncio
import http.client
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_PER_CONNECTION = 50
_COUNT = re.compile(rb'"(?:eval_count|tokens_predicted)":(\d+)')


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered request; times are seconds on the monotonic clock."""

    tokens: int
    sent_s: float
    first_s: float  # first bytes of the body
    last_s: float

    @property
    def ttft_s(self) -> float:
        return self.first_s - self.sent_s


def _request(port: int, path: str, body: Mapping[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Content-Type: application/json",
        f"Content-Length: {len(data)}",
    )
    return "\r\n".join((*head, "", "")).encode() + data


class Connection:
    """One keep-alive connection; one request at a time."""

    def __init__(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.port = port
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> "Connection":
        return cls(port, *await asyncio.open_connection("127.0.0.1", port, limit=1 << 20))

    def close(self) -> None:
        self._writer.close()

    async def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Sends the request and reads the whole answer, streamed or not. Raises RuntimeError for anything but a 200."""
        sent_s = time.monotonic()
        self._writer.write(_request(self.port, path, body))
        head = await self._reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{path} answered {head.splitlines()[0].decode()}: {(await self._reader.read(500))[:300]!r}")
        if length := _LENGTH.search(head):
            text = await self._reader.readexactly(int(length[1]))
            first_s = time.monotonic()
        else:
            text, first_s = await self._chunks()
        counts = _COUNT.findall(text)
        return Answer(int(counts[-1]) if counts else 0, sent_s, first_s, time.monotonic())

    async def _chunks(self) -> tuple[bytes, float]:
        """The end of a chunked body, and when its first bytes came."""
        tail, first_s = b"", 0.0
        while not tail.endswith(b"0\r\n\r\n"):
            got = await self._reader.read(1 << 16)
            if not got:
                raise RuntimeError(f"the connection was closed in mid-answer, after {tail[-200:]!r}")
            first_s = first_s or time.monotonic()
            tail = (tail + got)[-4096:]
        return tail, first_s


async def at_once(port: int, path: str, bodies: Sequence[Mapping[str, Any]]) -> list[Answer]:
    """Sends all bodies at the same time, each on a connection of its own."""
    connections = [await Connection.open(port) for _ in bodies]
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(connection.post(path, body)) for connection, body in zip(connections, bodies, strict=True)
            ]
        return [task.result() for task in running]
    finally:
        for connection in connections:
            connection.close()


async def one_by_one_rate(port: int, path: str, body: Mapping[str, Any], count: int) -> float:
    """Requests a second, each sent when the one before it is answered.

    On one connection for 50 requests at a time: some servers close a connection after a hundred.
    """

    async def some(requests: int) -> None:
        connection = await Connection.open(port)
        for _ in range(requests):
            await connection.post(path, body)
        connection.close()

    await some(_PER_CONNECTION)
    began_s = time.monotonic()
    for _ in range(count // _PER_CONNECTION):
        await some(_PER_CONNECTION)
    return count / (time.monotonic() - began_s)


def is_up(port: int, path: str = "/") -> bool:
    """Does a server answer there with a 200?"""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def wait_up(port: int, path: str = "/", *, limit_s: float = 60.0) -> None:
    """Returns as soon as the server answers; raises RuntimeError when it does not within the limit."""
    until_s = time.monotonic() + limit_s
    while not is_up(port, path):
        if time.monotonic() > until_s:
            raise RuntimeError(f"nothing answers on port {port} after {limit_s:g} s")
        time.sleep(0.005)
