"""One request, timed: what was sent when, what came when, and what went wrong. Nothing that goes wrong leaves as an exception.

Times are monotonic nanoseconds, taken where bytes are handed to us, before they are read. Connections are kept alive and used
again, as client libraries do; what it takes to open one counts.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Final

import aiohttp
import msgspec

from corral import __version__
from corral.cli.bench.dialects import AnswerError, Dialect, Told, error_text, merged
from corral.cli.bench.workloads import Ask, Json

CONNECT_TIMEOUT_S: Final = 10.0
_REFUSED: Final = 300  # the first status that is none of success
_ERROR_BYTES: Final = 4096
_HEADERS: Final = {
    "User-Agent": f"corral/{__version__}",
    "Content-Type": "application/json",
    "Accept-Encoding": "identity",  # to pack and unpack a stream would be measured too
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request has no good answer. `kind` is few words, the same for all of its kind; `text` is what was said."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One request and its answer. Times are monotonic nanoseconds."""

    sent_ns: int
    end_ns: int  # the answer was whole, or failed
    pieces_ns: tuple[int, ...] = ()  # when each piece that brought something generated came
    group: str = ""
    client: int = -1  # which of a closed loop's clients sent it, and as its how manieth
    nth: int = 0
    failure: Failure | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None  # by the server's own count
    texts: int = 0  # that were embedded
    is_json: bool | None = None  # of an answer that was to be JSON

    @property
    def tokens(self) -> int:
        """Tokens of the answer; pieces, where the server does not count them."""
        return len(self.pieces_ns) if self.output_tokens is None else self.output_tokens


@dataclass(frozen=True, slots=True)
class Server:
    """Where requests go, and in which words."""

    name: str
    url: str  # without a slash at its end
    model: str
    dialect: Dialect
    headers: Mapping[str, str] = field(default_factory=dict)
    extra_body: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sent:
    sample: Sample
    text: str | None  # None: it failed


@asynccontextmanager
async def http_session() -> AsyncIterator[aiohttp.ClientSession]:
    """As many connections as are asked for, and no time limit but for opening one."""
    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(_note_reuse)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
        headers=_HEADERS,
        trace_configs=[trace],
    ) as session:
        yield session


@dataclass(slots=True)
class _Connection:
    is_old: bool = False


async def _note_reuse(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
    if isinstance(context.trace_request_ctx, _Connection):
        context.trace_request_ctx.is_old = True


class Sender:
    """Sends requests to one server."""

    def __init__(self, session: aiohttp.ClientSession, server: Server, timeout_s: float) -> None:
        """`timeout_s`: for one request from its first byte to its answer's last."""
        self.server = server
        self._session, self._timeout_s = session, timeout_s

    async def send(self, ask: Ask, *, client: int = -1, nth: int = 0, heard: Callable[[], None] = lambda: None) -> Sent:
        """The request's sample and its answer's text. `heard` is called for each piece of the answer."""
        server = self.server
        url = server.url + server.dialect.path(ask)
        data = msgspec.json.encode(merged(server.dialect.body(ask, server.model), server.extra_body))
        reading = _Reading(server.dialect, heard)
        failure = None
        sent_ns = time.monotonic_ns()
        try:
            async with asyncio.timeout(self._timeout_s), self._response(url, data) as response:
                await (self._read_vectors(response, ask, reading) if ask.inputs else self._read_stream(response, reading))
        except AnswerError as exc:
            failure = Failure(exc.kind, exc.text)
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            failure = translated(exc, self._timeout_s)
        told = reading.told
        sample = Sample(
            sent_ns=sent_ns,
            end_ns=reading.done_ns if reading.done_ns and not failure else time.monotonic_ns(),
            pieces_ns=tuple(reading.pieces_ns),
            group=ask.group,
            client=client,
            nth=nth,
            failure=failure,
            prompt_tokens=told.prompt_tokens,
            cached_tokens=told.cached_tokens,
            output_tokens=told.output_tokens,
            texts=len(ask.inputs),
            is_json=None if ask.schema is None or failure else _is_json(told.text),
        )
        return Sent(sample, None if failure else told.text)

    @asynccontextmanager
    async def _response(self, url: str, data: bytes) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer, once it begins. Where the server has closed a kept connection meanwhile, another one is taken."""
        while True:
            connection = _Connection()
            request = self._session.post(
                url, data=data, headers=self.server.headers, allow_redirects=False, trace_request_ctx=connection
            )
            try:
                response = await request
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as exc:
                if connection.is_old and not isinstance(exc, aiohttp.ClientConnectorError):
                    continue
                raise
            async with response:
                if response.status >= _REFUSED:
                    said = error_text(await response.content.read(_ERROR_BYTES))
                    raise AnswerError(f"HTTP {response.status}", said or response.reason or "")
                yield response
            return

    async def _read_stream(self, response: aiohttp.ClientResponse, reading: "_Reading") -> None:
        async for data in response.content.iter_any():
            reading.feed(data, time.monotonic_ns())
        reading.close()

    async def _read_vectors(self, response: aiohttp.ClientResponse, ask: Ask, reading: "_Reading") -> None:
        body = await response.read()
        reading.done_ns = time.monotonic_ns()
        count = self.server.dialect.count_vectors(body, reading.told)
        if count != len(ask.inputs):
            raise AnswerError("not understood", f"{count} vectors for {len(ask.inputs)} texts")


class _Reading:
    """The lines of a stream, and when what came."""

    def __init__(self, dialect: Dialect, heard: Callable[[], None]) -> None:
        self.told = Told()
        self.pieces_ns: list[int] = []
        self.done_ns = 0
        self._dialect, self._heard = dialect, heard
        self._rest = b""

    def feed(self, data: bytes, now_ns: int) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line, now_ns)

    def _line(self, line: bytes, now_ns: int) -> None:
        if self._dialect.read_line(line, self.told):
            self.pieces_ns.append(now_ns)
            self._heard()
        if self.told.is_done and not self.done_ns:
            self.done_ns = now_ns

    def close(self) -> None:
        """The stream has ended. Raises AnswerError where it did not say so."""
        if self._rest:
            self._line(self._rest, time.monotonic_ns())
        if not self.told.is_done:
            raise AnswerError("broken off", "the answer ended before it said that it was over")


def translated(error: Exception, timeout_s: float) -> Failure:
    """An error of aiohttp's or the system's in the report's words."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            return Failure("no connection", f"no connection within {CONNECT_TIMEOUT_S:g} s")
        case aiohttp.ClientConnectorError():
            return Failure("no connection", _why(error.os_error))
        case TimeoutError():
            return Failure("timeout", f"no whole answer within {timeout_s:g} s")
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError() | aiohttp.ClientPayloadError():
            return Failure("broken off", "the server closed the connection")
        case _:
            return Failure("not understood", str(error) or type(error).__name__)


def _why(error: OSError) -> str:
    """asyncio puts words of its own where the system's would stand."""
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
