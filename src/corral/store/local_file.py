"""Makes a file that lies on this machine a blob, without writing its bytes again where the file system allows.

In this order, by what the file system and the file allow:
1. A clone (FICLONE: Btrfs, XFS): shares the bytes until one of the two is changed, so it is as good as a copy.
2. A hard link: the same file under a second name. Who edits the source in place then edits the blob, so only a file is linked
   that is this user's own and that nobody else may write; the store notices an edit by the file's times, and says so by name
   (`Loader`), rather than run something else than what was asked for. A source that is replaced by a rename, as downloads and
   converters do, leaves the blob as it is.
3. A copy.
The digest is checked on the file that was opened, never on a path that may have come to mean another file; a clone is
checked after it was made. Only a GGUF is taken: whoever names a file by its digest can have read it, but for a short text a
digest could be guessed, and then this would tell.
"""

import errno
import fcntl
import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from corral.core.errors import ForbiddenError, StoreError
from corral.store.blobs import COPY_BYTES, BlobWriter
from corral.store.files import free_name, settle, store_errors, temporary_file
from corral.store.gguf import MAGIC
from corral.store.layout import Layout, digest_hex

_FICLONE: Final = 0x40049409  # linux/fs.h
_CANNOT_CLONE: Final = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.EPERM, errno.ETXTBSY)


class LocalFileError(ForbiddenError):
    """The file is not taken from where it lies. One text for every reason: it says nothing about files of this machine."""

    code = "local_file_refused"

    def __init__(self) -> None:
        super().__init__("this server does not take that file by its path; upload it")


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file to take. `stop` ends the work early: the answer is wanted no more."""

    path: Path
    digest: str
    stop: threading.Event

    def take(self, layout: Layout) -> None:
        """Raises LocalFileError, StoreError where the disk is full or fails, BadRequestError where `digest` is none."""
        wanted = digest_hex(self.digest)
        fd = self._opened()
        try:
            before = self._looked_at(fd)
            if not (self._cloned(fd, layout, wanted) or self._linked(fd, before, layout, wanted)):
                self._copied(fd, layout)
        finally:
            os.close(fd)

    def _opened(self) -> int:
        if not self.path.is_absolute():
            raise LocalFileError
        try:
            if not stat.S_ISREG(self.path.stat().st_mode):  # opening a device can do something
                raise LocalFileError
            return os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except (OSError, ValueError) as exc:
            raise LocalFileError from exc

    @staticmethod
    def _looked_at(fd: int) -> os.stat_result:
        """What it was when it was opened; the path may have come to mean another file by then."""
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or os.pread(fd, len(MAGIC), 0) != MAGIC:
                raise LocalFileError
        except OSError as exc:
            raise LocalFileError from exc
        return found

    def _cloned(self, fd: int, layout: Layout, wanted: str) -> bool:
        with store_errors(layout.blobs):
            clone, temporary = temporary_file(layout.blobs)
            try:
                try:
                    fcntl.ioctl(clone, _FICLONE, fd)
                except OSError as exc:
                    if exc.errno in _CANNOT_CLONE:
                        return False
                    raise
                self._check(clone, wanted)
                os.fsync(clone)
                settle(temporary, layout.blob(self.digest))
            finally:
                os.close(clone)
                with suppress(OSError):  # it has its name
                    temporary.unlink()
        return True

    def _linked(self, fd: int, before: os.stat_result, layout: Layout, wanted: str) -> bool:
        is_ours_alone = before.st_uid == os.geteuid() and not before.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        with store_errors(layout.blobs):
            if not is_ours_alone or before.st_dev != layout.blobs.stat().st_dev:
                return False
        self._check(fd, wanted)
        with store_errors(layout.blobs):
            os.fsync(fd)
            temporary = free_name(layout.blobs)
            try:
                os.link(self.path.resolve(), temporary)
            except (OSError, RuntimeError):  # a file system without links, or with no room for more; by now a loop of links
                return False
            try:
                if _identity(temporary.lstat()) != _identity(before):  # the path means another file by now
                    return False
                settle(temporary, layout.blob(self.digest))
            finally:
                temporary.unlink(missing_ok=True)  # renaming a file over itself leaves both names
        return True

    def _copied(self, fd: int, layout: Layout) -> None:
        with BlobWriter(layout, self.digest) as writer:
            for data in self._pieces(fd):
                writer.write(data)
            if writer.digest != f"sha256:{digest_hex(self.digest)}":
                raise LocalFileError
            writer.commit()

    def _check(self, fd: int, wanted: str) -> None:
        hashed = hashlib.sha256()
        for data in self._pieces(fd):
            hashed.update(data)
        if hashed.hexdigest() != wanted:
            raise LocalFileError

    def _pieces(self, fd: int) -> Iterator[bytes]:
        at = 0
        while True:
            if self.stop.is_set():
                raise StoreError("the file was not taken: the request was given up")
            try:
                data = os.pread(fd, COPY_BYTES, at)
            except OSError as exc:
                raise LocalFileError from exc
            if not data:
                return
            at += len(data)
            yield data


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
