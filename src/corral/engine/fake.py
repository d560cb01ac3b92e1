"""A scripted engine, shipped with the package: says what it is told, as fast as it is told, with no model and no process.

For tests of everything above the engine, ours and those of programs that embed Corral.
"""

import asyncio
import struct
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import msgspec

from corral.core.errors import BadRequestError, ContextOverflowError, EngineCrashedError, EngineLostError
from corral.core.types import (
    Begun,
    EmbedJob,
    EngineInfo,
    Finish,
    FinishReason,
    Job,
    LoadSpec,
    Step,
    TokenChance,
    TokenLogprob,
    Vectors,
)

Gate = Callable[[int], asyncio.Event | None]
_STEP_TEXTS: Final = 100  # vectors that come at once
_SPECIAL: Final = 1000  # the numbers of special tokens begin here


@dataclass(slots=True)
class Script:
    """What the next job answers: the pieces in order, then the end. A word is a token here, in the prompt too."""

    pieces: Sequence[str] = ("Hello", ", ", "world")
    reason: FinishReason = "stop"
    cached_tokens: int = 0
    thought_tokens: int = 0
    stop_text: str = ""  # the stop string that the answer ends with
    gate: Gate = lambda _index: None  # an event to wait for before the piece of that index
    crash_after: int | None = None  # pieces said before the worker dies
    is_lost: bool = False  # the worker turns out to be dead already
    failure: Exception | None = None  # how the answer ends after its pieces, instead of with a finish


