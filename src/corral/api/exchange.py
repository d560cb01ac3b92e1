"""One request and its answer, over raw ASGI: the edge where bytes come in, errors become answers, and a client may leave.

The body is read first, unless the handler takes it as it arrives; what is made of a big one is made in a thread. The handler
runs for as long as the client is there: a client that leaves cancels it, whether it uploads, waits or is streamed to. No wait
for a client is without an end, for what it sends as for what it reads. A handler returns an Answer, or writes a stream. The
one place of the API with `except Exception`. It knows no endpoint and, but for the Dialect it is given, no API.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar

import msgspec
from starlette.types import Message, Receive, Scope, Send

from corral.api.bodies import Bodies
from corral.api.clients import client_of
from corral.api.decode import RequestDecoder
from corral.api.dialect import Dialect
from corral.api.encodings import unpacked
from corral.api.errors import code_of, retry_after_s, status_of
from corral.core.aio import ThreadLimiter, cancelling
from corral.core.errors import BodyStalledError, ClientStalledError, CorralError, RequestCanceledError

D = TypeVar("D")
P = ParamSpec("P")
R = TypeVar("R", bound=msgspec.Struct)

log: Final = logging.getLogger(__name__)

JSON: Final = b"application/json; charset=utf-8"
PLAIN_JSON: Final = b"application/json"  # as Ollama words it for progress that is asked for in one piece, and under /v1

STALL_S: Final = 60.0  # for so long a client may send nothing of its body, or take nothing of its answer

_BIG_BODY_BYTES: Final = 256 << 10  # to decode as much takes a millisecond or two

ERROR_KEY: Final = "corral.error"  # in the scope: the code of the error that ended the request, for the access line

_END: Final[Message] = {"type": "http.response.body", "body": b"", "more_body": False}


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. No content type: no header of that name, as for an empty body."""

    body: bytes = b""
    status: int = 200
    content_type: bytes = JSON
    retry_after_s: int = 0  # when to try again; 0 says nothing


def json_answer(value: msgspec.Struct | Mapping[str, Any], *, content_type: bytes = JSON) -> Answer:
    return Answer(msgspec.json.encode(value), content_type=content_type)


