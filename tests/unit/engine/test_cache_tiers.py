"""What leaves KV memory and what comes back, over contexts that save real bytes."""

import multiprocessing
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from corral.engine.llamacpp.worker.batch.below import marks
from corral.engine.llamacpp.worker.cache.tiers import Tiers
from corral.engine.llamacpp.worker.media.spans import NO_SPANS
from tests.support.toy_states import WINDOW, Kind, StateToy, tiers

TEXT = [number % 250 for number in range(1, 400)]
KINDS: tuple[Kind, ...] = ("plain", "window", "recurrent", "hybrid")


def context_of(kind: Kind, tokens: Sequence[int]) -> StateToy:
    context = StateToy(2, 1024, kind=kind)
    context.kv[0] = list(tokens)
    return context


def keep(below: Tiers, kind: Kind, tokens: Sequence[int], *, number: tuple[float, ...] = ()) -> None:
    assert below.keep(context_of(kind, tokens), 0, tokens, NO_SPANS, number, how="leaving") or kind == "window"


def count(below: Tiers, tokens: Sequence[int], number: tuple[float, ...] = ()) -> int:
    """How many of these tokens come back; they are those that they should be."""
    while (found := below.find(tokens, NO_SPANS, number, beyond=0)).is_coming:
        below.wait(5.0)
    if found.count:
        kind: Kind = "plain"
        if found.parts[-1][1].tail:
            kind = "hybrid" if found.parts[0][1].form else "recurrent"
        elif len(found.parts[0][1].form) == 2:
            kind = "window"
        context = StateToy(3, 1024, kind=kind)
        assert below.restore(context, 2, found)
        assert context.kv[2] == list(tokens[: found.count])
        assert context.windows.get(2, 0) <= max(0, found.count - WINDOW)
    return found.count


@pytest.mark.parametrize("kind", ["plain", "window"])
@pytest.mark.parametrize("size", [33, 64, 100, 128, 399])
def test_any_beginning_comes_back_of_memory_that_can_drop(kind: Kind, size: int) -> None:
    below = tiers(kind)
    keep(below, kind, TEXT)
    assert count(below, [*TEXT[:size], 999]) == size


@pytest.mark.parametrize("kind", ["recurrent", "hybrid"])
def test_only_checkpoints_come_back_of_memory_that_cannot_drop(kind: Kind) -> None:
    below = tiers(kind)
    for size in (100, 256, 399):
        keep(below, kind, TEXT[:size])
    assert [count(below, TEXT[:size]) for size in (99, 100, 255, 300, 399)] == [0, 100, 100, 256, 399]


def test_a_window_that_runs_on_keeps_its_last_cells_only() -> None:
    below = tiers("window")
    context = context_of("window", TEXT)
    assert below.keep(context, 0, TEXT, NO_SPANS, (), how="here")
    assert context.kv[0] == TEXT
    assert [count(below, TEXT[:size]) for size in (398, 399)] == [0, 399]


def test_a_window_at_leisure_keeps_all_and_holds_what_it_held() -> None:
    below = tiers("window")
    context = context_of("window", TEXT)
    assert below.keep(context, 0, TEXT, NO_SPANS, (), how="at leisure")
    assert (context.kv[0], context.windows.get(0, 0)) == (TEXT, 0)
    assert count(below, TEXT[:200]) == 200


def test_a_window_at_leisure_holds_what_it_held_where_there_is_no_room_for_it() -> None:
    below = tiers("window", budget_bytes=1000)
    context = context_of("window", TEXT)
    assert below.keep(context, 0, TEXT, NO_SPANS, (), how="at leisure")
    assert context.kv[0] == TEXT


def test_a_conversation_that_goes_on_adds_only_what_is_new() -> None:
    below = tiers()
    keep(below, "plain", TEXT[:200])
    before = below.size_bytes
    keep(below, "plain", TEXT)
    assert below.size_bytes == pytest.approx(before * 399 / 200, rel=0.1)
    assert count(below, TEXT) == 399


def test_what_is_kept_already_is_not_saved_again() -> None:
    below, context = tiers(), context_of("plain", TEXT)
    for _ in range(3):
        below.keep(context, 0, TEXT, NO_SPANS, (), how="here")
    assert [entry[0] for entry in context.log] == ["save"]


def test_other_adapters_get_nothing_of_it() -> None:
    below = tiers()
    keep(below, "plain", TEXT, number=(1.0,))
    assert count(below, TEXT, (0.5,)) == 0
    assert count(below, TEXT, (1.0,)) == 399


