"""Joins the shards of a split GGUF into one file, which is how a store holds it: one layer, readable by every engine.

Metadata is that of the first shard, byte for byte, without the keys that count shards; tensors follow in the order of the
shards, moved and not changed.
"""

import hashlib
import os
import re
import struct
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from corral.store.gguf import MAGIC, GgufError, Reader, aligned, alignment_of, data_bytes, read_header
from corral.store.gguf_info import GgufInfo
from corral.store.gguf_types import TENSOR_TYPES

_SPLIT_KEYS: Final = frozenset({"split.no", "split.count", "split.tensors.count"})
_NAME: Final = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")
_MOST_SHARDS: Final = 1024
_STEP_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Shard:
    """A file that claims to be a part; `name` is what its uploader calls it."""

    name: str
    path: Path
    info: GgufInfo


def shard_count(info: GgufInfo) -> int:
    """How many files the model that this one belongs to is in; 1 for a whole one."""
    count = info.metadata.get("split.count", 1)
    return count if type(count) is int and count > 1 else 1


def order_shards(shards: Sequence[Shard]) -> list[Shard]:
    """The shards of one model, first to last. Raises GgufError where these are not all of them, or not of one model."""
    count = shard_count(shards[0].info)
    if count > _MOST_SHARDS:
        raise GgufError(f"invalid split GGUF: {shards[0].name} claims {count} shards; {_MOST_SHARDS} is the most")
    found: dict[int, Shard] = {}
    for shard in shards:
        number = _number(shard, count)
        if number in found:
            raise GgufError(f"invalid split GGUF: {found[number].name} and {shard.name} are the same shard")
        found[number] = shard
    if missing := [number for number in range(count) if number not in found]:
        raise GgufError(f"invalid split GGUF: of {count} shards {len(missing)} are missing, number {missing[0] + 1} first")
    ordered = [found[number] for number in range(count)]
    _check_alike(ordered)
    return ordered


def _number(shard: Shard, count: int) -> int:
    """Counts from 0. The name and the metadata must say the same."""
    named = _NAME.fullmatch(shard.name.rpartition("/")[2])
    if not named:
        raise GgufError(f"invalid split GGUF: {shard.name} is not named NAME-00001-of-{count:05}.gguf")
    number = shard.info.metadata.get("split.no")
    if (number, shard_count(shard.info)) != (int(named[2]) - 1, int(named[3])) or int(named[3]) != count:
        raise GgufError(f"invalid split GGUF: {shard.name} is not the shard that its name says")
    return int(named[2]) - 1


def _check_alike(shards: Sequence[Shard]) -> None:
    first = shards[0]
    prefix = first.name.rpartition("-of-")[0][:-6]
    for shard in shards[1:]:
        if shard.name.rpartition("-of-")[0][:-6] != prefix:
            raise GgufError(f"invalid split GGUF: {first.name} and {shard.name} are not of one model")
        if shard.info.architecture not in ("", first.info.architecture):
            raise GgufError(f"invalid split GGUF: {shard.name} is {shard.info.architecture}, not {first.info.architecture}")


@dataclass(slots=True)
class _Part:
    """Where in a shard things lie: keys, and tensors by the bytes that describe them and those that are their weights."""

    path: Path
    keys: list[tuple[str, int, int]] = field(default_factory=list)
    tensors: list[tuple[bytes, int, int]] = field(default_factory=list)  # description without its place; begin, size in bytes
    names: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)


class _PlaceReader(Reader):
    """Reads a header that has been found good, for where things are in it."""

    def part(self, path: Path) -> _Part:
        part = _Part(path)
        self._check_magic()
        tensor_count, key_count = self._scalar("<Q", 8), self._scalar("<Q", 8)
        for _ in range(key_count):
            begin = self._start + self._at
            key = self._text()
            part.metadata[key] = self._value(key)
            part.keys.append((key, begin, self._start + self._at))
        found = [self._tensor() for _ in range(tensor_count)]
        start = aligned(self._start + self._at, alignment_of(part.metadata))
        part.tensors = [(description, start + offset, size) for _, description, offset, size in found]
        part.names = [name for name, *_ in found]
        return part

    def _tensor(self) -> tuple[str, bytes, int, int]:
        name = self._text()
        shape = tuple(self._scalar("<Q", 8) for _ in range(self._scalar("<I", 4)))
        kind, offset = self._scalar("<I", 4), self._scalar("<Q", 8)
        if kind not in TENSOR_TYPES:
            raise GgufError(f"invalid split GGUF: tensor {name!r} has the unknown type {kind}")
        _, block_values, block_bytes = TENSOR_TYPES[kind]
        encoded = name.encode()
        description = struct.pack(f"<Q{len(encoded)}sI{len(shape)}QI", len(encoded), encoded, len(shape), *shape, kind)
        return name, description, offset, data_bytes(name, shape, block_values, block_bytes)


def merge_shards(shards: Sequence[Shard], target: Path) -> Generator["hashlib._Hash", None, None]:
    """Writes the one file to `target`, a step at each turn; gives what has been written, as a checksum that goes on.

    `shards` are in order and checked. Raises GgufError and OSError.
    """
    parts = [_part(shard) for shard in shards]
    _check_tensors(parts)
    checksum = hashlib.sha256()
    with target.open("xb") as out:

        def put(data: bytes) -> None:
            checksum.update(data)
            out.write(data)

        alignment = alignment_of(parts[0].metadata)
        put(_head(parts, alignment))
        yield checksum
        for part in parts:
            with part.path.open("rb") as file:
                for _, begin, size_bytes in part.tensors:
                    for data in _pieces(file, begin, size_bytes):
                        put(data)
                        yield checksum
                    put(bytes(-size_bytes % alignment))
        out.flush()
        os.fsync(out.fileno())
    yield checksum


def _part(shard: Shard) -> _Part:
    read_header(shard.path)  # says what is wrong with it
    with shard.path.open("rb") as file:
        return _PlaceReader(file, shard.path.stat().st_size, with_arrays=False).part(shard.path)


def _check_tensors(parts: Sequence[_Part]) -> None:
    names = [name for part in parts for name in part.names]
    if len(set(names)) != len(names):
        raise GgufError("invalid split GGUF: two shards have the same tensor")
    claimed = parts[0].metadata.get("split.tensors.count", len(names))
    if claimed != len(names):
        raise GgufError(f"invalid split GGUF: the shards have {len(names)} tensors together and should have {claimed}")


def _head(parts: Sequence[_Part], alignment: int) -> bytes:
    """Everything before the weights, up to where they begin."""
    first = parts[0]
    kept = [(begin, end) for key, begin, end in first.keys if key not in _SPLIT_KEYS]
    tensors = [(description, size_bytes) for part in parts for description, _, size_bytes in part.tensors]
    head = [MAGIC, struct.pack("<IQQ", 3, len(tensors), len(kept))]
    with first.path.open("rb") as file:
        for begin, end in kept:
            file.seek(begin)
            head.append(file.read(end - begin))
    at = 0
    for description, size_bytes in tensors:
        head.append(description + struct.pack("<Q", at))
        at += aligned(size_bytes, alignment)
    data = b"".join(head)
    return data + bytes(-len(data) % alignment)


def _pieces(file: BinaryIO, begin: int, size_bytes: int) -> Iterator[bytes]:
    file.seek(begin)
    while size_bytes:
        data = file.read(min(size_bytes, _STEP_BYTES))
        if not data:
            raise GgufError("invalid split GGUF: a shard became shorter while it was read")
        size_bytes -= len(data)
        yield data