class Exchange:
    """What a handler sees of its request, and where it writes its answer."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        dialect: Dialect,
        *,
        stall_s: float = STALL_S,
        threads: ThreadLimiter | None = None,
    ) -> None:
        """`threads` are for what is made of big bodies."""
        self.scope = scope
        self.body = b""
        self.has_begun = False  # the first byte of a stream is on its way: no other status is possible
        self._stall_s = stall_s
        self._writes_since_s: float | None = None  # when the write began that is under way
        self.error_type = JSON if scope["method"] == "POST" else dialect.error_type
        self.error_frame = dialect.frame  # of a stream that has begun; a handler may have one that says more
        self.more_headers: list[tuple[bytes, bytes]] = []  # of the answer; nothing can be added once it has begun
        self._loop = asyncio.get_running_loop()
        self._receive = receive
        self._send = send
        self._dialect = dialect
        self._threads = threads
        self._parts: asyncio.Queue[Message] | None = None  # of a body that is read while its client is watched
        self._is_body_wanted = asyncio.Event()

    @property
    def path_params(self) -> Mapping[str, Any]:
        params: Mapping[str, Any] = self.scope["path_params"]
        return params

    @property
    def address(self) -> str:
        """The address that the request came from, or ""."""
        address = self.scope.get("client")
        return str(address[0]) if address else ""

    @property
    def client(self) -> str:
        """Who asks, as far as address and headers tell."""
        return client_of(self.address, self.scope["headers"])

    def header(self, name: bytes) -> str:
        """The first header of that lower-case name, or ""."""
        return next((value.decode("latin-1") for key, value in self.scope["headers"] if key == name), "")

    async def read(self, decoder: RequestDecoder[R], convert: Callable[[R], D]) -> tuple[R, D]:
        """The request in the body, and what the handler makes of it. Raises BadRequestError."""
        given = await self.aside(decoder.decode, self.body)
        made = await self.aside(convert, given)
        self.understood()
        return given, made

    def understood(self) -> None:
        """The request's form is right: errors have the dialect's other content type from here on."""
        self.error_type = self._dialect.error_type

    async def aside(self, work: Callable[P, D], *args: P.args, **kwargs: P.kwargs) -> D:
        """What the work gives; from a thread where the body is so big that others would wait for it."""
        if self._threads and len(self.body) > _BIG_BODY_BYTES:
            return await self._threads.run(work, *args, **kwargs)
        return work(*args, **kwargs)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises RequestCanceledError when the client leaves before its end, BodyStalledError."""
        self._is_body_wanted.set()
        more = True
        while more:
            message = await self._next_part()
            if message["type"] == "http.disconnect":
                raise RequestCanceledError
            if data := message.get("body", b""):
                yield data
            more = message.get("more_body", False)

    async def _next_part(self) -> Message:
        try:
            async with asyncio.timeout(self._stall_s):
                return await (self._parts.get() if self._parts else self._receive())
        except TimeoutError as exc:
            raise BodyStalledError(self._stall_s) from exc

    async def write(self, data: bytes, *, content_type: bytes = b"") -> None:
        """Sends a piece of a stream, whole lines or events as a rule, and the head of the answer before the first.

        Its content type is the dialect's, unless another one is given.
        """
        self._writes_since_s = self._loop.time()
        if not self.has_begun:
            self.has_begun = True
            headers = [(b"content-type", content_type or self._dialect.stream_type)]
            headers += [*self._dialect.headers(), *self.more_headers]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        self._writes_since_s = None

    async def finish(self, answer: Answer | None) -> None:
        """Sends a whole answer, or without one ends the stream. Raises ClientStalledError."""
        if answer is None:
            await self._send_last(_END)
            return
        headers = [(b"content-length", b"%d" % len(answer.body))]
        if answer.content_type:
            headers.append((b"content-type", answer.content_type))
        if answer.retry_after_s:
            headers.append((b"retry-after", b"%d" % answer.retry_after_s))
        headers += [*self._dialect.headers(), *self.more_headers]
        body = b"" if self.scope["method"] == "HEAD" else answer.body
        await self._send_last(
            {"type": "http.response.start", "status": answer.status, "headers": headers},
            {"type": "http.response.body", "body": body, "more_body": False},
        )

    async def fail(self, error: Exception) -> None:
        """Ends with the error: as a status and a body, or in a stream that has begun as its last frame.

        Raises ClientStalledError, also where that is the error: to a client that does not read nothing more can be said.
        """
        self.scope[ERROR_KEY] = code_of(error)
        if isinstance(error, ClientStalledError):
            raise error
        if self.has_begun:
            frame: Message = {"type": "http.response.body", "body": self.error_frame(error), "more_body": True}
            await self._send_last(frame, _END)
        else:
            body, wait_s = self._dialect.body(error), retry_after_s(error)
            await self.finish(Answer(body, status_of(error), self.error_type, wait_s))

    def give_up(self, error: ClientStalledError) -> None:
        """Leaves the answer as it is, and the server closes the connection, in mid-stream."""
        self.scope[ERROR_KEY] = error.code
        log.info("stream given up", extra={"path": self.scope["path"], "client": self.address, "stall_s": self._stall_s})

    async def _send_last(self, *messages: Message) -> None:
        """Sends the end of the answer, which may wait for the client to read what came before it."""
        try:
            async with asyncio.timeout(self._stall_s):
                for message in messages:
                    await self._send(message)
        except TimeoutError as exc:
            raise ClientStalledError(self._stall_s) from exc

    @asynccontextmanager
    async def until_gone(self, *, with_body: bool = False) -> AsyncIterator[None]:
        """Cancels the block when the client leaves, and raises RequestCanceledError from it.

        The body is read before, or `with_body` in the block: as long as it does not read on, what has come of the body hides a
        leaving behind it. The same for a client that stays and does not read what is written to it: ClientStalledError.
        """
        handler = asyncio.current_task()
        assert handler is not None
        was_cancelling = handler.cancelling()
        end: CorralError | None = None

        def leave(error: CorralError) -> None:
            nonlocal end
            if end is None:
                end = error
                handler.cancel()

        async def watch() -> None:
            if self._parts and self.header(b"expect"):
                await self._is_body_wanted.wait()  # to receive is to tell the client to send it
            while (message := await self._receive())["type"] != "http.disconnect":
                if self._parts:
                    await self._parts.put(message)
            leave(RequestCanceledError())

        self._parts = asyncio.Queue(1) if with_body else None
        try:
            with self._hearing_of_stalls(leave):
                async with cancelling(watch(), name="client-watch"):
                    yield
        except asyncio.CancelledError as exc:
            if end is not None and handler.uncancel() <= was_cancelling:
                raise end from exc
            raise

    @contextmanager
    def _hearing_of_stalls(self, stalled: Callable[[CorralError], None]) -> Iterator[None]:
        """Looks now and then whether a write waits for its reader too long: a timer of its own would cost every write more."""
        timer: asyncio.TimerHandle | None = None

        def look() -> None:
            nonlocal timer
            timer = self._loop.call_later(self._stall_s / 4, look)
            since_s = self._writes_since_s
            if since_s is not None and self._loop.time() - since_s >= self._stall_s:
                stalled(ClientStalledError(self._stall_s))

        look()
        try:
            yield
        finally:
            if timer:
                timer.cancel()


Handler: TypeAlias = Callable[[Exchange], Awaitable[Answer | None]]


class Endpoint:
    """A handler as an ASGI application. With `reads_body` false the handler takes the body itself, as it arrives."""

    def __init__(
        self,
        handler: Handler,
        dialect: Dialect,
        *,
        reads_body: bool = True,
        bodies: Bodies | None = None,
        stall_s: float = STALL_S,
    ) -> None:
        """`bodies` bounds the bodies of all endpoints that share it."""
        self.handler = handler
        self._dialect = dialect
        self._reads_body = reads_body
        self._bodies = bodies or Bodies()
        self._stall_s = stall_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send, self._dialect, stall_s=self._stall_s, threads=self._bodies.threads)
        try:
            await self._exchanged(exchange)
        except ClientStalledError as exc:
            exchange.give_up(exc)

    async def _exchanged(self, exchange: Exchange) -> None:
        try:
            answer = await self._handled(exchange)
        except CorralError as exc:
            await exchange.fail(exc)
        except Exception as exc:  # the request edge: nothing that a request meets may end the server
            log.exception("request failed", extra={"path": exchange.scope["path"]})
            await exchange.fail(exc)
        else:
            await exchange.finish(answer)

    async def _handled(self, exchange: Exchange) -> Answer | None:
        if not self._reads_body:
            async with exchange.until_gone(with_body=True):
                return await self.handler(exchange)
        chunks = unpacked(exchange.chunks(), exchange.header(b"content-encoding"))
        body = self._bodies.held(chunks, exchange.header(b"content-length"))
        async with body as exchange.body, exchange.until_gone():
            return await self.handler(exchange)
