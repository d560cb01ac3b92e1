"""Saved sequences, as bytes: what llama.cpp writes of one, and where its cells lie in that. Pure.

A state is a list of caches, most models have one. A cache is a list of streams of which one has cells: a description of each
cell, then its keys and values, layer by layer, a row a cell. Models that keep a state instead of cells, or beside them, write
it at the end. `refit` writes a state anew for a context with another count of streams; `read` says where everything is.
Both read every length that the format has and give up where one does not add up, so a change of the format costs a
recomputation, never a wrong answer.
Source: llama.cpp src/llama-context.cpp, llama_context::state_seq_get_data; src/llama-kv-cache.cpp, llama_kv_cache::state_write.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

MAGIC: Final = 0xAF143CD8
HEAD: Final = struct.Struct("<Ii")  # magic, the sequence
U32: Final = struct.Struct("<I")
_CELL_BYTES: Final = (12, 24)  # position, count of sequences (1), [place in two dimensions, token,] the sequence
SHAPE: Final = struct.Struct("<II")  # are values transposed?, layers
_SECTION: Final = struct.Struct("<iQ")  # type, bytes of one cell's row
_COLUMNS: Final = struct.Struct("<iII")  # of transposed values: type, bytes of one value, values of one cell
SECTION_BYTES: Final = _SECTION.size
_MOST_STREAMS: Final = 4096
_MOST_TYPE: Final = 256
_MOST_ROW: Final = 1 << 26
assert _SECTION.size == _COLUMNS.size


@dataclass(frozen=True, slots=True)
class Saved:
    """A sequence as a context of so many streams wrote it. The last bytes may be a state that is no list of cells.

    `is_long`: positions are encoded as in a long context, which some models do otherwise than in a short one.
    """

    streams: int
    data: Bytes
    tail_bytes: int = 0
    is_long: bool = False


@dataclass(frozen=True, slots=True)
class Band:
    """Neighbouring sections of one shape: keys or values, a section a layer, each behind the same header."""

    begin: int  # of the first header
    sections: int
    row_bytes: int  # of one cell
    item_bytes: int  # fewer where values are transposed: what lies together of one cell
    header: bytes


@dataclass(frozen=True, slots=True)
class CacheAt:
    """One cache of a state: where the only stream with cells begins and ends, and where the next cache begins."""

    begin: int
    end: int
    next: int
    count: int = 0  # cells
    cell_bytes: int = 0
    is_transposed: bool = False
    layers: int = 0
    bands: tuple[Band, ...] = ()


def read(state: memoryview, tail_bytes: int = 0) -> list[CacheAt] | None:
    """The caches of a state; None where the bytes are not what is known of the format."""
    end = len(state) - tail_bytes
    try:
        if HEAD.unpack_from(state)[0] != MAGIC or end < HEAD.size:
            return None
        return _caches(state[:end], HEAD.size)
    except struct.error:
        return None


def refit(state: bytes | memoryview, streams: int, tail_bytes: int = 0) -> bytes | None:
    """The same sequence for a context of `streams` streams; None where the bytes are not what is known of the format."""
    view = memoryview(state)
    caches = read(view, tail_bytes)
    if caches is None:
        return None
    parts: list[bytes | memoryview] = [view[: HEAD.size]]
    for cache in caches:
        body = view[cache.begin : cache.end]
        parts += [U32.pack(streams), body, bytes(U32.size * (streams - bool(len(body))))]
    return b"".join([*parts, view[len(view) - tail_bytes :]])


def _caches(view: memoryview, at: int) -> list[CacheAt] | None:
    """What follows from there to the end. The first reading that comes out even is the right one."""
    if at == len(view):
        return []
    for cache in _readings(view, at):
        rest = _caches(view, cache.next)
        if rest is not None:
            return [cache, *rest]
    return None


def _readings(view: memoryview, at: int) -> Iterator[CacheAt]:
    """A cache may be read in few ways: with plain or larger cells, with values or, in some models, without."""
    (streams,) = U32.unpack_from(view, at)
    begin = at + U32.size
    if streams > _MOST_STREAMS:
        return
    before = 0
    while before < streams and not U32.unpack_from(view, begin)[0]:
        begin += U32.size
        before += 1
    if before == streams:
        yield CacheAt(begin, begin, begin)
        return
    after_bytes = (streams - before - 1) * U32.size
    for cache in _streams(view, begin):
        end = cache.end + after_bytes
        if end <= len(view) and not any(view[cache.end : end]):
            yield CacheAt(begin, cache.end, end, cache.count, cache.cell_bytes, cache.is_transposed, cache.layers, cache.bands)


def _streams(view: memoryview, begin: int) -> Iterator[CacheAt]:
    """A stream with cells: count, a description of each cell, then keys and values, layer by layer."""
    (count,) = U32.unpack_from(view, begin)
    for cell_bytes in _CELL_BYTES:
        at = begin + U32.size + cell_bytes * count
        if at + SHAPE.size > len(view) or not _are_cells(view[begin + U32.size : at], cell_bytes):
            continue
        is_transposed, layers = SHAPE.unpack_from(view, at)
        if is_transposed > 1 or layers > _MOST_ROW:
            continue
        keys = _bands(view, at + SHAPE.size, layers, count, is_transposed=False)
        if keys is None:
            continue
        key_bands, keys_end = keys
        values = _bands(view, keys_end, layers, count, is_transposed=bool(is_transposed))
        for value_bands, end in ([values] if values else []) + [([], keys_end)]:
            yield CacheAt(begin, end, end, count, cell_bytes, bool(is_transposed), layers, _merged(key_bands, value_bands))


def _are_cells(cells: memoryview, cell_bytes: int) -> bool:
    counts = np.frombuffer(cells, "<u4").reshape(-1, cell_bytes // 4)[:, 1]
    return bool((counts == 1).all())


def _bands(view: memoryview, at: int, layers: int, count: int, *, is_transposed: bool) -> tuple[list[Band], int] | None:
    """The sections of so many layers, and where they end."""
    found: list[Band] = []
    for _ in range(layers):
        if at + SECTION_BYTES > len(view):
            return None
        if is_transposed:
            kind, item_bytes, width = _COLUMNS.unpack_from(view, at)
            row_bytes = item_bytes * width
        else:
            kind, row_bytes = _SECTION.unpack_from(view, at)
            item_bytes = row_bytes
        if not (0 <= kind < _MOST_TYPE and 0 < row_bytes <= _MOST_ROW):
            return None
        found.append(Band(at, 1, row_bytes, item_bytes, bytes(view[at : at + SECTION_BYTES])))
        at += SECTION_BYTES + row_bytes * count
    return (found, at) if at <= len(view) else None


def _merged(*parts: list[Band]) -> tuple[Band, ...]:
    bands: list[Band] = []
    for band in (band for part in parts for band in part):
        last = bands[-1] if bands else None
        if last and (last.header, last.item_bytes) == (band.header, band.item_bytes):
            bands[-1] = Band(last.begin, last.sections + 1, last.row_bytes, last.item_bytes, last.header)
        else:
            bands.append(band)
    return tuple(bands)


def rows(data: npt.NDArray[Any], band: Band, count: int) -> Bytes:
    """A view of the band's rows: by section, cell, item of a row, byte."""
    width = band.row_bytes // band.item_bytes
    section = SECTION_BYTES + count * band.row_bytes
    cell, item = (band.item_bytes, count * band.item_bytes) if width > 1 else (band.row_bytes, band.item_bytes)
    shape = (band.sections, count, width, band.item_bytes)
    return np.ndarray(shape, np.uint8, data, band.begin + SECTION_BYTES, (section, cell, item, 1))
