"""What gives way to KV memory: no more than it takes, and nothing for growth that is refused anyway."""

from dataclasses import dataclass, field

import pytest

from corral.engine.llamacpp.worker.allowance import Allowance
from corral.engine.llamacpp.worker.room import KvRoom


@dataclass(slots=True)
class Cache:
    size_bytes: int = 1000
    fits: list[int | None] = field(default_factory=list)

    def fit(self, size_bytes: int | None = None) -> None:
        assert size_bytes is not None
        self.fits.append(size_bytes)
        self.size_bytes = size_bytes


def room(cache: Cache, *, ram: int = 2000, limit: int = 0, share_ram: bool = True) -> KvRoom:
    allowance = Allowance(limit, taken_bytes=lambda: 500 + cache.size_bytes)
    free = (lambda: ram - cache.size_bytes) if share_ram else (lambda: ram)
    return KvRoom(10.0, allowance, free, cache, share_ram)


@pytest.mark.parametrize(
    ("where", "cells", "could", "left"),
    [
        ({}, 100, True, 1000),
        ({}, 150, True, 500),
        ({}, 200, True, 0),
        ({}, 201, False, 1000),
        ({"limit": 1500}, 100, True, 0),
        ({"limit": 1500}, 101, False, 1000),
        ({"share_ram": False}, 200, True, 1000),
        ({"share_ram": False}, 201, False, 1000),
    ],
    ids=["free", "half", "all", "too-much", "limit", "over-the-limit", "on-a-gpu", "too-much-for-a-gpu"],
)
def test_the_cache_gives_way_as_far_as_that_helps(where: dict[str, int], cells: int, could: bool, left: int) -> None:
    cache = Cache()
    ours = room(cache, **where)  # type: ignore[arg-type]
    assert ours.could_have(0, cells) == could
    assert cache.fits == []
    assert ours.clear(0, cells) == could
    assert cache.size_bytes == left
