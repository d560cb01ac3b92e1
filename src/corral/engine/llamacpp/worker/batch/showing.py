"""What a batcher does for jobs that show images: waits until they are read, and computes their spans piece by piece.

A step computes one span, or a part of it, after its tokens: embeddings and tokens do not go into one batch, and the others who
draw are to wait no longer for it than for a prompt. A span whose tokens see each other is computed at once.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy.typing as npt

from corral.core.errors import EngineError
from corral.core.types import Job
from corral.engine.llamacpp.worker.batch.generation import Generation
from corral.engine.llamacpp.worker.media.media import Read, Unread
from corral.engine.llamacpp.worker.media.pictures import UnreadableError
from corral.engine.llamacpp.worker.media.spans import Piece
from corral.wire.link import JobFailed

Array = npt.NDArray[Any]


class Media(Protocol):
    """What reads and encodes: media.py."""

    encoded: int

    @property
    def has_work(self) -> bool: ...
    def read(self, job_id: int, job: Job) -> None: ...
    def fetch(self) -> list[Read | Unread]: ...
    def wait(self, timeout_s: float) -> None: ...
    def drop(self, job_id: int) -> None: ...
    def need(self, job_id: int, pieces: Iterable[Piece]) -> None: ...
    def rows(self, job_id: int, piece: Piece) -> Array | None: ...
    def computed(self, job_id: int, piece: Piece) -> None: ...


class RowContext(Protocol):
    """What computing spans needs of a context."""

    @property
    def batch_size(self) -> int:
        """Tokens in a step at most."""
        ...

    def decode_rows(self, sequence: int, rows: Array, places: Array, *, is_causal: bool) -> None: ...


class Showing:
    """Without `media` a model sees nothing, and jobs that show something are refused."""

    def __init__(self, media: Media | None = None) -> None:
        self._media = media

    @property
    def has_work(self) -> bool:
        return self._media is not None and self._media.has_work

    def submit(self, job_id: int, job: Job) -> JobFailed | None:
        """Takes a job with media, or gives the frame that refuses it."""
        if self._media is None:
            return JobFailed(job_id, "this model has no projector, and sees no images", is_asked_wrong=True)
        if job.suffix:
            return JobFailed(job_id, "images and a suffix do not go together; leave one of them out", is_asked_wrong=True)
        self._media.read(job_id, job)
        return None

    def fetch(self) -> list[Generation | JobFailed]:
        """The jobs that have been read by now, or could not be."""
        return [_outcome(read) for read in self._media.fetch()] if self._media else []

    def begin(self, generation: Generation) -> None:
        """Has encoded what of its spans is not in KV memory."""
        if self._media and generation.spans:
            self._media.need(generation.job_id, generation.spans.pieces(generation.computed))

    def drop(self, job_id: int) -> None:
        if self._media:
            self._media.drop(job_id)

    def wait(self, timeout_s: float) -> None:
        """Until there may be something to compute, or so long."""
        if self._media:
            self._media.wait(timeout_s)

    def next(self, running: Iterable[Generation]) -> tuple[Generation, Array] | None:
        """A job whose next token is one of a span that is encoded, and the span's embeddings."""
        for generation in running:
            if (piece := self._piece(generation)) and (rows := self._found(generation, piece)) is not None:
                return generation, rows
        return None

    def failed(self, running: Sequence[Generation]) -> list[tuple[Generation, JobFailed]]:
        """The jobs whose next span could not be encoded, and what to tell them."""
        found: list[tuple[Generation, JobFailed]] = []
        for generation in running:
            if piece := self._piece(generation):
                try:
                    self._rows(generation, piece)
                except (EngineError, UnreadableError) as error:
                    is_asked_wrong = isinstance(error, UnreadableError)
                    found.append((generation, JobFailed(generation.job_id, str(error), is_asked_wrong)))
        return found

    def compute(self, context: RowContext, generation: Generation, rows: Array, most: int) -> int:
        """Computes `most` tokens of the span that the job is at, or what there is of it; gives how many."""
        assert self._media, "only what was encoded is computed"
        span = generation.span
        assert span, "the job is at a span"
        piece, begin = span.piece, generation.computed - span.begin
        size = min(piece.tokens - begin, context.batch_size, most if piece.is_causal else context.batch_size)
        end = begin + size
        context.decode_rows(generation.slot, rows[begin:end], piece.places[:, begin:end], is_causal=piece.is_causal)
        if end == piece.tokens:
            self._media.computed(generation.job_id, piece)
        return size

    def _found(self, generation: Generation, piece: Piece) -> Array | None:
        """The piece's rows, if they are there; a failure is for `failed`, before the next step."""
        try:
            return self._rows(generation, piece)
        except (EngineError, UnreadableError):
            return None

    def _piece(self, generation: Generation) -> Piece | None:
        span = generation.span
        return span.piece if span else None

    def _rows(self, generation: Generation, piece: Piece) -> Array | None:
        return self._media.rows(generation.job_id, piece) if self._media else None


def _outcome(read: Read | Unread) -> Generation | JobFailed:
    if isinstance(read, Unread):
        return JobFailed(read.job_id, read.reason, read.is_asked_wrong)
    return Generation(read.job_id, read.job, read.view.tokens, read.view.spans)
