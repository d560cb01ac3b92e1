import asyncio
import contextlib
import logging
import threading
from dataclasses import replace

import pytest

from corral.api.bodies import FREE_BYTES, MAX_BODY_BYTES, Bodies
from corral.api.decode import RequestDecoder
from corral.api.exchange import PLAIN_JSON, Answer, Endpoint, Exchange, Handler
from corral.api.ollama import OLLAMA
from corral.api.openai import OPENAI
from corral.core.errors import BadRequestError, EngineCrashedError, RequestCanceledError
from corral.wire.ollama import CopyRequest
from tests.support.asgi import Call, ask, scope


def endpoint(handler: Handler) -> Endpoint:
    return Endpoint(handler, OLLAMA)


async def test_a_whole_answer_has_a_length_and_a_type() -> None:
    async def handle(exchange: Exchange) -> Answer:
        return Answer(exchange.body.upper())

    call = await ask(endpoint(handle), body=[b"he", b"l", b"lo"])
    assert (call.status, call.data, call.is_over) == (200, b"HELLO", True)
    assert call.headers == {"content-length": "5", "content-type": "application/json; charset=utf-8"}


@pytest.mark.parametrize("is_stream", [True, False])
async def test_every_answer_has_the_dialects_headers(is_stream: bool) -> None:
    dialect = replace(OLLAMA, headers=lambda: [(b"x-dialect", b"y")])

    async def handle(exchange: Exchange) -> Answer | None:
        if is_stream:
            await exchange.write(b"a")
        return None if is_stream else Answer(b"a")

    assert (await ask(Endpoint(handle, dialect))).headers["x-dialect"] == "y"


async def test_an_empty_answer_has_no_type() -> None:
    async def handle(_exchange: Exchange) -> Answer:
        return Answer(status=201, content_type=b"")

    call = await ask(endpoint(handle))
    assert (call.status, call.headers) == (201, {"content-length": "0"})


async def test_an_error_before_the_first_byte_has_its_own_status() -> None:
    async def handle(_exchange: Exchange) -> Answer:
        raise BadRequestError("model is required")

    call = await ask(endpoint(handle))
    assert (call.status, call.data) == (400, b'{"error":"model is required"}')
    assert call.headers["content-type"] == "application/json; charset=utf-8"


async def test_an_error_after_the_first_byte_is_the_last_line() -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.write(b'{"a":1}\n')
        raise EngineCrashedError(mid_answer=True)

    call = await ask(endpoint(handle))
    assert (call.status, call.is_over) == (200, True)
    assert call.headers == {"content-type": "application/x-ndjson"}
    assert call.lines == [{"a": 1}, {"error": "an error was encountered while running the model: unexpected EOF"}]


async def test_an_unforeseen_error_is_logged_and_hidden(caplog: pytest.LogCaptureFixture) -> None:
    async def handle(_exchange: Exchange) -> Answer:
        raise KeyError("/secret/path")

    with caplog.at_level(logging.ERROR):
        call = await ask(endpoint(handle))
    assert call.status == 500
    assert b"internal error" in call.data
    assert b"secret" not in call.data
    assert "/secret/path" in caplog.text


async def test_head_gets_the_headers_alone() -> None:
    async def handle(exchange: Exchange) -> Answer:
        if exchange.header(b"x-wrong"):
            raise BadRequestError("no")
        return Answer(b"{}")

    call = await ask(endpoint(handle), "HEAD")
    assert (call.status, call.data, call.headers["content-length"]) == (200, b"", "2")
    call = await ask(endpoint(handle), "HEAD", headers=[("x-wrong", "1")])
    assert (call.status, call.data, call.headers["content-type"]) == (400, b"", "application/json; charset=utf-8")


async def test_a_handler_may_choose_the_type_of_its_errors() -> None:
    async def handle(exchange: Exchange) -> Answer:
        exchange.error_type = PLAIN_JSON
        raise BadRequestError("no")

    assert (await ask(endpoint(handle))).headers["content-type"] == "application/json"


async def test_a_client_that_leaves_cancels_a_handler_that_waits() -> None:
    call, cancelled = Call(), []

    async def handle(_exchange: Exchange) -> Answer:
        call.leave()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        raise AssertionError

    await ask(endpoint(handle), call=call)
    assert cancelled == [True]
    assert (call.status, call.data) == (499, b'{"error":"request canceled"}')
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_client_that_leaves_cancels_a_stream() -> None:
    call, cleaned = Call(), []

    async def handle(exchange: Exchange) -> None:
        try:
            await exchange.write(b"1\n")
            call.leave()
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    await ask(endpoint(handle), call=call)
    assert cleaned == [True]


