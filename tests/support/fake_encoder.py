"""An encoder without native code: an image is as many tokens as it is wide, in slices of 100, and every row says which.

And media that are read and encoded with it by no thread, but as soon as somebody looks.
"""

import hashlib
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from corral.core.errors import EngineError
from corral.core.types import Job
from corral.engine.llamacpp.worker.media.media import Read, Unread
from corral.engine.llamacpp.worker.media.pictures import Picture, UnreadableError
from corral.engine.llamacpp.worker.media.spans import Piece, digest_of
from corral.engine.llamacpp.worker.media.viewer import Parts, Shown, Sound, View, Viewer

SLICE = 100
Rows = npt.NDArray[np.float32]


class FakeEncoder:
    """`gate` is what every encoding waits for. `positions` of a piece are its tokens divided by `fold`."""

    def __init__(self, *, sees: bool = True, hears: bool = False, fold: int = 1, is_causal: bool = True) -> None:
        self.sees, self.hears = sees, hears
        self._fold = fold
        self._is_causal = is_causal
        self.gate = threading.Event()
        self.gate.set()
        self.fails = False
        self.opened_parts: list[int] = []
        self.encoded: list[tuple[int, int]] = []  # part and ordinal

    def heard(self, data: bytes) -> Sound:
        return Sound(len(data), np.zeros(len(data), np.float32))

    def layout(self, parts: Parts, *, begin: int, add_special: bool) -> list[list[int] | Piece]:
        laid: list[list[int] | Piece] = [[1]] if add_special else []
        position = begin + len(laid)
        for number, part in enumerate(parts):
            if isinstance(part, str):
                laid.append(list(part.encode()))
                position += len(part.encode())
                continue
            for piece in self._pieces(number, part, position):
                laid.append(piece)
                position += piece.positions
        return laid

    def _pieces(self, number: int, shown: Shown, position: int) -> Iterator[Piece]:
        width = shown.medium.width if isinstance(shown.medium, Picture) else shown.medium.length
        if width == 13:
            raise UnreadableError("its size is none that the model can take")
        for ordinal, begin in enumerate(range(0, width, SLICE)):
            tokens = min(SLICE, width - begin)
            positions = tokens // self._fold
            places = np.arange(position, position + tokens, dtype=np.int32)[np.newaxis]
            yield Piece(digest_of(shown.content, ordinal, tokens), number, ordinal, tokens, positions, self._is_causal, places)
            position += positions

    @contextmanager
    def opened(self, parts: Parts, number: int) -> Iterator["FakeOpened"]:
        self.opened_parts.append(number)
        has_pixels = [isinstance(part, Shown) and bool(part.medium.size_bytes) for part in parts]
        assert has_pixels.count(True) == 1
        assert has_pixels[number]
        part = parts[number]
        assert isinstance(part, Shown)
        yield FakeOpened(self, part.content)


class FakeOpened:
    def __init__(self, encoder: FakeEncoder, content: bytes) -> None:
        self._encoder = encoder
        self._content = content

    def encoded(self, piece: Piece) -> Rows:
        assert self._encoder.gate.wait(10)
        if self._encoder.fails:
            raise EngineError("no memory for this image")
        self._encoder.encoded.append((piece.part, piece.ordinal))
        return rows_of(self._content, piece.ordinal, piece.tokens)


def rows_of(content: bytes, ordinal: int, tokens: int) -> Rows:
    return np.full((tokens, 2), int.from_bytes(hashlib.sha256(content).digest()[:2], "big") + ordinal, np.float32)


class PlayedMedia:
    """What a batcher needs of a MediaReader. `is_blind`: nothing is encoded for now."""

    def __init__(self, encoder: FakeEncoder | None = None) -> None:
        self.encoder = encoder or FakeEncoder()
        self._viewer = Viewer(self.encoder)
        self._unread: dict[int, Job] = {}
        self.views: dict[int, View] = {}
        self._rows: dict[bytes, Rows] = {}
        self.is_blind = False
        self.encoded = 0
        self.waits = 0

    @property
    def has_work(self) -> bool:
        return bool(self._unread)

    def read(self, job_id: int, job: Job) -> None:
        self._unread[job_id] = job

    def fetch(self) -> list[Read | Unread]:
        found = [self._read(job_id, job) for job_id, job in self._unread.items()]
        self._unread.clear()
        return found

    def _read(self, job_id: int, job: Job) -> Read | Unread:
        try:
            view = self.views[job_id] = self._viewer.view(job)
        except UnreadableError as error:
            return Unread(job_id, str(error), is_asked_wrong=True)
        return Read(job_id, job, view)

    def wait(self, timeout_s: float) -> None:
        self.waits += 1

    def drop(self, job_id: int) -> None:
        self._unread.pop(job_id, None)
        self.views.pop(job_id, None)

    def need(self, job_id: int, pieces: Iterable[Piece]) -> None:
        assert job_id in self.views

    def rows(self, job_id: int, piece: Piece) -> Rows | None:
        view = self.views[job_id]
        if piece.digest not in self._rows and not self.is_blind:
            with self._viewer.opened(view, piece.part) as opened:
                self._rows[piece.digest] = opened.encoded(piece)
                self.encoded += 1
        return self._rows.get(piece.digest)

    def computed(self, job_id: int, piece: Piece) -> None:
        assert job_id in self.views