@dataclass(slots=True)
class FakeEngine:
    """Runs each job by the next script of `scripts`, or by a default one; keeps every job it saw."""

    info: EngineInfo
    scripts: deque[Script] = field(default_factory=deque)
    jobs: list[Job] = field(default_factory=list)
    running: int = 0
    is_alive: bool = True
    tokenized: list[tuple[str, bool]] = field(default_factory=list)  # what `tokenize` was asked: text, add_special
    embed_jobs: list[EmbedJob] = field(default_factory=list)
    vectors: Mapping[str, Sequence[float]] = field(default_factory=dict)  # of texts; the others get four numbers of their own
    embed_gate: asyncio.Event | None = None  # to wait for before the first vector
    on_change: Callable[[], None] | None = None
    limit_bytes: int = 0

    @asynccontextmanager
    async def generate(self, job: Job) -> AsyncIterator[AsyncIterator[Step]]:
        script = self.scripts.popleft() if self.scripts and self.is_alive else Script()
        self.is_alive = self.is_alive and not script.is_lost
        if not self.is_alive:
            raise EngineLostError
        self.jobs.append(job)
        self.running += 1
        try:
            yield self._answer(job, script)
        finally:
            self.running -= 1

    async def _answer(self, job: Job, script: Script) -> AsyncIterator[Step]:
        prompt_tokens = len(job.prefix_tokens) + len(_words(job.prompt)) + len(_words(job.suffix))
        if prompt_tokens >= job.num_ctx:
            raise ContextOverflowError(prompt_tokens, job.num_ctx)
        begun = Begun(prompt_tokens, script.cached_tokens)
        pieces = script.pieces if job.num_predict < 0 else script.pieces[: job.num_predict]
        for index, piece in enumerate(pieces):
            if gate := script.gate(index):
                await gate.wait()
            if script.crash_after == index or not self.is_alive:
                self.is_alive = False
                raise EngineCrashedError(mid_answer=index > 0)
            yield Step(piece, None, _logprobs(piece, job.logprobs), begun if index == 0 else None)
        if script.failure:
            raise script.failure
        reason: FinishReason = script.reason if len(pieces) == len(script.pieces) else "length"
        yield Step(
            "",
            Finish(
                reason=reason,
                prompt_tokens=prompt_tokens,
                cached_tokens=script.cached_tokens,
                prompt_ns=1_000_000,
                thought_tokens=min(script.thought_tokens, len(pieces)),
                eval_tokens=len(pieces) + (reason == "stop"),
                eval_ns=2_000_000,
                stop_text=script.stop_text if reason == "stop" else "",
            ),
            begun=None if pieces else begun,
        )

    @asynccontextmanager
    async def embed(self, job: EmbedJob) -> AsyncIterator[AsyncIterator[Vectors]]:
        script = self.scripts.popleft() if self.scripts and self.is_alive else Script()
        self.is_alive = self.is_alive and not script.is_lost
        if not self.is_alive:
            raise EngineLostError
        self.embed_jobs.append(job)
        self.running += 1
        try:
            yield self._embedded(job)
        finally:
            self.running -= 1

    async def _embedded(self, job: EmbedJob) -> AsyncIterator[Vectors]:
        if self.embed_gate:
            await self.embed_gate.wait()
        for begin in range(0, len(job.texts), _STEP_TEXTS):
            if not self.is_alive:
                raise EngineCrashedError
            texts = job.texts[begin : begin + _STEP_TEXTS]
            sizes = [len(_words(text)) + len(_words(job.query or "")) for text in texts]
            if max(sizes) > job.num_ctx and not job.truncate:
                raise ContextOverflowError(max(sizes), job.num_ctx)
            rows = [self.vectors.get(text) or fake_vector(text) for text in texts]
            data = b"".join(struct.pack(f"<{len(row)}f", *row) for row in rows)
            yield Vectors(len(texts), data, sum(min(size, job.num_ctx) for size in sizes))

    async def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        """Its words' places in the text, and 1000 more for a word in angle brackets: that is a special token."""
        self.tokenized.append((text, add_special))
        return [at + _SPECIAL * (parse_special and word[0] == "<") for at, word in enumerate(_words(text))]

    async def detokenize(self, tokens: Sequence[int]) -> str:
        return b" ".join(await self.pieces(tokens)).decode()

    async def pieces(self, tokens: Sequence[int]) -> list[bytes]:
        """Every number below 2000 is a token, and its own text."""
        if bad := [token for token in tokens if not 0 <= token < 2 * _SPECIAL]:
            raise BadRequestError(
                f"token {bad[0]} is not in the model's vocabulary, which has the tokens 0 to {2 * _SPECIAL - 1}"
            )
        return [str(token).encode() for token in tokens]

    def set_limit(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes

    def resize(self, size_bytes: int) -> None:
        """It takes so much memory now."""
        self.info = msgspec.structs.replace(self.info, size_bytes=size_bytes)
        if self.on_change:
            self.on_change()

    async def aclose(self) -> None:
        self.is_alive = False


@dataclass(slots=True)
class FakeLauncher:
    """Launches FakeEngines. `hold` keeps loads waiting, `failure` is what the next one raises."""

    engines: list[FakeEngine] = field(default_factory=list)
    specs: list[LoadSpec] = field(default_factory=list)
    scripts: deque[Script] = field(default_factory=deque)
    hold: asyncio.Event | None = None
    failure: Exception | None = None
    size_bytes: int = 1_000_000  # of the next engines, and how much of it on GPUs
    n_parallel: int | None = None  # None: as many as the spec wants
    vram_bytes: int = 0
    gpu_total_bytes: int = 0
    vectors: Mapping[str, Sequence[float]] = field(default_factory=dict)
    embed_gate: asyncio.Event | None = None

    async def launch(self, spec: LoadSpec, on_progress: Callable[[float], None]) -> FakeEngine:
        self.specs.append(spec)
        on_progress(0.0)
        if self.hold:
            await self.hold.wait()
        if self.failure:
            failure, self.failure = self.failure, None
            raise failure
        on_progress(1.0)
        info = EngineInfo(
            n_ctx=spec.n_ctx,
            n_ctx_train=spec.n_ctx,
            n_parallel=self.n_parallel or spec.n_parallel,
            size_bytes=self.size_bytes,
            vram_bytes=self.vram_bytes,
            can_shift=True,
            devices=("fake",),
        )
        engine = FakeEngine(info, scripts=self.scripts, vectors=self.vectors, embed_gate=self.embed_gate)
        self.engines.append(engine)
        return engine

    async def devices(self) -> tuple[str, ...]:
        return ("fake",)

    async def aclose(self) -> None:
        for engine in self.engines:
            await engine.aclose()


def fake_vector(text: str) -> tuple[float, ...]:
    """Four numbers, another four for another text, none of them normalised."""
    return tuple(float(zlib.crc32(text.encode(), seed) % 2000 - 1000) for seed in range(4))


def _words(text: str) -> list[str]:
    return text.split()


def _logprobs(piece: str, top: int) -> tuple[TokenLogprob, ...]:
    """A piece is a token that was as good as certain; the others are "a", "b" and so on, each less likely than the last."""
    if top < 0:
        return ()
    others = [TokenChance(bytes([ord("a") + index]), -2.5 * (index + 1)) for index in range(top - 1)]
    return (TokenLogprob(piece.encode(), -0.125, (TokenChance(piece.encode(), -0.125), *others)[:top]),)
