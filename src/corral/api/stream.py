"""Writing streams: one send for everything that is there, and envelopes that cost a token little more than its own text.

A stream's events come from a service as an iterator. The writer takes all that is ready without waiting, renders it, sends
it once, and waits. A client that reads slowly makes `send` wait, and so the iterator behind it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

import msgspec

from corral.core.aio import Ready, begin

E = TypeVar("E")

MAX_JOINED: Final = 64  # events in one send; more would keep the first of them waiting
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
    """Writes every event, those that are ready together in one call. An error comes after all that was before it."""
    ready = [render(first)]
    try:
        while True:
            step = begin(anext(rest))
            if isinstance(step, Ready):
                event = step.value
                if len(ready) >= MAX_JOINED:
                    await _flush(ready, write)
            else:
                try:
                    await _flush(ready, write)
                except BaseException as exc:  # what has begun must end before the iterator may be closed
                    with suppress(type(exc), StopAsyncIteration):
                        await step.thrown(exc)
                    raise
                event = await step
            ready.append(render(event))
    except StopAsyncIteration:
        pass
    finally:
        if ready:
            await _flush(ready, write)


async def _flush(ready: list[bytes], write: Callable[[bytes], Awaitable[None]]) -> None:
    data = ready[0] if len(ready) == 1 else b"".join(ready)
    ready.clear()
    await write(data)
