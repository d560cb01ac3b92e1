"""The engine as the server sees it: jobs go to the worker, steps come back, each to its own stream."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Final

from msgspec.structs import replace

from corral.core.errors import (
    BadRequestError,
    ContextOverflowError,
    CorralError,
    EngineCrashedError,
    EngineError,
    EngineLostError,
    ServerStoppingError,
)
from corral.core.types import EmbedJob, EngineInfo, Job, Step, Vectors
from corral.engine.llamacpp.embed_stream import EmbedStream
from corral.engine.llamacpp.process import WorkerProcess
from corral.wire.link import (
    Attach,
    CallFailed,
    Cancel,
    Detokenize,
    Embedded,
    Frame,
    FromWorker,
    Gain,
    JobFailed,
    Limit,
    Loaded,
    Overflow,
    Pieces,
    StepFrame,
    Submit,
    Taken,
    Tokenize,
    Tokens,
)

log: Final = logging.getLogger(__name__)
_INBOX_CHARS: Final = 4 << 20  # text that a slow client may leave unread; more than any sane answer has
_PIECE_BYTES: Final = 256 << 10  # of images, sent at a time
_GAIN_CHARS: Final = 64
_CHANCE_CHARS: Final = 64
_APART: Final = 64  # steps that a reader may lag behind and still get each by itself, as clients that count pieces want it


class _Stream:
    """One job's inbox: what has come and nobody has read, a step at a time; all at once for a reader that lags far behind."""

    def __init__(self) -> None:
        self._unread: deque[Gain] = deque()
        self._size = 0
        self._error: CorralError | None = None
        self._news = asyncio.Event()
        self.is_taken = False  # the worker has it
        self.has_begun = False
        self._is_finished = False

    @property
    def is_over(self) -> bool:
        return self._is_finished or self._error is not None

    def gain(self, gain: Gain) -> bool:
        """Takes what a step brought; false when the inbox is full."""
        self.has_begun = True
        self._unread.append(gain)
        self._size += _size(gain)
        self._is_finished = gain.finish is not None
        self._news.set()
        return self._size <= _INBOX_CHARS

    def fail(self, error: CorralError) -> None:
        if not self.is_over:
            self._error = error
            self._news.set()

    async def steps(self) -> AsyncIterator[Step]:
        while True:
            while not self._unread and self._error is None:
                self._news.clear()
                await self._news.wait()
            if not self._unread:
                assert self._error
                raise self._error
            step = self._next()
            yield step
            if step.finish:
                return

    def _next(self) -> Step:
        if len(self._unread) <= _APART:
            gain = self._unread.popleft()
            self._size -= _size(gain)
            return Step(gain.text, gain.finish, gain.logprobs, gain.begun)
        gains, self._unread, self._size = self._unread, deque(), 0
        return Step(
            "".join(gain.text for gain in gains),
            gains[-1].finish,
            tuple(logprob for gain in gains for logprob in gain.logprobs),
            gains[0].begun,
        )


def _size(gain: Gain) -> int:
    """About what it takes to hold it, in characters."""
    return _GAIN_CHARS + len(gain.text) + sum(_CHANCE_CHARS * (1 + len(logprob.top)) for logprob in gain.logprobs)


