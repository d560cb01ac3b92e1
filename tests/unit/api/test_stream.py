import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from corral.api.stream import Envelope, NumberedTextEvent, line, named_event, pump
from corral.core.errors import EngineCrashedError
from corral.wire.ollama import ChatResponse, GenerateResponse, ReplyMessage
from corral.wire.responses import OutputTextDelta

TEXTS = ["", " a", 'quote " and \\', "line\nbreak", "\N{WAVING HAND SIGN}\u2028", "<b>&</b>", "\x00\x1f", "\ue000mark"]


def chat_piece(at: str, text: str) -> ChatResponse:
    return ChatResponse(model="smollm2:135m", created_at=at, message=ReplyMessage(role="assistant", content=text), done=False)


def generate_piece(at: str, text: str) -> GenerateResponse:
    return GenerateResponse(model="smollm2:135m", created_at=at, response=text, done=False)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("build", [chat_piece, generate_piece])
def test_an_envelope_gives_what_the_struct_gives(build: type, text: str) -> None:
    at = "2026-11-21T09:35:46.704119106Z"
    assert Envelope(build).fill(at, text) == line(build(at, text))
    json.loads(Envelope(build).fill(at, text))


def numbered_piece(number: int, text: str) -> bytes:
    return named_event("response.output_text.delta", OutputTextDelta(number, "msg_1", 0, 0, text, []))


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("number", [0, 7, 2**40])
def test_a_numbered_event_gives_what_the_struct_gives(number: int, text: str) -> None:
    assert NumberedTextEvent(numbered_piece).fill(number, text) == numbered_piece(number, text)


@pytest.mark.parametrize("char", "\v\f\x1c\x1d\x1e\u0085\u2028\u2029\r\n", ids=ascii)
def test_no_text_breaks_a_line_for_a_client_that_cuts_as_python_does(char: str) -> None:
    for data in (Envelope(chat_piece).fill("t", f"ä{char}b"), line(chat_piece("t", f"ä{char}b"))):
        (only,) = data.decode().splitlines()
        assert json.loads(only)["message"]["content"] == f"ä{char}b"


class Sink:
    """Takes what a stream writes; waits before a write if told to."""

    def __init__(self) -> None:
        self.writes: list[str] = []
        self.free = asyncio.Event()
        self.free.set()
        self.is_busy = asyncio.Event()

    async def write(self, data: bytes) -> None:
        self.is_busy.set()
        await self.free.wait()
        self.writes.append(data.decode())


async def test_an_event_is_sent_before_the_next_one_is_waited_for() -> None:
    sink, go_on = Sink(), asyncio.Event()

    async def events() -> AsyncIterator[str]:
        await go_on.wait()
        yield "b"

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(pump("a", events(), str.encode, sink.write))
        await sink.is_busy.wait()
        assert sink.writes == ["a"]
        go_on.set()
    assert sink.writes == ["a", "b"]


async def test_an_event_that_shows_nothing_sends_nothing() -> None:
    sink = Sink()

    async def events() -> AsyncIterator[str]:
        for text in ("", "b"):
            yield text

    await pump("a", events(), str.encode, sink.write)
    assert sink.writes == ["a", "b"]


async def test_an_error_comes_after_what_was_before_it() -> None:
    sink = Sink()

    async def events() -> AsyncIterator[str]:
        yield "b"
        raise EngineCrashedError(mid_answer=True)

    with pytest.raises(EngineCrashedError):
        await pump("a", events(), str.encode, sink.write)
    assert "".join(sink.writes) == "ab"


async def test_cancelling_a_wait_reaches_the_source() -> None:
    sink, closed = Sink(), []

    async def events() -> AsyncIterator[str]:
        try:
            await asyncio.Event().wait()
            yield "never"
        finally:
            closed.append(True)

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(pump("a", events(), str.encode, sink.write))
        await sink.is_busy.wait()
        await asyncio.sleep(0)
        task.cancel()
    assert closed == [True]
    assert sink.writes == ["a"]
