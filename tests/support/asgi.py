"""A client that speaks ASGI itself: a test decides when body parts come and when the client leaves, and sees every send."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message


@dataclass
class Call:
    """One request under way. `leave` is the client closing its connection."""

    body: list[bytes] = field(default_factory=lambda: [b""])
    sent: list[Message] = field(default_factory=list)
    has_left: asyncio.Event = field(default_factory=asyncio.Event)
    has_answer: asyncio.Event = field(default_factory=asyncio.Event)  # set by each body part that is sent
    _given: int = 0

    def leave(self) -> None:
        self.has_left.set()

    async def receive(self) -> Message:
        if self._given < len(self.body):
            self._given += 1
            return {"type": "http.request", "body": self.body[self._given - 1], "more_body": self._given < len(self.body)}
        await self.has_left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if message["type"] == "http.response.body":
            self.has_answer.set()

    @property
    def status(self) -> int:
        (start,) = [message for message in self.sent if message["type"] == "http.response.start"]
        return int(start["status"])

    @property
    def headers(self) -> dict[str, str]:
        (start,) = [message for message in self.sent if message["type"] == "http.response.start"]
        return {name.decode(): value.decode() for name, value in start["headers"]}

    @property
    def parts(self) -> list[bytes]:
        return [message["body"] for message in self.sent if message["type"] == "http.response.body" and message["body"]]

    @property
    def data(self) -> bytes:
        return b"".join(self.parts)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.data.splitlines()]

    @property
    def is_over(self) -> bool:
        return bool(self.sent) and self.sent[-1].get("more_body") is False


def scope(method: str, path: str, headers: Iterable[tuple[str, str]] = ()) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost"), *((name.encode(), value.encode()) for name, value in headers)],
        "client": ("127.0.0.1", 5000),
        "server": ("127.0.0.1", 11434),
        "path_params": {},
    }


async def ask(
    app: ASGIApp,
    method: str = "POST",
    path: str = "/",
    body: bytes | list[bytes] = b"",
    *,
    headers: Iterable[tuple[str, str]] = (),
    call: Call | None = None,
) -> Call:
    """Runs a request to its end."""
    call = call or Call()
    call.body = [body] if isinstance(body, bytes) else body
    await app(scope(method, path, headers), call.receive, call.send)
    return call
