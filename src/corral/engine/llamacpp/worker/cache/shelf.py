"""A folder of blocks, one a file, for one model as it is loaded; any number of processes may use it at once.

A file is written under another name and then renamed, so that nobody sees half of one. It is not synced to the disk: what a
crash of the machine leaves of it has another checksum, and a cache may lose what is in it. What cannot be a block, for whatever
reason, is deleted when it is read, and so is what has a block's name and another content. File and folder are their owner's
alone, as prompts are private. Names say what a block comes after, so that it is found without an index; each block and its
tokens are compared in full once it is read. Folders that others may write to are not used, nor files of others. CRC-32 is for
torn files, not for forged ones: it takes 20 ms for the 30 MB of 1,300 tokens of a small model, BLAKE2b 85.
"""

import contextlib
import logging
import os
import secrets
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from corral.engine.llamacpp.worker.cache.payloads import Form, Payload, payload_bytes, room
from corral.engine.llamacpp.worker.cache.private import UntrustedError, check_folder, make_folder, open_new, open_own, own_size
from corral.engine.llamacpp.worker.cache.tree import SIZE, key_of, pack, unpack

log: Final = logging.getLogger(__name__)
_MAGIC: Final = b"corralKV"
_HEAD: Final = struct.Struct("<8sIIQ")  # magic, checksum of all that follows it, bytes of the description, bytes of the payload
_CHECKED_FROM: Final = 12
_MOST_DESCRIPTION: Final = 1 << 20
_MOST_PAYLOAD: Final = 1 << 34
_SUFFIX: Final = ".kv"
_UNFINISHED: Final = ".part"
_STALE_S: Final = 600.0  # an unfinished file that nobody has written to for so long is nobody's any more
_LEFT_SHARE: Final = 0.9  # of the budget, after a sweep


class _Description(msgspec.Struct, frozen=True, array_like=True):
    parent: bytes
    tokens: bytes
    form: Form
    skipped: tuple[int, ...]
    tail_bytes: int


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(_Description)


@dataclass(frozen=True, slots=True)
class Stored:
    """A block as it is on disk."""

    parent: bytes
    key: bytes
    tokens: tuple[int, ...]
    payload: Payload


@dataclass(frozen=True, slots=True)
class Name:
    """What the name of a block's file says. `has_tail`: it ends with a state that is no list of cells."""

    parent: bytes
    key: bytes
    count: int
    has_tail: bool

    @property
    def text(self) -> str:
        return f"{self.parent.hex()}-{self.key.hex()}-{self.count}{'t' if self.has_tail else ''}{_SUFFIX}"

    @classmethod
    def read(cls, text: str) -> "Name | None":
        parts = text.removesuffix(_SUFFIX).split("-")
        if not text.endswith(_SUFFIX) or len(parts) != 3:
            return None
        try:
            return cls(bytes.fromhex(parts[0]), bytes.fromhex(parts[1]), int(parts[2].rstrip("t")), parts[2].endswith("t"))
        except ValueError:
            return None


