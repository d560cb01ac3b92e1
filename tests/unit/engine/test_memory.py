from collections.abc import Callable

import pytest

from corral.core.errors import CorralError, ModelLoadError
from corral.engine.llamacpp.worker.batch.memory import KvMemory, MemoryLostError
from tests.support.clock import FakeClock
from tests.support.toy_engine import ToyContext


def maker(made: list[ToyContext], tries: list[int], *, most: int) -> Callable[[int, int], ToyContext]:
    def make(sequences: int, cells: int) -> ToyContext:
        tries.append(sequences * cells)
        if sequences * cells > most:
            raise ModelLoadError("no memory")
        made.append(ToyContext(sequences, cells))
        return made[-1]

    return make


@pytest.fixture
def made() -> list[ToyContext]:
    return []


def test_memory_begins_no_larger_than_it_may_become(made: list[ToyContext]) -> None:
    memory = KvMemory(maker(made, [], most=10_000), sequences=2, cells=1024, most_sequences=1, most_cells=512)
    assert (memory.context.sequences, memory.context.cells) == (1, 512)


def test_memory_that_is_large_enough_stays(made: list[ToyContext]) -> None:
    memory = KvMemory(maker(made, [], most=10_000), sequences=2, cells=512, most_sequences=8, most_cells=4096)
    assert memory.grow([], sequences=2, cells=512) == set()
    assert len(made) == 1


def test_growth_token_by_token_carries_sequences_over_a_few_times_only(made: list[ToyContext]) -> None:
    memory = KvMemory(maker(made, [], most=10_000), sequences=1, cells=256, most_sequences=1, most_cells=4096)
    made[0].kv[0] = [1, 2, 3]
    assert not any(memory.grow([0], cells=cells) for cells in range(256, 4097))
    assert memory.context.cells == 4096
    assert made[-1].kv == {0: [1, 2, 3]}
    assert len(made) <= 9


def test_growth_without_memory_keeps_what_is_there_and_is_tried_again_later(made: list[ToyContext]) -> None:
    clock, tries = FakeClock(), list[int]()
    memory = KvMemory(
        maker(made, tries, most=1024),
        sequences=2,
        cells=256,
        most_sequences=8,
        most_cells=4096,
        now_s=lambda: clock.now_ns / 1e9,
    )
    made[0].kv[1] = [1, 2, 3]
    assert memory.grow([1], sequences=8) == set()
    assert (memory.context.sequences, made[-1].kv) == (2, {1: [1, 2, 3]})
    count = len(tries)
    memory.grow([1], sequences=8)
    assert len(tries) == count
    clock.advance(3600)
    memory.grow([1], sequences=8)
    assert len(tries) == count + 2
    memory.grow([1], sequences=4)  # less than what there was no memory for
    assert (memory.context.sequences, made[-1].kv) == (4, {1: [1, 2, 3]})


def test_memory_that_cannot_be_had_again_is_the_end_of_the_worker(made: list[ToyContext]) -> None:
    make = maker(made, [], most=512)
    memory = KvMemory(
        lambda sequences, cells: make(sequences, cells) if not made else make(10_000, 10_000),
        sequences=2,
        cells=256,
        most_sequences=8,
        most_cells=256,
    )
    with pytest.raises(MemoryLostError, match="2 sequences of 256 tokens") as caught:
        memory.grow([], sequences=8)
    assert not isinstance(caught.value, CorralError)  # nobody may take it for the failure of one job


@pytest.mark.parametrize("broken", ["saves", "restores"])
def test_growth_tells_what_it_lost(made: list[ToyContext], broken: str) -> None:
    def make(sequences: int, cells: int) -> ToyContext:
        made.append(ToyContext(sequences, cells, saves=broken != "saves", restores=broken != "restores"))
        return made[-1]

    memory = KvMemory(make, sequences=1, cells=256, most_sequences=4, most_cells=256)
    made[0].kv[0] = [1, 2, 3]
    assert memory.grow([0], sequences=4) == {0}
    assert made[-1].kv == {}


def test_growth_that_is_not_allowed_touches_nothing_and_is_allowed_soon_after_there_is_memory(made: list[ToyContext]) -> None:
    clock, most, asked = FakeClock(), [512], list[int]()

    def allows(now: int, then: int) -> bool:
        asked.append(then)
        return then - now <= most[0] - 512

    memory = KvMemory(
        maker(made, [], most=100_000),
        sequences=2,
        cells=256,
        most_sequences=8,
        most_cells=4096,
        allows=allows,
        now_s=lambda: clock.now_ns / 1e9,
    )
    made[0].kv[1] = [1, 2, 3]
    assert memory.grow([1], sequences=8) == set()
    assert (len(made), made[0].is_closed, made[0].log) == (1, False, [])
    count = len(asked)
    for _ in range(100):  # every step, while somebody waits
        memory.grow([1], sequences=8)
    assert len(asked) == count
    most[0] = 2048
    clock.advance(1.5)
    assert memory.grow([1], sequences=8) == set()
    assert (memory.context.sequences, made[-1].kv) == (8, {1: [1, 2, 3]})


def test_memory_grows_by_what_is_wanted_where_more_is_not_allowed(made: list[ToyContext]) -> None:
    memory = KvMemory(
        maker(made, [], most=100_000),
        sequences=4,
        cells=1024,
        most_sequences=8,
        most_cells=4096,
        allows=lambda _now, then: then <= 5 * 1024,
    )
    memory.grow([], sequences=5)
    assert (memory.context.sequences, memory.context.cells) == (5, 1024)


def test_what_is_saved_for_growth_counts_too(made: list[ToyContext]) -> None:
    memory = KvMemory(
        maker(made, [], most=100_000),
        sequences=2,
        cells=256,
        most_sequences=8,
        most_cells=256,
        allows=lambda _now, _then: not made[0].log,
    )
    made[0].kv[0] = [1, 2, 3]
    assert memory.grow([0], sequences=4) == set()
    assert (memory.context, made[0].is_closed, made[0].kv) == (made[0], False, {0: [1, 2, 3]})
    assert len(made) == 1


def test_others_give_way_once_the_size_is_decided_only(made: list[ToyContext]) -> None:
    cleared: list[tuple[int, int]] = []

    def clears(now: int, then: int) -> bool:
        cleared.append((now, then))
        return True

    memory = KvMemory(
        maker(made, [], most=100_000),
        sequences=4,
        cells=1024,
        most_sequences=8,
        most_cells=4096,
        allows=lambda _now, then: then <= 5 * 1024,
        clears=clears,
    )
    memory.grow([], sequences=6)
    assert cleared == []
    memory.grow([], sequences=5)
    assert cleared == [(4 * 1024, 5 * 1024)]


def test_cells_that_a_job_must_have_are_asked_for_every_time(made: list[ToyContext]) -> None:
    is_lifted = [False]
    memory = KvMemory(
        maker(made, [], most=100_000),
        sequences=2,
        cells=256,
        most_sequences=2,
        most_cells=4096,
        allows=lambda _now, _then: is_lifted[0],
        now_s=lambda: 1.0,
    )
    memory.grow([], cells=2000)
    is_lifted[0] = True
    memory.grow([], cells=2000)
    assert memory.context.cells == 2048
