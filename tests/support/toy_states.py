"""Toy contexts that save their sequences in llama.cpp's own form, so that what cuts states into blocks works on real bytes.

`plain` has one cache. `window` has a second one for layers that look back `WINDOW` tokens: it saves no more of it, and fails
the test where a token is computed without what it looks back at. `recurrent` keeps one state a sequence, `hybrid` both.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from corral.core.errors import EngineError
from corral.engine.llamacpp.worker.batch.states import HEAD, MAGIC, Bytes, Saved, read, refit, rows
from corral.engine.llamacpp.worker.cache.disk import Disk
from corral.engine.llamacpp.worker.cache.shelf import Shelf
from corral.engine.llamacpp.worker.cache.tiers import Tiers
from tests.support.toy_engine import ToyContext

WINDOW: Final = 40
Kind = Literal["plain", "window", "recurrent", "hybrid"]


def fresh(size: int) -> Bytes:
    return np.empty(size, np.uint8)


def cache_bytes(tokens: Sequence[int], begin: int, *, streams: int, stream: int, is_transposed: bool = False) -> bytes:
    """One cache with the tokens from `begin` on, in three sections: the token, its square, and values of two bytes."""
    held = np.asarray(tokens[begin:], np.int64)
    cells = b"".join(struct.pack("<iIi", begin + at, 1, stream) for at in range(len(held)))
    body = struct.pack("<I", len(held)) + cells + struct.pack("<II", is_transposed, 2)
    for numbers in (held, held * held):
        body += struct.pack("<iQ", 0, 8) + numbers.astype("<i8").tobytes()
    for factor in (3, 5):
        pairs = np.stack([held * factor, held + factor], axis=1).astype("<i8")
        if is_transposed:
            body += struct.pack("<iII", 1, 8, 2) + pairs.T.tobytes()
        else:
            body += struct.pack("<iQ", 1, 16) + pairs.tobytes()
    empty = bytes(4)
    return struct.pack("<I", streams) + (
        empty * stream + body + empty * (streams - stream - 1) if len(held) else empty * streams
    )


def cache_tokens(saved: Saved, number: int) -> tuple[int, list[int]]:
    """Where the cells of a cache begin, and the tokens of which they are; fails where any row is not that token's."""
    caches = read(saved.data.data, saved.tail_bytes)
    assert caches is not None
    cache = caches[number]
    if not cache.count:
        return 0, []
    cells = np.frombuffer(saved.data[cache.begin + 4 : cache.begin + 4 + cache.count * cache.cell_bytes], "<i4")
    positions = cells.reshape(cache.count, -1)[:, 0].tolist()
    assert positions == list(range(positions[0], positions[0] + cache.count))
    found = [np.ascontiguousarray(rows(saved.data, band, cache.count)).view("<i8") for band in cache.bands]
    sections = [section.reshape(cache.count, -1) for band in found for section in band]
    tokens = sections[0][:, 0]
    assert (sections[1][:, 0] == tokens * tokens).all()
    assert (sections[2] == np.stack([tokens * 3, tokens + 3], axis=1)).all()
    assert (sections[3] == np.stack([tokens * 5, tokens + 5], axis=1)).all()
    return positions[0], tokens.tolist()


@dataclass(slots=True)
class StateToy(ToyContext):
    kind: Kind = "plain"
    is_transposed: bool = False
    is_long: bool = False
    windows: dict[int, int] = field(default_factory=dict)  # where the cells of layers with a window begin, where not at 0

    def __post_init__(self) -> None:
        if self.kind in ("recurrent", "hybrid"):
            self.can_drop = False

    @property
    def streams(self) -> int:
        return self.sequences

    def add(self, sequence: int, tokens: Sequence[int], position: int, **more: Any) -> int:
        begin = self.windows.get(sequence, 0)
        assert begin <= max(0, position - WINDOW), f"a token at {position} without the window before it, from {begin} on"
        return ToyContext.add(self, sequence, tokens, position, **more)

    def cut(self, sequence: int, begin: int) -> bool:
        return ToyContext.cut(self, sequence, begin) and self.windows.get(sequence, 0) <= max(0, begin - WINDOW)

    def shift(self, sequence: int, begin: int, end: int, used: int) -> bool:
        if sequence in self.windows:
            self.windows[sequence] = max(0, self.windows[sequence] - (end - begin))
        return ToyContext.shift(self, sequence, begin, end, used)

    def forget(self, sequence: int) -> None:
        self.windows.pop(sequence, None)
        ToyContext.forget(self, sequence)

    def save(self, sequence: int, *, is_partial: bool = False, room: Callable[[int], Bytes] = fresh) -> Any:
        assert not self.is_closed
        if not self.saves:
            raise EngineError(f"llama.cpp could not save sequence {sequence}")
        held = self.kv.get(sequence, [])
        self.log.append(("save", sequence, len(held)))
        parts, tail = [HEAD.pack(MAGIC, sequence)], b""
        where: dict[str, Any] = {"streams": self.streams, "stream": sequence, "is_transposed": self.is_transposed}
        if self.kind != "recurrent" and not (is_partial and self.kind in ("window", "hybrid")):
            parts.append(cache_bytes(held, 0, **where))
        if self.kind == "window":
            parts.append(cache_bytes(held, max(self.windows.get(sequence, 0), len(held) - WINDOW, 0), **where))
        if self.kind in ("recurrent", "hybrid"):
            tail = struct.pack(f"<I{len(held)}q", 1, *held)
        whole = b"".join([*parts, tail])
        data = room(len(whole))
        data[:] = np.frombuffer(whole, np.uint8)
        return Saved(self.streams, data, len(tail))

    def restore(self, sequence: int, state: Any) -> bool:
        assert not self.is_closed
        assert isinstance(state, Saved)
        self.forget(sequence)
        if state.streams != self.streams:
            fitting = refit(state.data.data, self.streams, state.tail_bytes)
            assert fitting is not None
            state = Saved(self.streams, np.frombuffer(fitting, np.uint8), state.tail_bytes)
        tail = state.data[len(state.data) - state.tail_bytes :].tobytes()[4:]
        held = [number for (number,) in struct.iter_unpack("<q", tail)]
        if self.kind != "recurrent":
            begin, tokens = cache_tokens(state, 0)
            assert begin == 0
            assert self.kind != "hybrid" or tokens == held
            held = tokens
        if not self.restores or len(held) > self.cells:
            return False
        if self.kind == "window":
            begin, tokens = cache_tokens(state, 1)
            assert tokens == held[begin:]
            self.windows[sequence] = begin
        self.log.append(("restore", sequence, len(held)))
        self.kv[sequence] = held
        return True


def tiers(kind: Kind = "plain", *, budget_bytes: int = 1 << 30, folder: Path | None = None, disk_bytes: int = 1 << 30) -> Tiers:
    """The tiers for such contexts; with a folder, one of them is there."""
    window = WINDOW if kind == "window" else 0
    identity = kind.encode()
    disk = Disk(Shelf(folder, identity, budget_bytes=disk_bytes), budget_bytes=disk_bytes) if folder else None
    can_drop = kind in ("plain", "window")
    return Tiers(budget_bytes=lambda: budget_bytes, can_drop=can_drop, window=window, identity=identity, disk=disk)
