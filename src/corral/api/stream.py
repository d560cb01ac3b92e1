"""Writing streams: one send an event, and envelopes that cost a token little more than its own text.

A client that reads slowly makes `send` wait, and so the iterator behind it; what the engine says meanwhile is one event then.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar

import msgspec

E = TypeVar("E")

_MARK: Final = "\ue000mark\ue000"  # private use: model names and our own words cannot hold it

_LINE_BREAKS: Final = tuple((char.encode(), b"\\u%04x" % ord(char)) for char in "\u0085\u2028\u2029")
_encoder: Final = msgspec.json.Encoder()


def line(value: msgspec.Struct) -> bytes:
    """The Struct as a line of NDJSON."""
    return _unbroken(_encoder.encode(value)) + b"\n"


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


async def pump(
    first: E, rest: AsyncIterator[E], render: Callable[[E], bytes], write: Callable[[bytes], Awaitable[None]]
) -> None:
    """Writes every event as it comes. What queued up in the engine while a write waited comes as one event."""
    await write(render(first))
    async for event in rest:
        await write(render(event))
