"""Reads the header of a safetensors file: names, types and places of tensors, never a weight.

Every length is held against the size of the file before it is believed, and every tensor must lie inside it, whole: what reads
the file afterwards need not wonder.
Source: the safetensors format (huggingface/safetensors, README), whose limit on a header is kept.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from corral.core.errors import BadRequestError

_MAX_HEADER_BYTES: Final = 100_000_000
_MAX_DIMENSIONS: Final = 8
_BITS: Final = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


class SafetensorsError(BadRequestError):
    """The file is not one that can be used. The text says what is wrong; who reads the file says which it is."""

    code = "bad_safetensors"


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """`begin` and `end` count bytes from the start of the data."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def values(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    tensors: Mapping[str, StoredTensor]
    data_start: int  # byte of the file

    @property
    def parameter_count(self) -> int:
        return sum(tensor.values for tensor in self.tensors.values())


class _Entry(msgspec.Struct, frozen=True):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def read_safetensors(path: Path) -> SafetensorsHeader:
    """Raises SafetensorsError for a bad file, OSError for an unreadable one."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size_bytes < 10 or length > size_bytes - 8:
            raise SafetensorsError(f"not a safetensors file, or a truncated one: {size_bytes} bytes, a header of {length}")
        if length > _MAX_HEADER_BYTES:
            raise SafetensorsError(f"damaged safetensors: it claims a header of {length} bytes")
        entries = _decoded(file.read(length))
    entries.pop("__metadata__", None)
    data_bytes = size_bytes - 8 - length
    return SafetensorsHeader({name: _checked(name, raw, data_bytes) for name, raw in entries.items()}, 8 + length)


def _decoded(data: bytes) -> dict[str, msgspec.Raw]:
    try:
        return msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise SafetensorsError(f"damaged safetensors: its header is no JSON object: {exc}") from exc


def _checked(name: str, raw: msgspec.Raw, data_bytes: int) -> StoredTensor:
    try:
        entry = msgspec.json.decode(raw, type=_Entry)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise SafetensorsError(f"damaged safetensors: tensor {_shown(name)}: {exc}") from exc
    begin, end = entry.data_offsets
    if entry.dtype not in _BITS:
        raise SafetensorsError(f"tensor {_shown(name)} has the unknown type {_shown(entry.dtype)}")
    if len(entry.shape) > _MAX_DIMENSIONS or any(size < 0 for size in entry.shape):
        raise SafetensorsError(f"damaged safetensors: tensor {_shown(name)} has an impossible shape")
    if not 0 <= begin <= end <= data_bytes:
        raise SafetensorsError(f"damaged safetensors: tensor {_shown(name)} lies outside the file")
    tensor = StoredTensor(entry.dtype, tuple(entry.shape), begin, end)
    if tensor.values * _BITS[entry.dtype] != (end - begin) * 8:
        raise SafetensorsError(f"damaged safetensors: tensor {_shown(name)} has {end - begin} bytes, which is not its shape")
    return tensor


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
