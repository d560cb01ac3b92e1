"""A blob that is being fetched: a file of its final size that is written at many places, and a durable note of what is in it.

    blobs/sha256-HEX-partial      the bytes, where they belong; a hole where none have come yet
    blobs/sha256-HEX-partial-N    {"N":0,"Offset":0,"Size":33554432,"Completed":1048576}: the first bytes of part N are there
The parts tile the blob. Names and notes are Ollama's, so that either program can go on with what the other began; `ETag` and
`Host`, which say whose bytes these are, are ours and are passed over there.

A note is only ever written once the bytes it claims are on disk, and it is put in place whole: after a kill or a power cut
every claim that can be read is true, and one that cannot be read costs its own part. The file is locked while it is written, so
two servers on one store do not write it at once: the second waits, and goes on where the first one stopped.
Source: ollama@v0.32 server/download.go, blobDownloadPart.
"""

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from corral.core.errors import StoreError
from corral.registry.disk import Disk
from corral.registry.limits import Limits
from corral.store import store_errors, try_lock, write_atomically

log: Final = logging.getLogger(__name__)
_MAX_NOTE_BYTES: Final = 4096


class Note(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a side file says of one part."""

    number: int = msgspec.field(name="N")
    offset: int = msgspec.field(name="Offset")
    size: int = msgspec.field(name="Size")
    completed: int = msgspec.field(name="Completed")
    etag: str = msgspec.field(name="ETag", default="")
    host: str = msgspec.field(name="Host", default="")


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose bytes are in the file: the host that gave them, and what it calls this state of the blob."""

    host: str = ""
    etag: str = ""

    def contradicts(self, other: "Origin") -> bool:
        """Whether the blob has changed at its host. Two hosts may well call one blob by two names."""
        return bool(self.etag and other.etag and self.host == other.host and self.etag != other.etag)


@dataclass(slots=True)
class Chunk:
    """A part of a blob; the bytes from `start` to `at` are written."""

    start: int
    end: int
    at: int


class Partial:
    """The file of one blob under way, locked; made by `open`. Its `chunks` tile the blob, in order."""

    def __init__(self, path: Path, size_bytes: int, disk: Disk, chunk_bytes: int) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self.chunks: list[Chunk] = []
        self.origin = Origin()
        self._disk = disk
        self._chunk_bytes = chunk_bytes
        self._fd: int | None = None  # set and cleared by the writing thread
        self._noted: dict[int, Note] = {}
        self._life = 0  # counts restarts: a checkpoint of what was before one must not claim what is after it
        self._noting = threading.Lock()  # closing and forgetting wait for a checkpoint that has begun

    @classmethod
    @asynccontextmanager
    async def open(
        cls, path: Path, size_bytes: int, *, disk: Disk, limits: Limits, on_waiting: Callable[[int], None]
    ) -> AsyncIterator["Partial"]:
        """The file, with all that an earlier download has left in it, for as long as the block runs.

        While another server holds it, `on_waiting` hears how many bytes that one has got. However the block ends, what has
        been written stays to be gone on with; a file into which nothing was written is removed, and one that was moved away,
        to be a blob, is not ours any more. Raises StoreError.
        """
        partial = cls(path, size_bytes, disk, limits.chunk_bytes_of(size_bytes))
        try:
            with store_errors(path):
                while not await disk.writing.run(partial._claim):
                    on_waiting(await disk.reading.run(_claimed_bytes, path))
                    await asyncio.sleep(limits.look_again_s)
            yield partial
        finally:
            await disk.writing.run(partial._close)

    @property
    def completed_bytes(self) -> int:
        return sum(chunk.at - chunk.start for chunk in self.chunks)

    async def write(self, chunk: Chunk, data: bytes) -> None:
        """Adds to what the chunk has."""
        assert self._fd is not None
        with store_errors(self.path):
            await self._disk.writing.run(self._disk.write_at, self._fd, data, chunk.at)
        chunk.at += len(data)

    async def checkpoint(self) -> None:
        """Makes sure of what has been written so far: from here on a kill does not lose it."""
        with store_errors(self.path):
            await self._disk.syncing.run(self._note, self._notes(), self._life)

    async def restart(self) -> None:
        """Forgets what is in the file."""
        with store_errors(self.path):
            await self._disk.writing.run(self._forget)
        self.chunks = cut(0, self.size_bytes, self._chunk_bytes)
        self.origin = Origin()

    def in_one_piece(self) -> None:
        """Makes one chunk of all, for a server that cannot begin in the middle; keeps what is there without a gap."""
        at = 0
        for chunk in self.chunks:
            at = chunk.at
            if at < chunk.end:
                break
        self.chunks = [Chunk(0, self.size_bytes, at)] if self.size_bytes else []

    def _notes(self) -> list[Note]:
        return [
            Note(
                number=number,
                offset=chunk.start,
                size=chunk.end - chunk.start,
                completed=chunk.at - chunk.start,
                etag=self.origin.etag,
                host=self.origin.host,
            )
            for number, chunk in enumerate(self.chunks)
        ]

    def _claim(self) -> bool:
        """Opens and locks the file and reads what is noted of it; False where somebody else has it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        is_locked = False
        try:
            is_locked = _is_locked(fd, self.path)
        finally:
            if not is_locked:
                os.close(fd)
        if not is_locked:
            return False
        self._fd = fd
        notes = list(_read_notes(self.path)) if os.fstat(fd).st_size == self.size_bytes else []
        self.chunks = tiled(notes, self.size_bytes, self._chunk_bytes)
        if not any(chunk.at > chunk.start for chunk in self.chunks):
            self._forget()
            self.chunks = cut(0, self.size_bytes, self._chunk_bytes)
            return True
        self.origin = Origin(notes[0].host, notes[0].etag)
        noted = {note.number: note for note in notes}
        if [noted.get(note.number) for note in self._notes()] == self._notes():
            self._noted = noted  # else the parts are numbered anew, and all are to be noted
        return True

    def _forget(self) -> None:
        assert self._fd is not None
        with self._noting:
            self._life += 1
            self._noted = {}
            _remove_notes(self.path)
            os.ftruncate(self._fd, 0)  # the old bytes go, so that nothing can take them for new ones
            os.ftruncate(self._fd, self.size_bytes)

    def _note(self, notes: Sequence[Note], life: int) -> None:
        with self._noting:
            changed = [note for note in notes if self._noted.get(note.number) != note]
            if self._fd is None or life != self._life or not changed or not any(note.completed for note in notes):
                return
            self._disk.sync(self._fd)
            for note in changed:
                write_atomically(_note_path(self.path, note.number), msgspec.json.encode(note) + b"\n")
                self._noted[note.number] = note
            for path in _note_paths(self.path):
                if _number(path) >= len(notes):
                    path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._fd is None:
            return
        try:
            with store_errors(self.path):
                if not _is_at(self._fd, self.path):  # it has become the blob
                    _remove_notes(self.path)
                elif self.completed_bytes:
                    self._note(self._notes(), self._life)
                else:
                    self.path.unlink(missing_ok=True)
                    _remove_notes(self.path)
        except StoreError as exc:  # what was noted before holds; the error that ended the download is the one to tell
            log.warning("download not noted", extra={"path": str(self.path), "error": str(exc)})
        finally:
            with self._noting:
                fd, self._fd = self._fd, None
                os.close(fd)


def cut(start: int, end: int, chunk_bytes: int) -> list[Chunk]:
    """Empty chunks of that size, the last one smaller.

    >>> [(chunk.start, chunk.end) for chunk in cut(5, 25, 10)]
    [(5, 15), (15, 25)]
    """
    return [Chunk(at, min(at + chunk_bytes, end), at) for at in range(start, end, chunk_bytes)]


def tiled(notes: Iterable[Note], size_bytes: int, chunk_bytes: int) -> list[Chunk]:
    """Chunks that tile the blob and have what the notes claim; a note that cannot be, or overlaps another, is passed over.

    >>> tiled([Note(number=0, offset=10, size=10, completed=4)], 25, 10)
    [Chunk(start=0, end=10, at=0), Chunk(start=10, end=20, at=14), Chunk(start=20, end=25, at=20)]
    """
    chunks: list[Chunk] = []
    at = 0
    for note in sorted(notes, key=lambda note: note.offset):
        end = note.offset + note.size
        if note.offset < at or note.size < 1 or end > size_bytes or not 0 <= note.completed <= note.size:
            continue
        chunks += cut(at, note.offset, chunk_bytes)
        chunks.append(Chunk(note.offset, end, note.offset + note.completed))
        at = end
    return chunks + cut(at, size_bytes, chunk_bytes)


def _is_locked(fd: int, path: Path) -> bool:
    """Locks the open file; False where somebody else has it, or it has another name by now."""
    return try_lock(fd) != "others" and _is_at(fd, path)


def _is_at(fd: int, path: Path) -> bool:
    """Whether that is where the open file lies."""
    try:
        here, there = os.fstat(fd), path.stat()
    except FileNotFoundError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _note_path(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}-{number}")


def _note_paths(path: Path) -> list[Path]:
    prefix = f"{path.name}-"
    return [found for found in path.parent.glob(f"{prefix}*") if found.name.removeprefix(prefix).isdecimal()]


def _number(note_path: Path) -> int:
    return int(note_path.name.rpartition("-")[2])


def _read_notes(path: Path) -> Iterator[Note]:
    for found in _note_paths(path):
        with suppress(OSError, msgspec.MsgspecError), found.open("rb") as file:
            yield msgspec.json.decode(file.read(_MAX_NOTE_BYTES), type=Note)


def _claimed_bytes(path: Path) -> int:
    return sum(note.completed for note in _read_notes(path))


def _remove_notes(path: Path) -> None:
    for found in _note_paths(path):
        found.unlink(missing_ok=True)
