"""Images and sounds of jobs are read and encoded by a thread beside the one that computes.

Neither decoding a large file nor encoding it makes other answers wait for more than their share of the cores. Prompts come
first, so that what is wrong with one is said soon; then the pieces, in the order in which they were asked for. Embeddings are
kept for a while, so that a conversation whose KV memory was given up is not encoded again. Worker side.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy.typing as npt

from corral.core.errors import EngineError
from corral.core.types import Job
from corral.engine.llamacpp.worker.media.lately import Lately
from corral.engine.llamacpp.worker.media.pictures import UnreadableError
from corral.engine.llamacpp.worker.media.spans import Piece
from corral.engine.llamacpp.worker.media.viewer import Encoder, View, Viewer

NO_MEMORY: Final = "not enough memory to read an image of this size; send a smaller one"
_KEPT_BYTES: Final = 128 << 20  # of embeddings: ten to fifty images

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Read:
    """A job whose prompt has been read."""

    job_id: int
    job: Job
    view: View


@dataclass(frozen=True, slots=True)
class Unread:
    """A job whose prompt cannot be read. `is_asked_wrong`: by what it asks, not by what went wrong with it."""

    job_id: int
    reason: str
    is_asked_wrong: bool


@dataclass(slots=True)
class _Need:
    """A piece that jobs wait for, with a prompt that shows it."""

    piece: Piece
    view: View
    jobs: set[int] = field(default_factory=set)
    rows: Array | None = None
    failure: EngineError | UnreadableError | None = None

    @property
    def is_open(self) -> bool:
        return self.rows is None and self.failure is None


class MediaReader:
    """Owns the thread. Its methods are for the thread that computes, and do not wait for the other one's work."""

    def __init__(self, encoder: Encoder, *, kept_bytes: int = _KEPT_BYTES) -> None:
        self._viewer = Viewer(encoder)
        self._news = threading.Condition()
        self._unread: OrderedDict[int, Job] = OrderedDict()
        self._results: deque[Read | Unread] = deque()
        self._views: dict[int, View] = {}  # of the jobs that have been fetched and are not over
        self._needs: OrderedDict[bytes, _Need] = OrderedDict()
        self._kept: Lately[Array] = Lately(kept_bytes)
        self._is_closing = False
        self._death: BaseException | None = None  # what nobody had thought of, and ended the thread
        self._thread = threading.Thread(target=self._live, name="media", daemon=True)
        self._thread.start()
        self.encoded = 0  # pieces, so far

    def close(self) -> None:
        """Ends the thread when it has done what it is at."""
        with self._news:
            self._is_closing = True
            self._news.notify_all()
        self._thread.join()

    # Prompts

    @property
    def has_work(self) -> bool:
        """Is there a job that has been given to `read` and not been fetched?"""
        return bool(self._unread or self._results or self._death)

    def read(self, job_id: int, job: Job) -> None:
        """Reads the job's prompt; `fetch` gives it when that is done."""
        with self._news:
            self._unread[job_id] = job
            self._news.notify_all()

    def fetch(self) -> list[Read | Unread]:
        """The prompts that have been read since the last time. Raises RuntimeError when the thread has died."""
        with self._news:
            if self._death:
                raise RuntimeError("the thread that reads images has died") from self._death
            found = list(self._results)
            self._results.clear()
        self._views |= {read.job_id: read.view for read in found if isinstance(read, Read)}
        return found

    def wait(self, timeout_s: float) -> None:
        """Until a prompt has been read or a piece encoded, or so long."""
        with self._news:
            if not self._results and not self._death:
                self._news.wait(timeout_s)

    def drop(self, job_id: int) -> None:
        """The job is over: nothing is done for it any more."""
        with self._news:
            self._unread.pop(job_id, None)
            self._views.pop(job_id, None)
            self._results = deque(result for result in self._results if result.job_id != job_id)
            for need in list(self._needs.values()):
                self._forget(need, job_id)

    # Pieces

    def need(self, job_id: int, pieces: Iterable[Piece]) -> None:
        """Encodes these pieces of the job's prompt, where that has not been done, in this order."""
        with self._news:
            for piece in pieces:
                need = self._needs.setdefault(piece.digest, _Need(piece, self._views[job_id]))
                need.jobs.add(job_id)
                if need.rows is None:
                    need.rows = self._kept.get(piece.digest)
            self._news.notify_all()

    def rows(self, job_id: int, piece: Piece) -> Array | None:
        """The piece's embeddings, one row a token; None as long as they are not there.

        Raises EngineError where that failed, UnreadableError where the image was to blame.
        """
        need = self._needs.get(piece.digest)
        if need is None or job_id not in need.jobs:
            self.need(job_id, [piece])
            need = self._needs[piece.digest]
        if need.failure:
            raise need.failure
        return need.rows

    def computed(self, job_id: int, piece: Piece) -> None:
        """The job has what it needed of that piece."""
        with self._news:
            if need := self._needs.get(piece.digest):
                self._forget(need, job_id)

    def _forget(self, need: _Need, job_id: int) -> None:
        need.jobs.discard(job_id)
        if not need.jobs:
            self._needs.pop(need.piece.digest, None)

    # The thread

    def _live(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001  `fetch` raises it where it ends the worker
            with self._news:
                self._death = error
                self._news.notify_all()

    def _work(self) -> None:
        while True:
            with self._news:
                while not self._unread and self._open_need() is None and not self._is_closing:
                    self._news.wait()
                if self._is_closing:
                    return
                job_id, job = next(iter(self._unread.items()), (0, None))
                need = self._open_need()
            if job:
                self._read_one(job_id, job)
            elif need:
                self._encode(need)

    def _open_need(self) -> _Need | None:
        return next((need for need in self._needs.values() if need.is_open), None)

    def _read_one(self, job_id: int, job: Job) -> None:
        result: Read | Unread
        try:
            result = Read(job_id, job, self._viewer.view(job))
        except UnreadableError as error:
            result = Unread(job_id, str(error), is_asked_wrong=True)
        except EngineError as error:
            result = Unread(job_id, str(error), is_asked_wrong=False)
        except MemoryError:
            result = Unread(job_id, NO_MEMORY, is_asked_wrong=False)
        with self._news:
            if self._unread.pop(job_id, None):  # else it was cancelled meanwhile
                self._results.append(result)
            self._news.notify_all()

    def _encode(self, first: _Need) -> None:
        """The first need, and what else is wanted of the same image and had been prepared with it."""
        wanted: _Need | None = first
        try:
            with self._viewer.opened(first.view, first.piece.part) as opened:
                while wanted:
                    self._done(wanted, opened.encoded(wanted.piece))
                    wanted = self._next_of(first)
        except (EngineError, UnreadableError, MemoryError) as error:
            with self._news:
                assert wanted, "something was being encoded"
                wanted.failure = EngineError(NO_MEMORY) if isinstance(error, MemoryError) else error
                self._news.notify_all()

    def _next_of(self, first: _Need) -> _Need | None:
        """The next need of the same image; none where a prompt waits to be read."""
        with self._news:
            if self._unread or self._is_closing:
                return None
            same = (n for n in self._needs.values() if n.view is first.view and n.piece.part == first.piece.part and n.is_open)
            return next(same, None)

    def _done(self, need: _Need, rows: Array) -> None:
        with self._news:
            self.encoded += 1
            need.rows = rows
            self._kept.put(need.piece.digest, rows, rows.nbytes)
            self._news.notify_all()
