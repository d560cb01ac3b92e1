"""A server that answers with bytes as they are given, piece by piece: whole, cut off, held back, or refused.

What a client of many servers is tested against: their streams differ in spaces, in what they leave out and in how they break.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from corral.core.aio import Background

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Raw:
    """One answer. Each piece is a chunk of its own."""

    pieces: Sequence[bytes] = ()
    status: int = 200
    is_cut: bool = False  # the connection breaks after the pieces
    is_dropped: bool = False  # it breaks before anything is said
    hold: asyncio.Event | None = None  # waited for after the pieces


Answer = Callable[[Json], Raw]


@dataclass(slots=True)
class RawServer:
    """What to answer by path; what it was asked."""

    url: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, Json]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)

    def answer(self, path: str, *pieces: bytes, **more: Any) -> None:
        self.answers[path] = lambda _body: Raw(pieces, **more)

    def bodies(self, path: str) -> list[Json]:
        return [body for asked, body in self.asked if asked == path]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client left
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next((int(line[15:]) for line in head.lower().splitlines() if line.startswith("content-length:")), 0)
        body = json.loads(await reader.readexactly(length)) if length else {}
        path = head.split(" ")[1]
        self.heads.append(head)
        self.asked.append((path, body))
        known = self.answers.get(path)
        raw = known(body) if known else Raw([b'{"error": "not found"}'], status=404)
        if raw.is_dropped:
            return False
        writer.write(f"HTTP/1.1 {raw.status} Said\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for piece in raw.pieces:
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
        if raw.hold:
            await raw.hold.wait()
        if raw.is_cut:
            return False
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


@asynccontextmanager
async def raw_server() -> AsyncIterator[RawServer]:
    """On a free port of loopback until the block ends; answers that are held back then are dropped."""
    server = RawServer()
    failures: list[BaseException] = []
    background = Background(failures.append)
    listening = await asyncio.start_server(
        lambda reader, writer: background.start(server.serve(reader, writer), name="raw"), "127.0.0.1", 0
    )
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listening.close()
        await background.aclose()
    assert not failures