class LlamaCppEngine:
    """A model in a worker process. Made by the launcher, closed by whoever asked for it."""

    def __init__(self, worker: WorkerProcess, info: EngineInfo) -> None:
        self._worker = worker
        self._info = info
        self.on_change: Callable[[], None] | None = None
        self._limit_bytes = 0
        self._is_closing = False
        self._streams: dict[int, _Stream] = {}
        self._embeds: dict[int, EmbedStream] = {}
        self._calls: dict[int, asyncio.Future[Any]] = {}  # to its answer: token ids, or bytes of tokens
        self._numbers = count(1)
        worker.on_frame = self._take
        worker.on_death = self._mourn

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def is_alive(self) -> bool:
        return self._worker.is_alive

    @property
    def pid(self) -> int:
        """The worker's process, for tests that kill it and operators who look for it."""
        return self._worker.pid

    @asynccontextmanager
    async def generate(self, job: Job) -> AsyncIterator[AsyncIterator[Step]]:
        if not self._worker.is_alive:
            raise EngineLostError
        number = next(self._numbers)
        stream = self._streams[number] = _Stream()
        try:
            self._worker.send(Submit(number, await self._attached(number, job)))
            yield stream.steps()
        finally:
            del self._streams[number]
            if not stream.is_over:
                self._worker.send(Cancel(number))

    async def _attached(self, number: int, job: Job) -> Job:
        """The job without its media, where these are large and have gone ahead of it, piece by piece."""
        if sum(map(len, job.media)) <= _PIECE_BYTES:
            return job
        for place, medium in enumerate(job.media):
            for begin in range(0, len(medium) or 1, _PIECE_BYTES):
                self._worker.send(Attach(number, place, medium[begin : begin + _PIECE_BYTES]))
                await self._worker.drain()
                await asyncio.sleep(0)
        return replace(job, media=())

    @asynccontextmanager
    async def embed(self, job: EmbedJob) -> AsyncIterator[AsyncIterator[Vectors]]:
        if not self._worker.is_alive:
            raise EngineLostError
        number = next(self._numbers)
        stream = self._embeds[number] = EmbedStream(number, job, self._worker.send)
        try:
            yield stream.vectors()
        finally:
            del self._embeds[number]
            if not stream.is_idle:
                self._worker.send(Cancel(number))

    async def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        tokens: list[int] = await self._call(lambda number: Tokenize(number, text, add_special, parse_special))
        return tokens

    async def detokenize(self, tokens: Sequence[int]) -> str:
        (text,) = await self._call(lambda number: Detokenize(number, list(tokens), is_apart=False))
        return str(text, "utf-8", "replace")

    async def pieces(self, tokens: Sequence[int]) -> list[bytes]:
        pieces: list[bytes] = await self._call(lambda number: Detokenize(number, list(tokens), is_apart=True))
        return pieces

    async def _call(self, frame_of: Callable[[int], Frame]) -> Any:
        """The worker's answer to the frame that is made for a call's number."""
        if not self._worker.is_alive:
            raise EngineCrashedError
        number = next(self._numbers)
        reply = self._calls[number] = asyncio.get_running_loop().create_future()
        try:
            self._worker.send(frame_of(number))
            return await reply
        finally:
            del self._calls[number]
            if not reply.done() or reply.cancelled():  # whoever asked has left
                self._worker.send(Cancel(number))

    def set_limit(self, limit_bytes: int) -> None:
        if limit_bytes != self._limit_bytes:
            self._limit_bytes = limit_bytes
            self._worker.send(Limit(limit_bytes))

    async def aclose(self) -> None:
        self._is_closing = True
        await self._worker.aclose()

    # What the worker says

    def _take(self, frame: FromWorker) -> None:
        match frame:
            case Taken():
                self._mark_taken(frame.job_id)
            case StepFrame():
                for gain in frame.gains:
                    self._give(gain)
            case Embedded():
                self._give_vectors(frame)
            case Overflow():
                self._fail(frame.job_id, ContextOverflowError(frame.prompt_tokens, frame.num_ctx, frame.is_least))
            case JobFailed():
                kind = BadRequestError if frame.is_asked_wrong else EngineError
                self._fail(frame.job_id, kind(frame.reason))
            case Tokens() | Pieces() | CallFailed():
                self._answer_call(frame)
            case Loaded():
                self._change(frame.info)

    def _give(self, gain: Gain) -> None:
        stream = self._streams.get(gain.job_id)
        if stream and not stream.gain(gain):
            self._worker.send(Cancel(gain.job_id))
            stream.fail(EngineError("the answer was not read for too long and was given up; read the stream as it comes"))

    def _give_vectors(self, frame: Embedded) -> None:
        if stream := self._embeds.get(frame.job_id):
            stream.take(frame.vectors)

    def _change(self, info: EngineInfo) -> None:
        self._info = info
        if self.on_change:
            self.on_change()

    def _answer_call(self, frame: Tokens | Pieces | CallFailed) -> None:
        call = self._calls.get(frame.call_id)
        if call is None or call.done():
            return
        match frame:
            case Tokens():
                call.set_result(frame.tokens)
            case Pieces():
                call.set_result(frame.pieces)
            case CallFailed():
                call.set_exception((BadRequestError if frame.is_asked_wrong else EngineError)(frame.reason))

    def _mark_taken(self, job_id: int) -> None:
        if stream := self._stream(job_id):
            stream.is_taken = True

    def _fail(self, job_id: int, error: CorralError) -> None:
        if stream := self._stream(job_id):
            stream.fail(error)

    def _stream(self, job_id: int) -> _Stream | EmbedStream | None:
        return self._streams.get(job_id) or self._embeds.get(job_id)

    def _mourn(self) -> None:
        if not self._is_closing:
            log.error("worker died", extra={"pid": self._worker.pid, "answers_lost": len(self._streams) + len(self._embeds)})
        for stream in self._streams.values():
            stream.fail(ServerStoppingError() if self._is_closing else _crash_of(stream))
        for embed in self._embeds.values():
            embed.fail(ServerStoppingError() if self._is_closing else _crash_of(embed))
        for call in self._calls.values():
            if not call.done():
                call.set_exception(ServerStoppingError() if self._is_closing else EngineCrashedError())


def _crash_of(stream: _Stream | EmbedStream) -> EngineCrashedError:
    if not stream.is_taken:
        return EngineLostError()
    return EngineCrashedError(mid_answer=stream.has_begun)