async def test_a_client_that_does_not_read_its_stream_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    call, cleaned, written = Call(), [], []
    asked = scope("POST", "/")

    async def send(message: dict[str, object]) -> None:
        await call.send(message)
        if message.get("body") == b"2\n":
            await asyncio.Event().wait()  # the socket is full

    async def handle(exchange: Exchange) -> None:
        try:
            for number in range(1, 4):
                await exchange.write(b"%d\n" % number)
                written.append(number)
        finally:
            cleaned.append(True)

    with caplog.at_level(logging.INFO):
        await Endpoint(handle, OLLAMA, stall_s=0.02)(asked, call.receive, send)  # type: ignore[arg-type]  # looser messages
    assert (written, cleaned) == ([1], [True])
    assert call.data == b"1\n2\n"
    assert not call.is_over, "a whole end would say that the answer is complete"
    assert asked["corral.error"] == "client_stalled"
    assert "stream given up" in caplog.text
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_stream_that_has_nothing_to_say_for_long_goes_on() -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.write(b"1\n")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await asyncio.Event().wait()
        await exchange.write(b"2\n")

    call = await ask(Endpoint(handle, OLLAMA, stall_s=0.02))
    assert (call.data, call.is_over) == (b"1\n2\n", True)


async def test_a_client_that_leaves_while_it_uploads_ends_the_upload() -> None:
    call = Call()
    parts: list[dict[str, object]] = [{"type": "http.request", "body": b"part", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, object]:
        return parts.pop(0)

    async def handle(exchange: Exchange) -> Answer:
        async for _data in exchange.chunks():
            pass
        raise AssertionError

    await Endpoint(handle, OLLAMA, reads_body=False)(scope("POST", "/"), receive, call.send)
    assert parts == []
    assert call.status == RequestCanceledError.status


async def test_a_cancellation_from_elsewhere_goes_on_up() -> None:
    call, started = Call(), asyncio.Event()

    async def handle(_exchange: Exchange) -> Answer:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(ask(endpoint(handle), call=call))
        await started.wait()
        task.cancel()
    assert task.cancelled()
    assert call.sent == []


async def test_a_body_that_says_it_is_too_large_is_not_read() -> None:
    async def handle(_exchange: Exchange) -> Answer:
        raise AssertionError

    call = await ask(endpoint(handle), headers=[("content-length", str(MAX_BODY_BYTES + 1))])
    assert call.status == 413
    assert str(MAX_BODY_BYTES) in call.lines[0]["error"]


async def test_a_chunked_body_that_grows_too_large_is_refused() -> None:
    async def handle(_exchange: Exchange) -> Answer:
        raise AssertionError

    part = bytes(MAX_BODY_BYTES // 4 + 1)
    assert (await ask(endpoint(handle), body=[part, part, part, part])).status == 413


async def test_bodies_that_are_too_large_together_are_refused_until_one_is_answered() -> None:
    bodies, may_end, call = Bodies(max_held_bytes=FREE_BYTES), asyncio.Event(), Call()
    has_begun = asyncio.Event()

    async def handle(exchange: Exchange) -> Answer:
        if len(exchange.body) > FREE_BYTES:
            has_begun.set()
            await may_end.wait()
        return Answer(b"%d" % len(exchange.body))

    counted = Endpoint(handle, OLLAMA, bodies=bodies)
    big, bigger = [bytes(FREE_BYTES), bytes(FREE_BYTES // 2)], [bytes(FREE_BYTES), bytes(FREE_BYTES // 2), b"xx"]
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(ask(counted, body=big, call=call))
        await has_begun.wait()
        refused = await ask(counted, body=[bytes(FREE_BYTES), bytes(FREE_BYTES // 2 + 1)])
        assert (refused.status, refused.headers["retry-after"]) == (503, "5")
        assert "server busy, please try again" in refused.lines[0]["error"]
        assert (await ask(counted, body=bytes(FREE_BYTES))).status == 200, "a small body always has room"
        may_end.set()
    assert first.result().status == 200
    assert (await ask(counted, body=bigger)).data == b"%d" % (FREE_BYTES * 3 // 2 + 2)
    assert bodies._held_bytes == 0


@pytest.mark.parametrize("reads_body", [True, False], ids=["a body that is read first", "an upload"])
async def test_a_client_that_stops_in_the_middle_of_its_body_is_given_up(reads_body: bool) -> None:
    call, parts = Call(), [b"part"]

    async def receive() -> dict[str, object]:
        if parts:
            return {"type": "http.request", "body": parts.pop(), "more_body": True}
        return dict(await call.receive())

    async def handle(exchange: Exchange) -> Answer:
        async for _data in exchange.chunks():
            pass
        raise AssertionError

    call.body = []
    await Endpoint(handle, OLLAMA, reads_body=reads_body, stall_s=0.02)(scope("POST", "/"), receive, call.send)
    assert call.status == 400
    assert "nothing came of the rest of the request's body for 0.02 seconds" in call.lines[0]["error"]


async def test_an_upload_that_is_slow_to_be_written_is_waited_for() -> None:
    async def handle(exchange: Exchange) -> Answer:
        size = 0
        async for data in exchange.chunks():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await asyncio.Event().wait()
            size += len(data)
        return Answer(b"%d" % size)

    call = await ask(Endpoint(handle, OLLAMA, reads_body=False, stall_s=0.02), body=[b"ab", b"cd", b"e"])
    assert (call.status, call.data) == (200, b"5")


@pytest.mark.parametrize("body", [[b""], [b"all", b" of it"]], ids=["no body", "a body"])
async def test_a_client_that_leaves_when_its_upload_is_there_cancels_what_is_done_with_it(body: list[bytes]) -> None:
    call, cancelled = Call(), []

    async def handle(exchange: Exchange) -> Answer:
        async for _data in exchange.chunks():
            pass
        call.leave()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        raise AssertionError

    await ask(Endpoint(handle, OLLAMA, reads_body=False), body=body, call=call)
    assert (cancelled, call.status) == ([True], 499)


async def test_an_upload_is_asked_for_when_it_is_wanted_and_not_before() -> None:
    call, log = Call(), list[str]()

    async def receive() -> dict[str, object]:
        log.append("receive")
        return dict(await call.receive())

    async def handle(exchange: Exchange) -> Answer:
        for _ in range(5):
            await asyncio.sleep(0)
        log.append("wanted")
        return Answer(b"".join([data async for data in exchange.chunks()]))

    call.body = [b"data"]
    asked = scope("POST", "/", [("expect", "100-continue")])
    await Endpoint(handle, OLLAMA, reads_body=False)(asked, receive, call.send)
    assert log[:2] == ["wanted", "receive"]
    assert call.data == b"data"


@pytest.mark.parametrize("is_stream", [True, False], ids=["the error line of a stream", "a whole answer"])
async def test_the_end_of_an_answer_does_not_wait_for_a_client_that_does_not_read(is_stream: bool) -> None:
    call, asked = Call(), scope("POST", "/")

    async def send(message: dict[str, object]) -> None:
        if message["type"] == "http.response.body" and message["body"] != b"1\n":
            await asyncio.Event().wait()  # the socket is full
        await call.send(message)

    async def handle(exchange: Exchange) -> Answer | None:
        if is_stream:
            await exchange.write(b"1\n")
            raise EngineCrashedError(mid_answer=True)
        return Answer(b"all of it")

    await Endpoint(handle, OLLAMA, stall_s=0.02)(asked, call.receive, send)  # type: ignore[arg-type]  # looser messages
    assert asked["corral.error"] == "client_stalled"
    assert not call.is_over
    assert call.data == (b"1\n" if is_stream else b"")


@pytest.mark.parametrize(("size", "is_aside"), [(10, False), (300_000, True)], ids=["small", "big"])
async def test_what_is_made_of_a_big_body_is_made_in_a_thread(size: int, *, is_aside: bool) -> None:
    threads: list[bool] = []

    def convert(given: CopyRequest) -> str:
        threads.append(threading.current_thread() is not threading.main_thread())
        return given.source or ""

    async def handle(exchange: Exchange) -> Answer:
        given, made = await exchange.read(RequestDecoder(CopyRequest, OLLAMA), convert)
        assert given.source == made
        return Answer(b"%d" % len(made))

    call = await ask(endpoint(handle), body=b'{"source":"%b"}' % (b"x" * size))
    assert (call.data, threads) == (b"%d" % size, [is_aside])


@pytest.mark.parametrize("size", [10, 300_000], ids=["small", "big"])
async def test_a_body_that_makes_no_sense_is_refused_whatever_its_size(size: int) -> None:
    async def handle(exchange: Exchange) -> Answer:
        await exchange.read(RequestDecoder(CopyRequest, OLLAMA), lambda given: given)
        raise AssertionError

    assert (await ask(endpoint(handle), body=b"{" + b"x" * size)).status == 400


async def test_once_a_request_is_understood_refusals_have_the_dialects_type() -> None:
    def convert(given: CopyRequest) -> None:
        if not given.destination:
            raise BadRequestError("no destination")

    async def handle(exchange: Exchange) -> Answer:
        await exchange.read(RequestDecoder(CopyRequest, OPENAI), convert)
        raise BadRequestError("later")

    bodies = [b'{"source":"a"}', b'{"source":"a","destination":"b"}']
    types = [(await ask(Endpoint(handle, OPENAI), body=body)).headers["content-type"] for body in bodies]
    assert types == ["application/json; charset=utf-8", "application/json"]
