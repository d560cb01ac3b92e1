"""When a worker tells the server anew what its model takes."""

from types import SimpleNamespace
from typing import Any

import pytest

from corral.engine.llamacpp.worker.allowance import Allowance
from corral.engine.llamacpp.worker.loaded import LoadedModel
from corral.wire.link import Loaded


class Cache:
    has_leftovers = False

    def __init__(self) -> None:
        self.size_bytes = 0
        self.waits = 0

    def fit(self) -> None:
        self.size_bytes = 0
        self.has_leftovers = False

    def wait(self, within_s: float) -> None:
        self.waits += 1


def loaded(cache: Cache) -> LoadedModel:
    context = SimpleNamespace(can_shift=True)
    slots = SimpleNamespace(context=context, chore=None, tidy=lambda: None)
    parts: dict[str, Any] = {
        "model": SimpleNamespace(n_ctx_train=100, size_bytes=1000),
        "generator": SimpleNamespace(slots=slots, tiers=cache),
        "embedder": SimpleNamespace(context=None),
        "calls": SimpleNamespace(),
        "log": SimpleNamespace(buffer_bytes=lambda: 2000),
    }
    taken = Allowance(0, taken_bytes=lambda: 0)
    return LoadedModel(**parts, media=None, n_ctx=100, n_parallel=1, vram_bytes=lambda: 0, allowance=taken)


@pytest.mark.parametrize(("moved_mib", "is_told"), [(0, False), (64, False), (65, True)])
def test_the_server_hears_of_the_cache_when_it_has_moved_far(moved_mib: int, is_told: bool) -> None:
    cache = Cache()
    model = loaded(cache)
    assert model.info().cache_bytes == 0
    cache.size_bytes = moved_mib << 20
    told = [frame.info.cache_bytes for frame in model.news() if isinstance(frame, Loaded)]
    assert told == ([moved_mib << 20] if is_told else [])
    assert model.news() == []


def test_a_limit_that_the_cache_gives_way_to_is_news() -> None:
    cache = Cache()
    cache.size_bytes = 1 << 30
    model = loaded(cache)
    assert model.info().cache_bytes == 1 << 30
    model.limit(1)
    assert [frame.info.cache_bytes for frame in model.news() if isinstance(frame, Loaded)] == [0]


def test_what_was_read_for_nobody_is_for_idle_time() -> None:
    cache = Cache()
    model = loaded(cache)
    assert not model.has_chores
    cache.has_leftovers = True
    assert model.has_chores
    model.tidy()
    assert (cache.waits, model.has_chores) == (1, False)
