"""Reads the header of a GGUF file: metadata and the list of tensors, never a weight.

Big arrays (a vocabulary) are walked over, not built, so a file with 262,144 tokens takes some ten milliseconds and no
memory to speak of. Every count and length is held against the size of the file before it is believed, and every tensor must lie
inside it: a file that was cut off or made to harm is a GgufError, whatever byte it ends at.
"""

import reprlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from corral.core.errors import BadRequestError
from corral.store.gguf_infill import INFILL_KEYS, infill_texts
from corral.store.gguf_types import ARRAY, BLOCKS, FLOAT32, SCALARS, STRING, TENSOR_TYPES

MAGIC: Final = b"GGUF"
_WINDOW_BYTES: Final = 1 << 20
_MAX_KEYS: Final = 1 << 16
_MAX_TENSORS: Final = 1 << 18
_MAX_TEXT_BYTES: Final = 16 << 20
_MAX_NAME_BYTES: Final = 1 << 16  # of a key, or of a tensor's name
_MAX_HEADER_BYTES: Final = 128 << 20  # five times the largest there is; bounds what reading one costs
_MAX_VALUES: Final = 1 << 53  # of all tensors together: what every reader of JSON can hold
_MAX_VOCABULARY_BYTES: Final = 64 << 20  # that are searched; ten times the largest there is
_MAX_DIMENSIONS: Final = 4
_DEFAULT_ALIGNMENT: Final = 32
_MAX_ALIGNMENT: Final = 1 << 20
_SMALL_ARRAY: Final = 512  # longer ones are kept as their length, unless asked for
_LARGE_ARRAY: Final = 1 << 22  # longer ones in any case
_MOST_KEPT: Final = 1 << 16  # values of all arrays together; once they are more, arrays are kept as their lengths
_MOST_KEPT_IF_WANTED: Final = 1 << 22  # three times what the largest vocabulary takes, with its types, scores and merges
_VALUE_BYTES: Final = 32  # so much of a text counts as one value more: about what a value takes in memory
_MAX_TEXTS: Final = 1 << 23  # of one array: thirty times the largest vocabulary
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")


class GgufError(BadRequestError):
    """The file is not a GGUF that can be used. The text says what is wrong; who reads the file says which it is."""

    code = "bad_gguf"


@dataclass(frozen=True, slots=True)
class LongArray:
    """An array that was not read."""

    length: int


