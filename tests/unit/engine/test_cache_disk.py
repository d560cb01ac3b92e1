"""The disk tier where the disk is full, or hangs, and what is read for jobs that are gone."""

import threading
from pathlib import Path

import numpy as np
import pytest

from corral.engine.llamacpp.worker.cache.disk import Disk
from corral.engine.llamacpp.worker.cache.payloads import BandForm, CacheForm, Payload
from corral.engine.llamacpp.worker.cache.shelf import Name, Shelf
from corral.engine.llamacpp.worker.cache.tiers import Tiers
from corral.engine.llamacpp.worker.cache.tree import SIZE, Block, BlockTree
from corral.engine.llamacpp.worker.media.spans import NO_SPANS
from tests.support.clock import FakeClock
from tests.support.toy_states import StateToy, tiers

FORM = (CacheForm(12, False, 1, (BandForm(2, 8, 8, b"header_of_12"),)),)
TEXT = [number % 250 for number in range(1, 400)]


class SickShelf(Shelf):
    """Fails while it is full; waits before it does anything until it is `well`."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, b"model", budget_bytes=1 << 30)
        self.is_full = False
        self.well = threading.Event()
        self.used = 0

    def write(self, name: Name, tokens: tuple[int, ...], payload: Payload) -> int:
        self.well.wait()
        if self.is_full:
            raise OSError("no space left on device")
        return super().write(name, tokens, payload)

    def use(self, names: list[Name]) -> None:
        self.well.wait()
        self.used += len(names)


def blocks(count: int) -> list[Block]:
    tree = BlockTree(b"model")
    path = tree.extend(range(count * SIZE), ())
    for block in path:
        tree.put(block, Payload(FORM, SIZE, (0,), np.ones(28 * SIZE, np.uint8)))
    return path


def test_what_a_full_disk_did_not_take_is_not_stored_and_is_written_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shelf, clock, path = SickShelf(tmp_path / "kv"), FakeClock(), blocks(5)
    disk = Disk(shelf, budget_bytes=1 << 30, now_s=lambda: clock.now_ns / 1e9)
    shelf.is_full = True
    for block in path:
        disk.save(block)
    disk.use(path)
    assert all(block.is_stored for block in path)
    shelf.well.set()
    assert disk.flush(10.0)
    assert not any(block.is_stored for block in path)
    assert shelf.used == len(path)  # notes are none of the full disk's matter
    assert "tried again" in caplog.text
    shelf.is_full = False
    disk.save(path[0])
    assert not path[0].is_stored
    clock.advance(61)
    for block in path:
        disk.save(block)
    assert disk.flush(10.0)
    assert all(
        block.is_stored and shelf.has(Name(block.parent.key, block.key, SIZE, has_tail=False)) for block in path if block.parent
    )


def test_a_disk_that_hangs_is_told_no_more_than_it_may_remember(tmp_path: Path) -> None:
    shelf, path = SickShelf(tmp_path / "kv"), blocks(5)
    disk = Disk(shelf, budget_bytes=1 << 30)
    for _ in range(10_000):
        disk.use(path)
    shelf.well.set()
    assert disk.flush(10.0)
    assert shelf.used <= 21_000


def test_a_folder_that_others_may_write_to_is_given_up_for_good(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "kv").mkdir()
    (tmp_path / "kv").chmod(0o777)
    shelf, clock, path = SickShelf(tmp_path / "kv"), FakeClock(), blocks(1)
    shelf.well.set()
    disk = Disk(shelf, budget_bytes=1 << 30, now_s=lambda: clock.now_ns / 1e9)
    for _ in range(3):
        disk.save(path[0])
        assert disk.flush(10.0)
        assert not path[0].is_stored
        clock.advance(3600)
    assert len(caplog.records) == 1


def kept(folder: Path) -> None:
    below, context = tiers(folder=folder), StateToy(2, 1024)
    context.kv[0] = list(TEXT)
    assert below.keep(context, 0, TEXT, NO_SPANS, (), how="leaving")
    below.close(10.0)


def found(below: Tiers) -> int:
    while (there := below.find(TEXT, NO_SPANS, (), beyond=0)).is_coming:
        below.wait(5.0)
    if there.count:
        context = StateToy(2, 1024)
        assert below.restore(context, 1, there)
        assert context.kv[1] == TEXT[: there.count]
    return there.count


@pytest.mark.parametrize(
    ("budget_bytes", "expected"), [(0, 0), (5_000, 64), (15_000, 128), (1 << 30, 399)], ids=["none", "one", "some", "all"]
)
def test_no_more_is_read_from_disk_than_the_budget(tmp_path: Path, budget_bytes: int, expected: int) -> None:
    kept(tmp_path)
    below = tiers(folder=tmp_path, budget_bytes=budget_bytes)
    count = found(below)
    assert below.size_bytes <= budget_bytes
    assert (count > 0) == (expected > 0)
    assert count >= expected


def test_what_was_read_for_a_job_that_is_gone_is_taken_in_idle_time(tmp_path: Path) -> None:
    kept(tmp_path)
    below = tiers(folder=tmp_path)
    assert not below.has_leftovers
    assert below.find(TEXT, NO_SPANS, (), beyond=0).is_coming
    assert below.has_leftovers
    while below.is_reading:
        below.wait(5.0)
    below.fit()
    assert not below.has_leftovers
    assert below.size_bytes > 0


def test_kinds_that_nothing_is_kept_of_are_forgotten() -> None:
    tree = BlockTree(b"model")
    for number in range(100):
        tree.walk(TEXT, (number,))
        path = tree.extend(TEXT, (number,))
        tree.put(path[0], Payload(FORM, SIZE, (0,), np.ones(28 * SIZE, np.uint8)))
        tree.prune(path[-1])
        assert tree.walk(TEXT, (number,)).known == SIZE
    assert len(tree._roots) == 100
    tree.shrink(0)
    assert not tree._roots


def test_what_was_read_and_is_too_large_to_stay_still_comes_back(tmp_path: Path) -> None:
    below, context = tiers("hybrid", folder=tmp_path), StateToy(2, 1024, kind="hybrid")
    for size in (100, 399):
        context.kv[0] = TEXT[:size]
        assert below.keep(context, 0, TEXT[:size], NO_SPANS, (), how="here")
    below.close(10.0)
    again = tiers("hybrid", folder=tmp_path, budget_bytes=6_000)
    looks, there = 0, again.find(TEXT[:200], NO_SPANS, (), beyond=0)
    while there.is_coming:
        again.wait(5.0)
        there = again.find(TEXT[:200], NO_SPANS, (), beyond=0)
        looks += 1
        assert looks < 10
    assert again.size_bytes <= 6_000
