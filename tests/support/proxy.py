"""A small HTTP proxy on loopback: whatever host is asked for, one server answers. It remembers what it was asked."""

import asyncio
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit


@dataclass
class TinyProxy:
    """Passes `GET http://HOST/…` and the like on, and `CONNECT HOST:PORT` through. An async context manager."""

    target: int  # a port on loopback that stands for every host
    asked: list[str] = field(default_factory=list)  # "GET http://host/path", "CONNECT host:443"
    headers: list[str] = field(default_factory=list)
    port: int = 0
    _tasks: asyncio.TaskGroup = field(default_factory=asyncio.TaskGroup)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, _, rest = head.partition("\r\n")
            method, where, version = line.split(" ")
            self.asked.append(f"{method} {where}")
            self.headers += rest.splitlines()
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                parts = urlsplit(where)
                path = parts.path + (f"?{parts.query}" if parts.query else "")
                upstream.write(f"{method} {path} {version}\r\nConnection: close\r\n{rest}".encode("latin-1"))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_copy(reader, upstream))
                tasks.create_task(_copy(upstream_reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            upstream.close()
            writer.close()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    except (ConnectionError, RuntimeError):  # the other side has gone
        pass
    finally:
        sink.close()