@dataclass(frozen=True, slots=True)
class Tensor:
    name: str
    type_name: str
    shape: tuple[int, ...]  # fastest dimension first, as the file has it

    @property
    def size_bytes(self) -> int:
        """Of its weights; 0 where its type is not known here."""
        block = BLOCKS.get(self.type_name)
        return data_bytes(self.name, self.shape, *block) if block else 0


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a file says before its weights. `special_tokens` has the texts of the token ids that metadata names.

    `infill_tokens` are those that stand before a prefix, before a suffix, and before what goes between them.
    """

    metadata: Mapping[str, Any]
    tensors: tuple[Tensor, ...]
    special_tokens: Mapping[int, str]
    infill_tokens: tuple[str, str, str] | None = None

    @property
    def parameter_count(self) -> int:
        total = 0
        for tensor in self.tensors:
            values = 1
            for size in tensor.shape:
                values *= size
            total += values
        return total


def read_header(path: Path, *, with_arrays: bool = False) -> GgufHeader:
    """Reads the header, with `with_arrays` long arrays too. Raises GgufError for a bad file, OSError for an unreadable one."""
    with path.open("rb") as file:
        return Reader(file, path.stat().st_size, with_arrays=with_arrays).header()


class Reader:
    """A window that moves over the file. `_at` is the next byte within it."""

    def __init__(self, file: BinaryIO, size_bytes: int, *, with_arrays: bool) -> None:
        self._file = file
        self._size = size_bytes
        self._limit = _LARGE_ARRAY if with_arrays else _SMALL_ARRAY
        self._may_keep = _MOST_KEPT_IF_WANTED if with_arrays else _MOST_KEPT
        self._start = 0
        self._at = 0
        self._window = file.read(_WINDOW_BYTES)
        self._token_texts: tuple[int, int] | None = None  # where the vocabulary's texts begin in the file, and how many
        self._token_texts_end = 0

    def header(self) -> GgufHeader:
        self._check_magic()
        tensor_count, key_count = self._scalar("<Q", 8), self._scalar("<Q", 8)
        if key_count > _MAX_KEYS or tensor_count > _MAX_TENSORS:
            raise GgufError(f"damaged GGUF: it claims {key_count} keys and {tensor_count} tensors")
        metadata: dict[str, Any] = {}
        for _ in range(key_count):
            key = self._text(_MAX_NAME_BYTES)
            metadata[key] = self._value(key)
        tensors, ends = self._tensors(tensor_count)
        self._check_data(metadata, ends)
        special_tokens = self._special_tokens(metadata)
        infill_tokens = infill_texts(self._vocabulary(), metadata, special_tokens)
        header = GgufHeader(metadata, tensors, special_tokens, infill_tokens)
        if header.parameter_count > _MAX_VALUES:  # of a type that is not known here; any other lies inside the file
            raise GgufError(f"damaged GGUF: its tensors claim {float(header.parameter_count):.0e} values")
        return header

    def _check_magic(self) -> None:
        magic = self._window[:4]
        if magic != MAGIC:
            raise GgufError("not a GGUF file: it is empty" if not magic else f"not a GGUF file: it begins with {magic!r}")
        self._at = 4
        version = self._scalar("<I", 4)
        if version & 0xFFFF == 0:
            raise GgufError("this GGUF is big-endian, which is not supported; convert it to little-endian")
        if version not in (2, 3):
            raise GgufError(f"GGUF version {version} is not supported; versions 2 and 3 are")

    def _need(self, size_bytes: int) -> None:
        """Moves the window so that it holds the next `size_bytes` bytes."""
        if self._at + size_bytes <= len(self._window):
            return
        start = self._start + self._at
        if start > _MAX_HEADER_BYTES:
            raise GgufError(f"damaged GGUF: its header goes on after {_MAX_HEADER_BYTES} bytes")
        if start + size_bytes > self._size:
            raise GgufError(f"truncated GGUF: its {self._size} bytes end inside the header")
        self._file.seek(start)
        self._window = self._file.read(max(size_bytes, _WINDOW_BYTES))
        self._start, self._at = start, 0
        if len(self._window) < size_bytes:
            raise GgufError("truncated GGUF: it became shorter while it was read")

    def _scalar(self, form: str, size_bytes: int) -> Any:
        self._need(size_bytes)
        (value,) = struct.unpack_from(form, self._window, self._at)
        self._at += size_bytes
        return value

    def _text(self, most_bytes: int = _MAX_TEXT_BYTES) -> str:
        length = self._scalar("<Q", 8)
        if length > most_bytes:
            raise GgufError(f"damaged GGUF: it claims a text of {length} bytes")
        self._need(length)
        text = self._window[self._at : self._at + length].decode("utf-8", "replace")
        self._at += length
        return text

    def _value(self, key: str) -> Any:
        kind = self._scalar("<I", 4)
        if kind == STRING:
            return self._text()
        if kind == ARRAY:
            items = self._array(key)
            if key == "tokenizer.ggml.tokens":
                self._token_texts_end = self._start + self._at
            return items
        if kind not in SCALARS:
            raise GgufError(f"damaged GGUF: {cut(key)!r} has the unknown type {kind}")
        value = self._scalar(*SCALARS[kind])
        return shortest(value) if kind == FLOAT32 else value

    def _array(self, key: str) -> Any:
        kind, length = self._scalar("<I", 4), self._scalar("<Q", 8)
        if kind != STRING and kind not in SCALARS:
            raise GgufError(f"damaged GGUF: {cut(key)!r} is an array of the unknown type {kind}")
        item_bytes = 8 if kind == STRING else SCALARS[kind][1]
        if length * item_bytes > self._size - self._start - self._at:
            raise GgufError(f"truncated GGUF: {cut(key)!r} has {length} items, more than are left in the file")
        if kind == STRING and length > _MAX_TEXTS:
            raise GgufError(f"damaged GGUF: {cut(key)!r} claims {length} texts")
        if key == "tokenizer.ggml.tokens" and kind == STRING:
            self._token_texts = (self._start + self._at, length)
        if length > min(self._limit, self._may_keep):
            self._skip(kind, length)
            return LongArray(length)
        self._may_keep -= length
        if kind == STRING:
            return self._texts(length)
        form, size_bytes = SCALARS[kind]
        self._need(length * size_bytes)
        values = struct.unpack_from(f"<{length}{form[1]}", self._window, self._at)
        self._at += length * size_bytes
        return [shortest(value) for value in values] if kind == FLOAT32 else list(values)

    def _texts(self, count: int) -> list[str] | LongArray:
        """The texts, as far as there is room for them."""
        texts: list[str] = []
        for done in range(count):
            texts.append(self._text())
            self._may_keep -= len(texts[-1]) // _VALUE_BYTES
            if self._may_keep < 0:
                self._may_keep = 0
                self._skip_texts(count - done - 1)
                return LongArray(count)
        return texts

    def _skip(self, kind: int, length: int) -> None:
        if kind == STRING:
            self._skip_texts(length)
            return
        self._at += length * SCALARS[kind][1]
        self._need(0)

    def _skip_texts(self, count: int) -> None:
        """Walks over texts: the one loop here that runs once per token of a vocabulary."""
        length_at = _U64.unpack_from
        done = 0
        while done < count:
            window, at, last = self._window, self._at, len(self._window) - 8
            while done < count and at <= last:
                at += 8 + length_at(window, at)[0]
                done += 1
            self._at = at
            self._need(8 if done < count else 0)

    def _tensors(self, count: int) -> tuple[tuple[Tensor, ...], list[tuple[str, int]]]:
        """The tensors, and for each of a known type where its data ends, from the start of the data section."""
        tensors: list[Tensor] = []
        ends: list[tuple[str, int]] = []
        for _ in range(count):
            name = self._text(_MAX_NAME_BYTES)
            dimensions = self._scalar("<I", 4)
            if dimensions > _MAX_DIMENSIONS:
                raise GgufError(f"damaged GGUF: tensor {cut(name)!r} has {dimensions} dimensions")
            shape = tuple(self._scalar("<Q", 8) for _ in range(dimensions))
            kind, offset = self._scalar("<I", 4), self._scalar("<Q", 8)
            if kind in TENSOR_TYPES:
                type_name, block_values, block_bytes = TENSOR_TYPES[kind]
                ends.append((name, offset + data_bytes(name, shape, block_values, block_bytes)))
            else:
                type_name = f"TYPE_{kind}"  # newer than this table; the engine may know it
                ends.append((name, offset))
            tensors.append(Tensor(name, type_name, shape))
        return tuple(tensors), ends

    def _check_data(self, metadata: Mapping[str, Any], ends: list[tuple[str, int]]) -> None:
        start = aligned(self._start + self._at, alignment_of(metadata))
        if not ends:
            return
        name, end = max(ends, key=lambda item: item[1])
        if start + end > self._size:
            raise GgufError(f"truncated GGUF: tensor {cut(name)!r} ends at byte {start + end}, the file at {self._size}")

    def _special_tokens(self, metadata: Mapping[str, Any]) -> dict[int, str]:
        """The texts of the tokens that a chat template may want. Reads the vocabulary again, up to the last of them."""
        if self._token_texts is None:
            return {}
        start, count = self._token_texts
        ids = (metadata.get(f"tokenizer.ggml.{which}_token_id") for which in ("bos", "eos", *INFILL_KEYS))
        wanted = sorted({token for token in ids if isinstance(token, int) and 0 <= token < count})
        found: dict[int, str] = {}
        self._file.seek(start)
        self._window, self._start, self._at, done = b"", start, 0, 0
        for token in wanted:
            self._skip_texts(token - done)
            found[token], done = self._text(), token + 1
        return found

    def _vocabulary(self) -> bytes:
        """The array of the tokens' texts, byte for byte: some megabytes, to be looked at and let go."""
        if self._token_texts is None:
            return b""
        start, _ = self._token_texts
        self._file.seek(start)
        return self._file.read(min(self._token_texts_end - start, _MAX_VOCABULARY_BYTES))


