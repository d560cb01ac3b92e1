"""Blobs: files that are named by the sha256 of what they hold.

A blob comes into being by a rename, once all of it is on disk and its digest is the right one. Two writers of one digest do
not meet: each has a file of its own, and the last rename wins over an equal file. A writer that ends in any other way removes
its file; one that is killed leaves a `.tmp-` file, which nothing takes for a blob or for a download to go on with, and which
a sweep removes when it is old.
"""

import errno
import hashlib
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from corral.core.errors import BadRequestError, StoreError
from corral.store.files import free_name, make_folder, settle, store_errors, temporary_file
from corral.store.layout import Layout, digest_hex, digest_of
from corral.store.wanted import Wanted

COPY_BYTES: Final = 1 << 20


class BlobWriter:
    """One blob on its way in. Blocking, but for making it; whoever makes one closes it, which removes what was not committed.

    Calls from several threads come after each other, so closing waits for a write that has begun. The file is there from the
    first write on: a writer that is given up before has nothing to give back.
    """

    def __init__(self, layout: Layout, expected: str | None = None, *, wanted: Wanted | None = None) -> None:
        """`expected`: the digest that the bytes must turn out to have; None: whatever it turns out to be.

        `wanted` is told of the blob just before it is there.
        """
        self._layout = layout
        self._wanted = wanted
        self._expected = digest_of(digest_hex(expected)) if expected is not None else None
        self._hash = hashlib.sha256()
        self._lock = threading.Lock()
        self._file: tuple[int, Path] | None = None
        self._is_given_up = False
        self.size_bytes = 0

    def write(self, data: bytes | memoryview) -> None:
        """Raises StoreError where the disk is full or fails."""
        view = memoryview(data)
        with self._lock, store_errors(self._layout.blobs):
            fd, _ = self._opened()
            self._hash.update(view)
            self.size_bytes += len(view)
            while view:
                view = view[os.write(fd, view) :]

    @property
    def digest(self) -> str:
        """Of what was written so far."""
        return digest_of(self._hash.hexdigest())

    def commit(self) -> str:
        """Makes the blob and gives its digest. Raises BadRequestError where it is not the expected one, StoreError."""
        with self._lock:
            self._check()
            digest = self.digest
            if self._expected not in (None, digest):
                raise BadRequestError(f'digest mismatch, expected "{self._expected}", got "{digest}"')
            path = self._layout.blob(digest)
            with store_errors(path):
                fd, temporary = self._opened()
                os.fsync(fd)
                if self._wanted:
                    self._wanted.add(digest)
                settle(temporary, path)
            return digest

    def close(self) -> None:
        """Safe to call twice."""
        with self._lock:
            self._is_given_up = True
            if not self._file:
                return
            fd, path = self._file
            self._file = None
            os.close(fd)
            with suppress(OSError):  # committed: it has another name now
                path.unlink()

    def _check(self) -> None:
        if self._is_given_up:
            raise StoreError(f"cannot write {self._layout.blobs}: the upload was given up")

    def _opened(self) -> tuple[int, Path]:
        self._check()
        if not self._file:
            self._file = temporary_file(self._layout.blobs)
        return self._file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Blobs:
    """The blobs of one store."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def path(self, digest: str) -> Path | None:
        """Where the blob is, None where it is not. Raises BadRequestError where `digest` is none."""
        path = self._layout.blob(digest)
        return path if path.is_file() else None

    def is_edited(self, digest: str) -> bool:
        """Whether the blob is a hard link to a file that was written after the link was made, as far as its times tell."""
        try:
            found = self._layout.blob(digest).stat()
        except OSError:
            return False
        return found.st_nlink > 1 and found.st_mtime_ns >= found.st_ctime_ns

    def refresh(self, digest: str) -> None:
        """Makes the blob young for a sweep, which looks at when anything of it was changed; its own time stays.

        A file that has another name besides, in another store or where its owner keeps it, is not ours to change: it gets one
        more name for a moment, as it got this one.
        """
        path = self._layout.blob(digest)
        with suppress(OSError):  # another user's file, or just removed
            found = path.stat()
            if found.st_nlink == 1:
                path.chmod(stat.S_IMODE(found.st_mode))
                return
            name = free_name(path.parent)
            name.hardlink_to(path)
            name.unlink()

    def put(self, data: bytes) -> tuple[str, bool]:
        """Keeps a small blob; gives its digest and whether it is new."""
        digest = digest_of(hashlib.sha256(data).hexdigest())
        if self.path(digest):
            return digest, False
        with BlobWriter(self._layout, digest) as writer:
            writer.write(data)
            writer.commit()
        return digest, True

    def take(self, source: Path, digest: str) -> None:
        """Makes a file whose digest is known a blob: moved where it lies on the same disk, else copied and removed."""
        target = self._layout.blob(digest)
        with store_errors(target):
            make_folder(target.parent)
            with source.open("rb") as file:
                os.fsync(file.fileno())
            try:
                settle(source, target)
            except OSError as exc:
                if exc.errno != errno.EXDEV:
                    raise
            else:
                return
        with BlobWriter(self._layout, digest) as writer, source.open("rb") as file:
            while data := file.read(COPY_BYTES):
                writer.write(data)
            writer.commit()
        source.unlink()

    def remove(self, digest: str) -> None:
        path = self._layout.blob(digest)
        with store_errors(path):
            path.unlink(missing_ok=True)
