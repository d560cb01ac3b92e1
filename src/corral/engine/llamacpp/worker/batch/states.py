"""Saved sequences, as bytes: what llama.cpp writes of one in a context fits only a context with as many streams. Pure.

`refit` writes it anew for another count. It reads every length that the format has and gives up where one does not add up,
so a change of the format costs a recomputation, never a wrong answer.
Source: llama.cpp src/llama-context.cpp, llama_context::state_seq_get_data; src/llama-kv-cache.cpp, llama_kv_cache::state_write.
"""

import struct
from dataclasses import dataclass
from typing import Final

_MAGIC: Final = 0xAF143CD8
_HEAD: Final = struct.Struct("<Ii")  # magic, the sequence
_U32: Final = struct.Struct("<I")
_CELLS: Final = (  # of models with one dimension, and with more: place in two dimensions, token
    struct.Struct("<iIi"),  # position, count of sequences (1), the sequence
    struct.Struct("<iI12xi"),
)
_LAYER: Final = struct.Struct("<iQ")  # type, bytes of one cell's row


@dataclass(frozen=True, slots=True)
class _Cache:
    """Where one cache's only stream with cells begins and ends, and where the next cache begins."""

    begin: int
    end: int
    next: int


def refit(state: bytes | memoryview, streams: int) -> bytes | None:
    """The same sequence for a context of `streams` streams; None where the bytes are not what is known of the format."""
    view = memoryview(state)
    at = _HEAD.size
    parts: list[bytes | memoryview] = [view[:at]]
    try:
        if _HEAD.unpack_from(view)[0] != _MAGIC:
            return None
        while at < len(view):
            cache = _cache(view, at)
            if cache is None:
                return None
            body = view[cache.begin : cache.end]
            empty_streams = streams - bool(len(body))
            parts += [_U32.pack(streams), body, bytes(_U32.size * empty_streams)]
            at = cache.next
    except struct.error:
        return None
    return b"".join(parts)


def _cache(view: memoryview, at: int) -> _Cache | None:
    (streams,) = _U32.unpack_from(view, at)
    begin = at + _U32.size
    before = 0
    while before < streams and not _U32.unpack_from(view, begin)[0]:
        begin += _U32.size
        before += 1
    if before == streams:
        return _Cache(begin, begin, begin)
    end = _cells_end(view, begin)
    after = streams - before - 1
    if end is None or end + after * _U32.size > len(view) or any(view[end : end + after * _U32.size]):
        return None
    return _Cache(begin, end, end + after * _U32.size)


def _cells_end(view: memoryview, at: int) -> int | None:
    """Where a stream's cells end: count, a description of each cell, then keys and values, layer by layer."""
    (count,) = _U32.unpack_from(view, at)
    at += _U32.size
    for cell in _CELLS:
        end = at + cell.size * count
        is_such = end <= len(view) and all(sequences == 1 for _, sequences, _ in cell.iter_unpack(view[at:end]))
        if is_such and (layers_end := _layers_end(view, end, count)) is not None:
            return layers_end
    return None


def _layers_end(view: memoryview, at: int, count: int) -> int | None:
    is_transposed, layers = struct.unpack_from("<II", view, at)
    if is_transposed:
        return None
    at += 2 * _U32.size
    for _ in range(2 * layers):
        _, row_bytes = _LAYER.unpack_from(view, at)
        at += _LAYER.size + row_bytes * count
    return at if at <= len(view) else None