@pytest.mark.parametrize("budget_bytes", [0, 5_000, 30_000])
def test_no_more_ram_is_taken_than_the_budget(budget_bytes: int) -> None:
    below = tiers(budget_bytes=budget_bytes)
    for first in range(20):
        keep(below, "plain", [first, *TEXT])
        assert below.size_bytes <= budget_bytes
    assert bool(count(below, [19, *TEXT])) == bool(budget_bytes)


def test_memory_that_is_wanted_elsewhere_is_given_back() -> None:
    below = tiers()
    keep(below, "plain", TEXT)
    below.fit(below.size_bytes // 2)
    assert 100 < count(below, TEXT) < 300
    below.fit(0)
    assert (below.size_bytes, count(below, TEXT)) == (0, 0)


def test_a_save_that_fails_keeps_nothing() -> None:
    below, context = tiers(), context_of("plain", TEXT)
    context.saves = False
    assert below.keep(context, 0, TEXT, NO_SPANS, (), how="leaving")
    assert count(below, TEXT) == 0


@pytest.mark.parametrize(
    ("size", "known", "reused", "expected"),
    [
        (1000, 0, 0, (999,)),
        (1000, 300, 0, (300, 999)),
        (1000, 300, 300, (999,)),
        (1000, 990, 0, (999,)),
        (1000, 20, 0, (999,)),
        (40, 0, 0, ()),
    ],
    ids=["new", "shares-a-beginning", "has-the-beginning", "nearly-the-same", "shares-little", "short"],
)
def test_checkpoints_are_where_a_prompt_leaves_what_is_known_and_at_its_end(
    size: int, known: int, reused: int, expected: tuple[int, ...]
) -> None:
    assert marks(size, known, reused, NO_SPANS) == expected


# On disk


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_kept_comes_back_after_a_restart(kind: Kind, tmp_path: Path) -> None:
    below = tiers(kind, folder=tmp_path)
    for size in (200, 399):
        keep(below, kind, TEXT[:size])
    below.close(10.0)
    again = tiers(kind, folder=tmp_path)
    assert count(again, TEXT) == 399
    assert count(tiers(kind, folder=tmp_path), [*TEXT[:395], 251]) == (395 if kind in ("plain", "window") else 200)


def test_little_ram_and_a_disk_bring_back_all(tmp_path: Path) -> None:
    below = tiers(folder=tmp_path, budget_bytes=40_000)
    for first in range(10):
        keep(below, "plain", [first, *TEXT])
    below.close(10.0)
    assert [count(below, [first, *TEXT]) for first in range(10)] == [400] * 10


def test_a_corrupt_block_ends_what_comes_back_and_is_asked_for_no_more(tmp_path: Path) -> None:
    below = tiers(folder=tmp_path)
    keep(below, "plain", TEXT)
    below.close(10.0)
    for path in tmp_path.rglob("*.kv"):
        path.write_bytes(path.read_bytes()[:-1])
    again = tiers(folder=tmp_path)
    assert [count(again, TEXT) for _ in range(3)] == [0, 0, 0]
    keep(again, "plain", TEXT)
    assert count(again, TEXT) == 399


def test_two_servers_share_one_folder(tmp_path: Path) -> None:
    one, two = tiers(folder=tmp_path), tiers(folder=tmp_path)
    assert count(two, TEXT) == 0
    keep(one, "plain", TEXT)
    keep(two, "plain", [7, *TEXT])
    for each in (one, two):
        each.close(10.0)
    assert (count(two, TEXT), count(one, [7, *TEXT])) == (399, 400)


def test_no_more_disk_is_taken_than_the_budget(tmp_path: Path) -> None:
    below = tiers(folder=tmp_path, disk_bytes=100_000)
    for first in range(30):
        keep(below, "plain", [first, *TEXT])
        below.close(10.0)
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.kv"))
    assert size <= 120_000  # what is written between two sweeps comes on top
    assert count(tiers(folder=tmp_path), [29, *TEXT]) > 300


def _write_for_ever(folder: Path, first: int) -> None:
    below = tiers(folder=folder)
    for number in range(first, 1_000_000, 2):
        keep(below, "plain", [number, *TEXT])


@pytest.mark.parametrize("wanted", [1, 30, 80])
def test_processes_that_are_killed_while_they_write_leave_nothing_that_is_not_a_block(tmp_path: Path, wanted: int) -> None:
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_write_for_ever, args=(tmp_path, first)) for first in (0, 1)]
    for writer in writers:
        writer.start()
    while len(list(tmp_path.rglob("*.kv"))) < wanted:
        assert all(writer.is_alive() for writer in writers)
    for writer in writers:
        assert writer.pid
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
    below = tiers(folder=tmp_path)
    assert any(count(below, [number, *TEXT]) for number in range(100))
    assert all(count(below, [number, *TEXT]) in (0, 64, 128, 192, 256, 320, 384, 400) for number in range(100))