class Shelf:
    """`root` is the folder that has the budget, and may have other models' blocks beside those of this `identity`."""

    def __init__(self, root: Path, identity: bytes, *, budget_bytes: int) -> None:
        self._root = root
        self._folder = root / identity.hex()
        self._budget_bytes = budget_bytes

    def check(self) -> None:
        """Raises UntrustedError where the folder is there, but not ours alone."""
        for folder in (self._root, self._folder):
            check_folder(folder)

    def has(self, name: Name) -> bool:
        return self.size_of(name) > 0

    def size_of(self, name: Name) -> int:
        """Bytes of its file, 0 where there is none."""
        return own_size(self._path(name))

    def write(self, name: Name, tokens: tuple[int, ...], payload: Payload) -> int:
        """Keeps the block; gives how many bytes that took. Raises OSError."""
        description = _encoder.encode(_Description(name.parent, pack(tokens), payload.form, payload.skipped, len(payload.tail)))
        parts: list[bytes | memoryview] = [description, payload.data.data, payload.tail]
        head = _HEAD.pack(_MAGIC, 0, len(description), len(payload.data))
        checksum = zlib.crc32(head[_CHECKED_FROM:])
        for part in parts:
            checksum = zlib.crc32(part, checksum)
        head = _HEAD.pack(_MAGIC, checksum, len(description), len(payload.data))
        path = self._path(name)
        size = sum(map(len, parts)) + len(head)
        if own_size(path) == size:  # somebody else has kept the same
            os.utime(path)
            return 0
        unfinished = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(8)}{_UNFINISHED}")
        opened = self._create(unfinished)
        try:
            with os.fdopen(opened, "wb", buffering=0) as file:
                for part in (head, *parts):
                    _write(file, part)
            unfinished.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise
        return size

    def read(self, name: Name) -> Stored | None:
        """None where there is no such block any more, or none that can be used: that file is deleted."""
        path = self._path(name)
        try:
            with os.fdopen(open_own(path), "rb", buffering=0) as file:
                found = _read(file, name, os.fstat(file.fileno()).st_size)
        except UntrustedError:
            found = None
        except OSError:
            return None
        if found is None:
            log.warning("%s is not a block of the prefix cache, or not all of it; it is deleted", path)
            with contextlib.suppress(OSError):
                path.unlink()
        return found

    def tokens(self, name: Name) -> tuple[int, ...] | None:
        """Those that its file says it is of, unchecked."""
        try:
            with os.fdopen(open_own(self._path(name)), "rb") as file:
                _, description = _described(file.read(_HEAD.size), file)
        except (OSError, ValueError):
            return None
        return unpack(description.tokens)

    def after(self, parent: bytes) -> list[Name]:
        """The blocks that come after that one."""
        try:
            found = [path.name for path in self._shard(parent).iterdir()]
        except OSError:
            return []
        beginning = parent.hex()
        return [name for text in found if text.startswith(beginning) and (name := Name.read(text))]

    def remove(self, names: list[Name]) -> None:
        for name in names:
            with contextlib.suppress(OSError):
                self._path(name).unlink()

    def use(self, names: list[Name]) -> None:
        """They are used now; the first one is the last to go."""
        for name in reversed(names):
            with contextlib.suppress(OSError):
                os.utime(self._path(name))

    def sweep(self) -> int:
        """Deletes what was used longest ago, of whatever model, until all is within the budget. Gives the bytes left."""
        try:
            check_folder(self._root)
        except OSError:
            return 0
        found = sorted(self._files())
        total = sum(size for _, size, _ in found)
        if total <= self._budget_bytes:
            return total
        for _, size, path in found:
            if total <= self._budget_bytes * _LEFT_SHARE:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size
        return total

    def _files(self) -> Iterator[tuple[int, int, Path]]:
        """When it was used, its size and its path, of each block. Deletes what a process has left unfinished."""
        stale_ns = time.time_ns() - int(_STALE_S * 1e9)
        for folder, _, names in os.walk(self._root):
            for name in names:
                path = Path(folder) / name
                try:
                    status = path.lstat()
                    if name.endswith(_SUFFIX):
                        yield status.st_mtime_ns, status.st_size, path
                    elif name.endswith(_UNFINISHED) and status.st_mtime_ns < stale_ns:
                        path.unlink()
                except OSError:
                    continue

    def _create(self, path: Path) -> int:
        """An open file that is its owner's alone, in a folder that is."""
        for folder in (self._root, self._folder, path.parent):
            check_folder(folder)
        try:
            return open_new(path)
        except FileNotFoundError:  # a new folder, or one that somebody has tidied away
            self._root.parent.mkdir(parents=True, exist_ok=True)
            for folder in (self._root, self._folder, path.parent):
                make_folder(folder)
            return open_new(path)

    def _shard(self, parent: bytes) -> Path:
        return self._folder / parent[:1].hex()

    def _path(self, name: Name) -> Path:
        return self._shard(name.parent) / name.text


def _write(file: BinaryIO, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while len(view):
        view = view[file.write(view) :]


def _described(head: bytes, file: BinaryIO) -> tuple[bytes, _Description]:
    """The description behind the head, as it is there and as it is meant. Raises ValueError, OSError."""
    if len(head) < _HEAD.size:
        raise ValueError("too short")
    magic, _, size, _ = _HEAD.unpack(head)
    if magic != _MAGIC or size > _MOST_DESCRIPTION:
        raise ValueError("another format")
    data = file.read(size)
    try:
        return data, _decoder.decode(data)
    except msgspec.DecodeError as exc:
        raise ValueError("another description") from exc


def _read(file: BinaryIO, name: Name, size_bytes: int) -> Stored | None:
    """None where anything of the file is not as it was written for that name."""
    head = file.read(_HEAD.size)
    try:
        described, description = _described(head, file)
    except ValueError:
        return None
    _, checksum, _, data_bytes = _HEAD.unpack(head)
    tail_bytes = description.tail_bytes
    if not 0 <= tail_bytes <= _MOST_PAYLOAD or size_bytes != _HEAD.size + len(described) + data_bytes + tail_bytes:
        return None
    tokens = unpack(description.tokens)
    if not _is_that(name, description, tokens, data_bytes):
        return None
    data, tail = room(data_bytes), bytearray(tail_bytes)
    if not (_fill(file, data.data) and _fill(file, memoryview(tail))):
        return None
    found = zlib.crc32(head[_CHECKED_FROM:])
    for part in (described, data.data, tail):
        found = zlib.crc32(part, found)
    if found != checksum:
        return None
    payload = Payload(description.form, len(tokens), description.skipped, data, bytes(tail))
    return Stored(name.parent, name.key, tokens, payload)


def _is_that(name: Name, description: _Description, tokens: tuple[int, ...], data_bytes: int) -> bool:
    """Does the description say what the name does, and is it one of a payload of that size?"""
    count, form, skipped = len(tokens), description.form, description.skipped
    is_named_so = description.parent == name.parent and count == name.count and bool(description.tail_bytes) == name.has_tail
    return (
        is_named_so
        and 0 < count <= SIZE
        and key_of(name.parent, tokens) == name.key
        and len(skipped) == len(form)
        and all(0 <= skip <= count for skip in skipped)
        and all(
            0 < band.item_bytes <= band.row_bytes and not band.row_bytes % band.item_bytes for c in form for band in c.bands
        )
        and payload_bytes(form, count, skipped) == data_bytes <= _MOST_PAYLOAD
    )


def _fill(file: BinaryIO, target: memoryview) -> bool:
    while len(target):
        size = file.readinto(target)  # type: ignore[attr-defined]  # an unbuffered file has it
        if not size:
            return False
        target = target[size:]
    return True