def cut(name: str) -> str:
    """A name for an error's text."""
    return name if len(name) <= 80 else f"{name[:80]}…"


def alignment_of(metadata: Mapping[str, Any]) -> int:
    """What every tensor begins at a multiple of. Raises GgufError where it is none that engines take."""
    alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if type(alignment) is not int or not 0 < alignment <= _MAX_ALIGNMENT or alignment & (alignment - 1):
        shown = reprlib.repr(alignment)
        raise GgufError(f"damaged GGUF: its alignment is {shown}; it must be a power of two, up to {_MAX_ALIGNMENT}")
    return alignment


def aligned(at: int, alignment: int) -> int:
    """The first multiple of `alignment` from `at` on."""
    return -(-at // alignment) * alignment


def data_bytes(name: str, shape: tuple[int, ...], block_values: int, block_bytes: int) -> int:
    values = 1
    for size in shape:
        values *= size
    if shape and shape[0] % block_values:
        raise GgufError(f"damaged GGUF: tensor {cut(name)!r} has rows of {shape[0]} values, not a multiple of {block_values}")
    return values // block_values * block_bytes


def shortest(value: float) -> float:
    """The float with the fewest digits that is the same 32-bit float: 1e-05 for what a file has as 9.999999747378752e-06."""
    if value != value or value in (float("inf"), float("-inf")) or value.is_integer():
        return value
    packed = struct.pack("<f", value)
    for digits in range(6, 9):
        candidate = float(f"{value:.{digits}g}")
        if struct.pack("<f", candidate) == packed:
            return candidate
    return float(f"{value:.9g}")
