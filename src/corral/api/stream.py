"""Writing streams, of lines or of server-sent events: one send an event, and envelopes that cost a token little more than its
own text.

A client that reads slowly makes `send` wait, and so the iterator behind it; if it lags far behind, what the engine has said
meanwhile is one event.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import msgspec

from corral.core.aio import cancelling

E = TypeVar("E")

_MARK: Final = "\ue000mark\ue000"  # private use: model names and our own words cannot hold it
_NUMBER: Final = 9_007_199_254_740_991  # no index is as large

_LINE_BREAKS: Final = tuple((char.encode(), b"\\u%04x" % ord(char)) for char in "\u0085\u2028\u2029")
_encoder: Final = msgspec.json.Encoder()


def line(value: msgspec.Struct) -> bytes:
    """The Struct as a line of NDJSON."""
    return _unbroken(_encoder.encode(value)) + b"\n"


def event(value: msgspec.Struct) -> bytes:
    """The Struct as a server-sent event without a name."""
    return b"data: %b\n\n" % _unbroken(_encoder.encode(value))


def named_event(name: str, value: msgspec.Struct) -> bytes:
    return b"event: %b\n%b" % (name.encode(), event(value))


def _unbroken(data: bytes) -> bytes:
    """JSON without the characters at which Python's splitlines, and so httpx and Ollama's own client, would cut a line."""
    if not data.isascii():
        for character, escaped in _LINE_BREAKS:
            data = data.replace(character, escaped)
    return data


class Envelope:
    """The constant bytes around a line's time and text, cut from the encoding of a real Struct.

    So a field that is added to the Struct cannot be forgotten here.
    """

    def __init__(self, build: Callable[[str, str], msgspec.Struct]) -> None:
        """`build` makes the Struct from its time and its text, which must come in this order on the wire."""
        parts = line(build(_MARK, _MARK)).split(_encoder.encode(_MARK))
        assert len(parts) == 3, "an envelope has one time and one text"
        self._head, self._middle, self._tail = parts

    def fill(self, created_at: str, text: str) -> bytes:
        return b'%b"%b"%b%b%b' % (self._head, created_at.encode(), self._middle, _unbroken(_encoder.encode(text)), self._tail)


class TextEvent:
    """The constant bytes of an event around a text, which may stand in it several times."""

    def __init__(self, build: Callable[[str], bytes]) -> None:
        """`build` makes the whole event of its text."""
        self._parts = build(_MARK).split(_encoder.encode(_MARK))
        assert len(self._parts) > 1, "the text is in the event"

    def fill(self, text: str) -> bytes:
        return _unbroken(_encoder.encode(text)).join(self._parts)


class NumberedTextEvent:
    """The constant bytes of an event around its number and its text, which come in this order."""

    def __init__(self, build: Callable[[int, str], bytes]) -> None:
        """`build` makes the whole event of the two."""
        before, self._tail = build(_NUMBER, _MARK).split(_encoder.encode(_MARK))
        self._head, self._middle = before.split(b"%d" % _NUMBER)

    def fill(self, number: int, text: str) -> bytes:
        return b"%b%d%b%b%b" % (self._head, number, self._middle, _unbroken(_encoder.encode(text)), self._tail)


class EventStream:
    """Server-sent events of one answer, which several tasks may write."""

    def __init__(
        self, write: Callable[[bytes], Awaitable[None]], *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._write = write
        self._sleep = sleep
        self._turn = asyncio.Lock()
        self._count = 0

    async def write(self, data: bytes) -> None:
        """Whole events, and nothing of another task's between them."""
        async with self._turn:
            await self._write(data)
            self._count += 1

    @asynccontextmanager
    async def kept_alive(self, sign: bytes, *, silence_s: float) -> AsyncIterator[None]:
        """Writes the sign whenever a stream that has begun is silent for long, so that nobody between takes it for dead.

        Before its first event there is nothing: an error still has a status of its own.
        """

        async def keep() -> None:
            while True:
                seen = self._count
                await self._sleep(silence_s)
                if self._count == seen > 0:
                    await self.write(sign)

        async with cancelling(keep(), name="event-stream-signs"):
            yield


async def pump(
    first: E, rest: AsyncIterator[E], render: Callable[[E], bytes], write: Callable[[bytes], Awaitable[None]]
) -> None:
    """Writes every event as it comes."""
    await write(render(first))
    async for event in rest:
        if data := render(event):
            await write(data)
