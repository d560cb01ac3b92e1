"""The disk as transfers use it: its threads, its free space, directories to work in, checksums.

All writing goes through one thread, in the order in which it was asked for: a file is never closed or removed under
a write. What comes from a registry grows in partial.py; what else is half-made is only ever found in a scratch directory.
"""

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from corral.core.aio import ThreadLimiter
from corral.core.errors import StoreError
from corral.registry.failures import DigestMismatchError
from corral.registry.limits import MIB
from corral.store import store_errors, try_lock, wait_for_lock

HASH_STEP_BYTES: Final = 8 * MIB
SPARE_BYTES: Final = 64 * MIB  # left free on the disk, for whoever else writes there


def _free_bytes(path: Path) -> int:
    return shutil.disk_usage(path).free


def _write_at(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


@dataclass(slots=True)
class Disk:
    """The disk as transfers use it. The calls that can find it full are fields, so that a test can fill it."""

    free_bytes: Callable[[Path], int] = _free_bytes
    write_at: Callable[[int, bytes, int], None] = _write_at
    sync: Callable[[int], None] = os.fdatasync if sys.platform != "darwin" else os.fsync
    writing: ThreadLimiter = field(default_factory=lambda: ThreadLimiter("corral-pull-write", 1))
    syncing: ThreadLimiter = field(default_factory=lambda: ThreadLimiter("corral-pull-sync", 1))
    reading: ThreadLimiter = field(default_factory=lambda: ThreadLimiter("corral-pull-read", 2))

    def close(self) -> None:
        for threads in (self.writing, self.syncing, self.reading):
            threads.close()

    async def need(self, size_bytes: int, directory: Path, parts: str = "") -> None:
        """Raises StoreError where so much does not fit; `parts` says what takes it."""
        with store_errors(directory):
            free = await self.reading.run(self.free_bytes, directory)
        if size_bytes + SPARE_BYTES > free:
            what = f" ({parts})" if parts else ""
            raise StoreError(
                f"not enough space on the disk of {directory}: {_mb(size_bytes)} MB are needed{what}, {_mb(free)} MB are free; "
                "remove a model or set CORRAL_MODELS to a place with more space"
            )

    @asynccontextmanager
    async def scratch(self, parent: Path) -> AsyncIterator[Path]:
        """A new directory below `parent`, gone when the block ends. Clears away what killed processes left there."""
        claimed: list[tuple[Path, int]] = []  # filled by the writing thread, also when we are cancelled meanwhile
        try:
            with store_errors(parent):
                await self.writing.run(_claim, parent, claimed)
            yield claimed[0][0]
        finally:
            await self.writing.run(_release, claimed)

    async def read_range(self, path: Path, start: int, size_bytes: int) -> bytes:
        """That range of the file; shorter where the file is. Raises StoreError."""
        try:
            return await self.reading.run(_read_range, path, start, size_bytes)
        except OSError as exc:
            raise StoreError(f"cannot read {path}: {exc.strerror}; it was there a moment ago") from exc

    async def hash_range(self, path: Path, checksum: "hashlib._Hash", start: int, size_bytes: int) -> int:
        """Adds that range of the file to the checksum; how many bytes there were."""
        with store_errors(path):
            return await self.reading.run(_hash_range, path, checksum, start, size_bytes)


def check_digest(name: str, expected: str, found: str) -> None:
    """Raises DigestMismatchError where bytes are not what they should be. Digests are hex, without a prefix."""
    if expected != found:
        raise DigestMismatchError(
            f"digest mismatch for {name}: expected sha256:{expected}, got sha256:{found}; "
            "the download was damaged or changed on its way and has been discarded, pull again"
        )


def _read_range(path: Path, start: int, size_bytes: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size_bytes)


def _hash_range(path: Path, checksum: "hashlib._Hash", start: int, size_bytes: int) -> int:
    data = _read_range(path, start, size_bytes)
    checksum.update(data)
    return len(data)


def _claim(parent: Path, claimed: list[tuple[Path, int]]) -> None:
    """Adds a directory that is locked for as long as this process lives, and the lock."""
    parent.mkdir(parents=True, exist_ok=True)
    with _locked(parent):
        for left in parent.iterdir():
            _sweep(left)
        path = Path(tempfile.mkdtemp(dir=parent))
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        claimed.append((path, lock))
        try_lock(lock)


def _sweep(left: Path) -> None:
    """Removes the directory, if it is certain that nobody holds it."""
    try:
        fd = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if try_lock(fd) == "us":
            shutil.rmtree(left, ignore_errors=True)
    finally:
        os.close(fd)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        wait_for_lock(fd)
        yield
    finally:
        os.close(fd)


def _release(claimed: list[tuple[Path, int]]) -> None:
    for path, lock in claimed:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _mb(size_bytes: int) -> int:
    return -(-size_bytes // 1_000_000)
