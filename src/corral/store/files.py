"""Writing files so that they are there whole or not at all, and saying clearly when the disk does not want to."""

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from corral.core.errors import StoreError
from corral.store.file_lock import try_lock
from corral.store.layout import TEMPORARY_PREFIX


@dataclass(frozen=True, slots=True)
class FileStamp:
    """Equal stamps of one path mean the same file, unchanged."""

    inode: int
    size_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> "FileStamp":
        """Raises OSError."""
        stat = path.stat()
        return cls(stat.st_ino, stat.st_size, stat.st_mtime_ns)


def read_bounded(path: Path, limit_bytes: int) -> bytes:
    """All of a regular file. Raises OSError, also for what is no regular file and for one beyond the limit."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe must not keep us waiting
    with os.fdopen(fd, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        if found.st_size > limit_bytes:
            raise OSError(errno.EFBIG, f"it has {found.st_size} bytes, and {limit_bytes} are read at most", str(path))
        return file.read(limit_bytes)


@contextmanager
def store_errors(path: Path, what: str = "write") -> Iterator[None]:
    """Turns what the operating system says about `path` into a StoreError."""
    try:
        yield
    except OSError as exc:
        raise StoreError(f"cannot {what} {path}: {_reason(exc)}") from exc


def _reason(exc: OSError) -> str:
    what = exc.strerror or str(exc)
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{what}; remove models that are no longer needed, or set CORRAL_MODELS to a place with more space"
    if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{what}; set CORRAL_MODELS to a folder that this user may write"
    return what


def make_folder(folder: Path) -> None:
    """Makes the folder and those that it lies in, each of them durably. Raises OSError."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def temporary_file(folder: Path) -> tuple[int, Path]:
    """A new file, open for reading and writing, under a name that nothing in a store has.

    It is locked while it is open, so that a sweep can tell a writer that is slow from one that was killed.
    """
    make_folder(folder)
    fd, path = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=folder)
    with suppress(OSError):  # then its age alone tells
        try_lock(fd)
    os.fchmod(fd, 0o644)
    return fd, Path(path)


def free_name(folder: Path) -> Path:
    """A temporary file's name that nothing has, for what cannot be written into an open file. Raises OSError."""
    fd, path = temporary_file(folder)
    os.close(fd)
    path.unlink()
    return path


def write_atomically(path: Path, data: bytes) -> None:
    """Puts `data` at `path`, durably: what was there stays until all of it is on disk. Raises StoreError."""
    with store_errors(path):
        fd, temporary = temporary_file(path.parent)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            settle(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise


def settle(temporary: Path, path: Path) -> None:
    """Gives a finished, synced file its name, and makes the name durable. Raises OSError."""
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
