"""States cut into pieces of some tokens, and made whole again. Pure.

A payload is what KV memory holds of a block of neighbouring tokens: for each of the model's caches the description of their
cells and their rows in all layers. Layers with a sliding window are saved for the last tokens of a sequence only, so a payload
may begin later in one cache than in another. What is no list of cells, a recurrent model's state, comes behind the last token
of a payload, if at all: `tail`.
The pieces of a state are views of it; a payload has memory of its own, which goes back to the system with it.
"""

import mmap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from corral.engine.llamacpp.worker.batch.states import (
    HEAD,
    MAGIC,
    SECTION_BYTES,
    SHAPE,
    U32,
    Band,
    Bytes,
    CacheAt,
    Saved,
    read,
    rows,
)

_MAPPED_BYTES: Final = 1 << 16  # a payload of so many bytes is mapped by itself, and no hole in a heap when it goes
_POPULATED: Final = getattr(mmap, "MAP_POPULATE", 0) | getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0)


class BandForm(msgspec.Struct, frozen=True, array_like=True):
    """Of how many sections it is, and what one of them looks like: states.Band, wherever it lies."""

    sections: int
    row_bytes: int
    item_bytes: int
    header: bytes


class CacheForm(msgspec.Struct, frozen=True, array_like=True):
    cell_bytes: int
    is_transposed: bool
    layers: int
    bands: tuple[BandForm, ...]

    @property
    def token_bytes(self) -> int:
        return self.cell_bytes + sum(band.sections * band.row_bytes for band in self.bands)


Form = tuple[CacheForm, ...]  # the same for all states of one model in one kind of context


@dataclass(frozen=True, slots=True)
class Piece:
    """Neighbouring cells of one cache, as they lie in a state: `begin` is the first one's place in the sequence."""

    begin: int
    cells: Bytes  # by cell
    bands: tuple[Bytes, ...]  # by section, cell, item of a row, byte

    @property
    def end(self) -> int:
        return self.begin + len(self.cells)

    @property
    def positions(self) -> npt.NDArray[np.int32]:
        return np.ascontiguousarray(self.cells[:, :4]).view(np.int32).reshape(-1)


@dataclass(frozen=True, slots=True)
class Payload:
    """`skipped`: for each cache, so many of the block's first tokens have no cells here. `count`: tokens of the block."""

    form: Form
    count: int
    skipped: tuple[int, ...]
    data: Bytes
    tail: bytes = b""

    @property
    def size_bytes(self) -> int:
        return len(self.data) + len(self.tail)

    def piece(self, cache: int, begin: int) -> Piece:
        """Its cells of one cache, where the block begins at that place of the sequence."""
        at = sum(form.token_bytes * (self.count - skip) for form, skip in zip(self.form[:cache], self.skipped, strict=False))
        form, count = self.form[cache], self.count - self.skipped[cache]
        return _piece(form, begin + self.skipped[cache], self.data[at : at + form.token_bytes * count], count)


