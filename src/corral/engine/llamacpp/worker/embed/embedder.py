"""Embedding jobs in a worker: which texts the next step computes, and whose vectors came of it.

Texts of all jobs share batches and take turns, one of each job: a job of a thousand texts delays another's single one by a
step. Where a model reads its text from left to right, a text may be read in pieces over several steps: so batches are full,
and generations that run beside it wait for a short piece only. Other models read a text at once or not at all.
"""

import heapq
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from corral.core.errors import BadRequestError, ContextOverflowError, EngineError, ModelLoadError
from corral.core.types import Vectors
from corral.engine.llamacpp.worker.embed.ranking import Ranking
from corral.engine.llamacpp.worker.embed.reading import Words, suffix
from corral.engine.llamacpp.worker.texts import Reads, Texts
from corral.wire.link import Embed, Embedded, Frame, JobFailed, Overflow

_GAP_S: Final = 0.05  # running generations may wait about this long per step
_LEAST_CHUNK: Final = 32  # tokens in a step, at least
_LEARN: Final = 0.3  # weight of the newest measurement of speed
_LOOK_EVERY_S: Final = 0.02  # an embedder with nothing else to do asks its socket so often
_PLENTY_CHARS: Final = 32  # to a token; where a text is to be cut, no more is tokenized unless that was not enough
_EDGE: Final = 64  # tokens at the end of a beginning, which may be others in the whole text
_FRAME_BYTES: Final = 1 << 20  # of vectors in one frame
_NO_QUERY: Final = "the model ranks texts by a query and makes no embeddings"
_NO_RANKING: Final = "the model makes embeddings and does not rank texts by a query"
_NO_TOKENS: Final = "an input is empty, and the model makes no tokens of it; leave empty inputs out"


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens of one text to compute: all of them, or those that come next."""

    sequence: int
    tokens: Sequence[int]
    position: int  # of the first of them in the text
    is_last: bool


class EmbedContext(Protocol):
    """What an embedder needs of a llama.cpp context."""

    batch: int  # tokens in a step, at most
    cells: int  # tokens of all texts that are being read, at most, and so of one of them
    sequences: int  # texts that are being read, at most
    reads_whole: bool  # all tokens of a text must be in one step

    def compute(self, pieces: Sequence[Piece]) -> list[bytes]:
        """The vectors of those pieces that are the last ones of their texts, in order; these texts are forgotten.

        Raises EngineError; what the context holds of the pieces' texts is not to be trusted then.
        """
        ...

    def forget(self, sequences: Iterable[int]) -> None: ...
    def close(self) -> None: ...


C = TypeVar("C", bound=EmbedContext)


@dataclass(slots=True, eq=False)
class _Job:
    job_id: int
    limit: int  # tokens of one text
    truncate: bool
    query: str | None
    texts: deque[str] = field(default_factory=deque)
    reading: Future[list[int]] | None = None  # the tokens of a long text
    next: "_Text | None" = None  # tokenized, and waiting for room
    partial: "_Text | None" = None  # read up to some token

    @property
    def is_done(self) -> bool:
        return not self.texts and self.reading is None and self.next is None and self.partial is None


@dataclass(slots=True, eq=False)
class _Text:
    job: _Job
    tokens: list[int]
    sequence: int = -1
    computed: int = 0

    @property
    def missing(self) -> int:
        return len(self.tokens) - self.computed


class Embedder(Generic[C]):
    """Owns the jobs. `make` makes a context that can read a text of so many tokens, and may raise ModelLoadError.

    A text has `most` tokens at most. A model that ranks has a `ranking`, and reads each text with its job's query. The first
    context is made for short texts, when there is something to do; one that a long text made grow is given back when there is
    nothing left to do.
    """

    def __init__(
        self,
        words: Words,
        make: Callable[[int], C],
        *,
        most: int,
        ranking: Ranking | None = None,
        texts: Reads | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.context: C | None = None
        self._words = words
        self._ranking = ranking
        self._texts: Reads = texts or Texts()
        self._make = make
        self._most = most
        self._now_s = now_s
        self._jobs: OrderedDict[int, _Job] = OrderedDict()
        self._held = 0  # tokens of the texts that are being read
        self._free: list[int] = []  # sequences, the lowest first
        self._first_cells = 0
        self._suffix: list[int] | None = None
        self._tokens_per_s = 0.0

    @property
    def has_work(self) -> bool:
        return bool(self._jobs)

    def submit(self, more: Embed) -> bool:
        """Takes a job, or more texts of one; true where it was not there before."""
        job = self._jobs.get(more.job_id)
        is_new = job is None
        if job is None:
            job = self._jobs[more.job_id] = _Job(more.job_id, min(more.num_ctx, self._most), more.truncate, more.query)
        job.texts.extend(more.texts)
        return is_new

    def cancel(self, job_id: int) -> None:
        """The job leaves before the next step."""
        job = self._jobs.pop(job_id, None)
        if job and job.reading:
            job.reading.cancel()
        if job and job.partial and self.context:
            self.context.forget([job.partial.sequence])
            self._release(job.partial)

    def step(self, *, is_shared: bool) -> list[Frame]:
        """Computes one batch, a small one if generations run beside it, and gives what there is to tell."""
        frames: list[Frame] = []
        if self.context is None:
            self._try_grow(frames)
        if chosen := self._choose(frames, is_shared=is_shared):
            frames += self._compute(chosen)
        elif not is_shared and (reading := [job.reading for job in self._jobs.values() if job.reading]):
            wait(reading, _LOOK_EVERY_S, FIRST_COMPLETED)
        for job in [job for job in self._jobs.values() if job.is_done]:
            del self._jobs[job.job_id]
        if not self._jobs:
            self._give_back()
        return frames

    def grow(self, tokens: int) -> None:
        """Makes a context that can read a text of so many tokens, in the place of what there is. Raises EngineError."""
        self.close()
        try:
            self.context = self._make(tokens)
        except ModelLoadError as exc:
            raise EngineError(str(exc)) from exc
        self._free = list(range(self.context.sequences))
        self._first_cells = self._first_cells or self.context.cells

    def close(self) -> None:
        if self.context:
            self.context.close()
            self.context = None

    def _try_grow(self, frames: list[Frame]) -> None:
        """The first context. Without it no job can go on."""
        try:
            self.grow(1)
        except EngineError as error:
            for job in list(self._jobs.values()):
                self._refuse(job, JobFailed(job.job_id, str(error)), frames)

    def _give_back(self) -> None:
        if self.context and self.context.cells > self._first_cells:
            self.close()

    # Choosing

    def _choose(self, frames: list[Frame], *, is_shared: bool) -> list[tuple[_Text, int]]:
        """Texts, and how many of their tokens are computed now."""
        partial = [job.partial for job in self._jobs.values() if job.partial]
        left = self._budget(is_shared=is_shared)
        chosen: list[tuple[_Text, int]] = []
        sharers = len(partial) + (len(partial) < len(self._jobs))
        for text in partial:
            size = min(text.missing, max(1, left // sharers))
            self._take(text, size, chosen)
            left, sharers = left - size, sharers - 1
        while left > 0 and (new := self._next_text(frames)):
            try:
                size = self._size_now(new, left, is_first=not chosen)
            except EngineError as error:
                self._refuse(new.job, JobFailed(new.job.job_id, str(error)), frames)
                continue
            if not size:
                break  # it keeps its turn
            self._begin(new)
            self._take(new, size, chosen)
            left -= size
        return chosen

    @staticmethod
    def _take(text: "_Text", size: int, chosen: "list[tuple[_Text, int]]") -> None:
        text.job.partial = text if size < text.missing else None
        chosen.append((text, size))

    def _next_text(self, frames: list[Frame]) -> "_Text | None":
        """The text whose turn it is. A job with a text that cannot be read ends here."""
        for job in list(self._jobs.values()):
            if job.next is None and job.partial is None and (job.texts or job.reading):
                job.next = self._read(job, frames)
            if job.next:
                return job.next
        return None

    def _read(self, job: _Job, frames: list[Frame]) -> "_Text | None":
        """The job's next text; None where that takes time, or cannot be read."""
        refusal: Frame
        reading = job.reading or self._reading(job, job.texts.popleft())
        job.reading = None if reading.done() else reading
        if job.reading:
            return None
        try:
            return _Text(job, reading.result())
        except ContextOverflowError as error:
            refusal = Overflow(job.job_id, error.prompt_tokens, error.num_ctx)
        except (BadRequestError, EngineError) as error:
            refusal = JobFailed(job.job_id, str(error), is_asked_wrong=isinstance(error, BadRequestError))
        self._refuse(job, refusal, frames)
        return None

    def _reading(self, job: _Job, text: str) -> Future[list[int]]:
        return self._texts.read(len(text) + len(job.query or ""), lambda: self._tokens(job, text))

    def _tokens(self, job: _Job, text: str) -> list[int]:
        """Of the text, cut where it is too long and may be. Raises BadRequestError, ContextOverflowError, EngineError."""
        if job.query is not None and self._ranking:
            tokens = self._ranking.prompt(job.query, text, limit=job.limit if job.truncate else None)
        elif job.query is None and not self._ranking:
            tokens = self._tokenized(job, text)
            tokens = self._cut(tokens, job.limit) if job.truncate and len(tokens) > job.limit else tokens
        else:
            raise BadRequestError(_NO_QUERY if self._ranking else _NO_RANKING)
        if not tokens:
            raise BadRequestError(_NO_TOKENS)
        if len(tokens) > job.limit:
            raise ContextOverflowError(len(tokens), job.limit)
        return tokens

    def _tokenized(self, job: _Job, text: str) -> list[int]:
        """All tokens of the text, or more than are wanted of it."""
        plenty = job.limit * _PLENTY_CHARS
        if job.truncate and len(text) > plenty:
            tokens = self._words.tokenize(text[:plenty], add_special=True)
            if len(tokens) >= job.limit + _EDGE:
                return tokens
        return self._words.tokenize(text, add_special=True)

    def _refuse(self, job: _Job, frame: Frame, frames: list[Frame]) -> None:
        self.cancel(job.job_id)
        frames.append(frame)

    def _cut(self, tokens: list[int], limit: int) -> list[int]:
        """The beginning of the text, and behind it what the tokenizer puts behind every text."""
        if self._suffix is None:
            self._suffix = suffix(self._words)
        kept = max(0, limit - len(self._suffix))
        return [*tokens[:kept], *self._suffix][:limit]

    def _size_now(self, text: _Text, left: int, *, is_first: bool) -> int:
        """How many of a new text's tokens are computed now; 0: none. Raises EngineError where it can never be read."""
        count = len(text.tokens)
        if self.context is None or count > self.context.cells:  # none: it could not grow for another job
            if not is_first:
                return 0
            self.grow(count)
        assert self.context is not None
        if not self._free or self._held + count > self.context.cells:
            return 0
        if not self.context.reads_whole or count <= left:
            return min(count, left)
        return count if is_first else 0

    def _begin(self, text: _Text) -> None:
        text.job.next = None
        text.sequence = heapq.heappop(self._free)
        self._held += len(text.tokens)
        self._jobs.move_to_end(text.job.job_id)

    def _release(self, text: _Text) -> None:
        heapq.heappush(self._free, text.sequence)
        self._held -= len(text.tokens)

    def _budget(self, *, is_shared: bool) -> int:
        most = self.context.batch if self.context else 0
        if not is_shared or not self._tokens_per_s:
            return most
        return min(most, max(_LEAST_CHUNK, int(self._tokens_per_s * _GAP_S)))

    # Computing

    def _compute(self, chosen: Sequence[tuple[_Text, int]]) -> list[Frame]:
        assert self.context is not None
        pieces = [
            Piece(text.sequence, text.tokens[text.computed : text.computed + size], text.computed, text.missing == size)
            for text, size in chosen
        ]
        began_s = self._now_s()
        try:
            vectors = self.context.compute(pieces)
        except EngineError as error:
            return self._fail([text for text, _ in chosen], str(error))
        self._learn(sum(size for _, size in chosen), self._now_s() - began_s)
        for text, size in chosen:
            text.computed += size
            if not text.missing:
                self._release(text)
        return _embedded([text for text, _ in chosen if not text.missing], vectors)

    def _fail(self, texts: Sequence[_Text], reason: str) -> list[Frame]:
        assert self.context is not None
        self.context.forget([text.sequence for text in texts])
        for text in texts:
            self._release(text)
            text.job.partial = None
        failed = dict.fromkeys(text.job.job_id for text in texts)
        for job_id in failed:
            self._jobs.pop(job_id, None)
        return [JobFailed(job_id, reason) for job_id in failed]

    def _learn(self, tokens: int, elapsed_s: float) -> None:
        speed = tokens / max(elapsed_s, 1e-6)
        self._tokens_per_s = speed if not self._tokens_per_s else (1 - _LEARN) * self._tokens_per_s + _LEARN * speed


def _embedded(texts: Sequence[_Text], vectors: Sequence[bytes]) -> list[Frame]:
    """One frame a job, or several where there is much to tell; each job's vectors in the order of its texts."""
    by_job: dict[int, list[tuple[int, bytes]]] = {}
    for text, vector in zip(texts, vectors, strict=True):
        by_job.setdefault(text.job.job_id, []).append((len(text.tokens), vector))
    frames: list[Frame] = []
    for job_id, rows in by_job.items():
        step = max(1, _FRAME_BYTES // max(1, len(rows[0][1])))
        for begin in range(0, len(rows), step):
            part = rows[begin : begin + step]
            data = b"".join(vector for _, vector in part)
            frames.append(Embedded(job_id, Vectors(len(part), data, sum(count for count, _ in part))))
    return frames