def _piece(form: CacheForm, begin: int, data: Bytes, count: int) -> Piece:
    at = count * form.cell_bytes
    cells, bands = data[:at].reshape(count, form.cell_bytes), list[Bytes]()
    for band in form.bands:
        size = band.sections * band.row_bytes * count
        bands.append(data[at : at + size].reshape(band.sections, count, band.row_bytes // band.item_bytes, band.item_bytes))
        at += size
    return Piece(begin, cells, tuple(bands))


def payload_bytes(form: Form, count: int, skipped: Sequence[int]) -> int:
    return sum(cache.token_bytes * (count - skip) for cache, skip in zip(form, skipped, strict=True))


def pieces(saved: Saved, count: int) -> tuple[Form, list[Piece], bytes] | None:
    """The caches of a state of `count` tokens, and its tail; None where it is not what is known of the format.

    Each cache has the last tokens of the sequence, if not all, in their order.
    """
    caches = read(saved.data.data, saved.tail_bytes)
    if caches is None:
        return None
    if any(not 0 < cache.count <= count for cache in caches):
        return None
    form = tuple(_form(cache) for cache in caches)
    found = [_in_order(_view(saved.data, cache, count)) for cache in caches]
    if any(piece is None for piece in found):
        return None
    tail = saved.data[len(saved.data) - saved.tail_bytes :].tobytes() if saved.tail_bytes else b""
    return form, [piece for piece in found if piece], tail


def _in_order(piece: Piece) -> Piece | None:
    """The cells in the order of their positions, which those of a buffer for all sequences need not have."""
    steps = np.diff(piece.positions)
    if (steps >= 0).all():  # the tokens of an image may have one position all together
        return piece
    order = np.argsort(piece.positions, kind="stable")
    if not (np.diff(piece.positions[order]) > 0).all():
        return None
    return Piece(piece.begin, piece.cells[order], tuple(band[:, order] for band in piece.bands))


def _form(cache: CacheAt) -> CacheForm:
    bands = tuple(BandForm(band.sections, band.row_bytes, band.item_bytes, band.header) for band in cache.bands)
    return CacheForm(cache.cell_bytes, cache.is_transposed, cache.layers, bands)


def _view(data: Bytes, cache: CacheAt, count: int) -> Piece:
    at = cache.begin + U32.size
    cells = data[at : at + cache.cell_bytes * cache.count].reshape(cache.count, cache.cell_bytes)
    return Piece(count - cache.count, cells, tuple(rows(data, band, cache.count) for band in cache.bands))


def room(size: int) -> Bytes:
    """Memory for so many bytes, which the system gets back when nobody has it any more."""
    if size < _MAPPED_BYTES:
        return np.empty(size, np.uint8)
    return np.frombuffer(mmap.mmap(-1, size, flags=_POPULATED) if _POPULATED else mmap.mmap(-1, size), np.uint8)


def cut(form: Form, sources: Sequence[Sequence[Piece]], begin: int, end: int, tail: bytes = b"") -> Payload:
    """The tokens from `begin` to `end` of the pieces that there are of each cache; neighbouring ones in falling order.

    What is missing of a cache is missing at the beginning.
    """
    firsts = tuple(_reach(parts, begin, end) - begin for parts in sources)
    payload = Payload(form, end - begin, firsts, room(payload_bytes(form, end - begin, firsts)), tail)
    for cache, parts in enumerate(sources):
        target = payload.piece(cache, begin)
        for part in parts:
            _copy(part, target)
    return payload


def _reach(parts: Sequence[Piece], begin: int, end: int) -> int:
    """How far back from `end` the pieces go without a gap; `begin` at most."""
    reach = end
    for part in sorted(parts, key=lambda part: part.begin, reverse=True):
        if part.begin < reach <= part.end:
            reach = part.begin
    return max(begin, reach)


def _copy(source: Piece, target: Piece) -> None:
    """The cells that both have."""
    begin, end = max(source.begin, target.begin), min(source.end, target.end)
    if begin >= end:
        return
    ours, theirs = slice(begin - source.begin, end - source.begin), slice(begin - target.begin, end - target.begin)
    target.cells[theirs] = source.cells[ours]
    for to, from_ in zip(target.bands, source.bands, strict=True):
        to[:, theirs] = from_[:, ours]


def joined(payloads: Sequence[tuple[int, Payload]], count: int, streams: int, room_for: Callable[[int], Bytes] = room) -> Saved:
    """The state of the first `count` tokens of neighbouring blocks, each with its place in the sequence, the last one's tail
    behind it, for a context of so many streams. A cache begins where all that follows is there.
    """
    form, tail = payloads[0][1].form, payloads[-1][1].tail
    sources = [[payload.piece(cache, begin) for begin, payload in payloads] for cache in range(len(form))]
    begins = [_reach([_upto(part, count) for part in parts], 0, count) for parts in sources]
    sizes = [_cache_bytes(cache, count - begin, streams) for cache, begin in zip(form, begins, strict=True)]
    data = room_for(HEAD.size + sum(sizes) + len(tail))
    data[: HEAD.size] = np.frombuffer(HEAD.pack(MAGIC, 0), np.uint8)
    at = HEAD.size
    for cache, parts, begin, size in zip(form, sources, begins, sizes, strict=True):
        _write(data[at : at + size], cache, parts, begin, count, streams)
        at += size
    data[at : at + len(tail)] = np.frombuffer(tail, np.uint8)
    return Saved(streams, data[: at + len(tail)], len(tail))


def _upto(part: Piece, end: int) -> Piece:
    return part if part.end <= end else Piece(part.begin, part.cells[: max(0, end - part.begin)], ())


def _cache_bytes(form: CacheForm, count: int, streams: int) -> int:
    sections = sum(band.sections for band in form.bands)
    return U32.size + U32.size * streams + SHAPE.size + sections * SECTION_BYTES + count * form.token_bytes


def _write(data: Bytes, form: CacheForm, parts: Sequence[Piece], begin: int, end: int, streams: int) -> None:
    """One cache: the counts of its streams, and in the first of them the cells."""
    count = end - begin
    at = 2 * U32.size
    data[:at] = np.frombuffer(U32.pack(streams) + U32.pack(count), np.uint8)
    cells = data[at : at + count * form.cell_bytes].reshape(count, form.cell_bytes)
    at += count * form.cell_bytes
    data[at : at + SHAPE.size] = np.frombuffer(SHAPE.pack(form.is_transposed, form.layers), np.uint8)
    at += SHAPE.size
    bands = list[Bytes]()
    for band in form.bands:
        section = SECTION_BYTES + count * band.row_bytes
        size = band.sections * section
        data[at : at + size].reshape(band.sections, section)[:, :SECTION_BYTES] = np.frombuffer(band.header, np.uint8)
        bands.append(_band_view(data[at : at + size], band, count))
        at += size
    data[at:] = 0  # the other streams are empty
    target = Piece(begin, cells, tuple(bands))
    for part in parts:
        _copy(part, target)


def _band_view(data: Bytes, form: BandForm, count: int) -> Bytes:
    return rows(data, Band(0, form.sections, form.row_bytes, form.item_bytes, form.header), count)
