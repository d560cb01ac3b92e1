import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from corral.registry import Disk, Limits
from corral.registry.partial import Chunk, Note, Partial, tiled

LIMITS = Limits(chunk_bytes=10, look_again_s=0.0)
NAME = "sha256-" + "ab" * 32 + "-partial"


def note(number: int, offset: int, size: int, completed: int) -> Note:
    return Note(number=number, offset=offset, size=size, completed=completed)


@pytest.mark.parametrize(
    ("notes", "chunks"),
    [
        pytest.param([], [(0, 10, 0), (10, 20, 10), (20, 25, 20)], id="none"),
        pytest.param([note(0, 0, 25, 7)], [(0, 25, 7)], id="all"),
        pytest.param([note(0, 0, 20, 20), note(1, 20, 5, 0)], [(0, 20, 20), (20, 25, 20)], id="tiled"),
        pytest.param([note(1, 20, 5, 5), note(0, 0, 5, 1)], [(0, 5, 1), (5, 15, 5), (15, 20, 15), (20, 25, 25)], id="gap"),
        pytest.param([note(0, 0, 20, 9), note(1, 10, 15, 9)], [(0, 20, 9), (20, 25, 20)], id="overlap"),
        pytest.param([note(0, 0, 26, 9)], [(0, 10, 0), (10, 20, 10), (20, 25, 20)], id="too-long"),
        pytest.param([note(0, 0, 25, 26)], [(0, 10, 0), (10, 20, 10), (20, 25, 20)], id="too-much"),
        pytest.param([note(0, -1, 5, 2)], [(0, 10, 0), (10, 20, 10), (20, 25, 20)], id="negative"),
    ],
)
def test_tiled_covers_the_blob_whatever_is_claimed(notes: list[Note], chunks: list[tuple[int, int, int]]) -> None:
    assert tiled(notes, 25, 10) == [Chunk(*chunk) for chunk in chunks]


class RecordingDisk(Disk):
    """Knows which bytes would survive a power cut."""

    def __init__(self) -> None:
        super().__init__(write_at=self._write_at, sync=self._sync)
        self.written: set[int] = set()
        self.safe: set[int] = set()

    def _write_at(self, fd: int, data: bytes, offset: int) -> None:
        os.pwrite(fd, data, offset)
        self.written |= set(range(offset, offset + len(data)))

    def _sync(self, fd: int) -> None:
        os.fdatasync(fd)
        self.safe |= self.written


@pytest.fixture
async def disk() -> AsyncIterator[RecordingDisk]:
    it = RecordingDisk()
    yield it
    it.close()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("sha256-*")}


def claimed(path: Path) -> set[int]:
    found: set[int] = set()
    for side in path.parent.glob(f"{path.name}-*"):
        part = json.loads(side.read_text())
        found |= set(range(part["Offset"], part["Offset"] + part["Completed"]))
    return found


async def test_nothing_is_claimed_that_is_not_on_disk(tmp_path: Path, disk: RecordingDisk) -> None:
    path = tmp_path / NAME
    async with Partial.open(path, 25, disk=disk, limits=LIMITS, on_waiting=lambda _: None) as partial:
        first, second, _ = partial.chunks
        await partial.write(second, b"abc")
        assert claimed(path) == set()
        await partial.checkpoint()
        assert claimed(path) == {10, 11, 12} == disk.safe
        await partial.write(first, b"0123456789")
        assert claimed(path) == {10, 11, 12}
        await partial.write(second, b"d")
    assert claimed(path) == {*range(10), 10, 11, 12, 13} == disk.safe
    assert path.read_bytes()[:14] == b"0123456789abcd"


async def test_opening_again_gives_what_was_left(tmp_path: Path, disk: RecordingDisk) -> None:
    path = tmp_path / NAME
    async with Partial.open(path, 25, disk=disk, limits=LIMITS, on_waiting=lambda _: None) as partial:
        await partial.write(partial.chunks[1], b"abc")
    async with Partial.open(path, 25, disk=disk, limits=LIMITS, on_waiting=lambda _: None) as partial:
        assert partial.chunks == [Chunk(0, 10, 0), Chunk(10, 20, 13), Chunk(20, 25, 20)]
        assert partial.completed_bytes == 3
        await partial.restart()
        await partial.checkpoint()
        assert claimed(path) == set()
        assert path.read_bytes() == bytes(25)
    assert names(tmp_path) == set()


async def test_a_file_that_got_nothing_is_not_left(tmp_path: Path, disk: RecordingDisk) -> None:
    async with Partial.open(tmp_path / NAME, 25, disk=disk, limits=LIMITS, on_waiting=lambda _: None):
        assert names(tmp_path) == {NAME}
    assert names(tmp_path) == set()


async def test_a_late_checkpoint_does_not_claim_for_what_was_begun_anew(tmp_path: Path, disk: RecordingDisk) -> None:
    path = tmp_path / NAME
    async with Partial.open(path, 25, disk=disk, limits=LIMITS, on_waiting=lambda _: None) as partial:
        await partial.write(partial.chunks[0], b"old")
        late = partial.checkpoint()  # its marks are taken when it runs; a stale life is refused
        await partial.restart()
        await late
        assert claimed(path) == set()


async def test_one_piece_keeps_what_is_there_without_a_gap(tmp_path: Path, disk: RecordingDisk) -> None:
    path = tmp_path / NAME
    async with Partial.open(path, 25, disk=disk, limits=LIMITS, on_waiting=lambda _: None) as partial:
        await partial.write(partial.chunks[0], b"0123456789")
        await partial.write(partial.chunks[1], b"abc")
        await partial.write(partial.chunks[2], b"x")
        await partial.checkpoint()
        partial.in_one_piece()
        assert partial.chunks == [Chunk(0, 25, 13)]
    assert claimed(path) == set(range(13))
    assert names(tmp_path) == {NAME, f"{NAME}-0"}


async def test_the_second_waits_for_the_first(tmp_path: Path, disk: RecordingDisk) -> None:
    path, heard = tmp_path / NAME, asyncio.Queue[int]()
    is_open = asyncio.Event()

    async def second() -> int:
        async with Partial.open(path, 25, disk=disk, limits=LIMITS, on_waiting=heard.put_nowait) as partial:
            is_open.set()
            return partial.completed_bytes

    async with (
        asyncio.TaskGroup() as tasks,
        Partial.open(path, 25, disk=disk, limits=LIMITS, on_waiting=lambda _: None) as partial,
    ):
        await partial.write(partial.chunks[0], b"abcd")
        await partial.checkpoint()
        waiting = tasks.create_task(second())
        while await heard.get() != 4:
            pass
        assert not is_open.is_set()
        await partial.write(partial.chunks[0], b"e")
    assert waiting.result() == 5


async def test_a_link_is_not_followed(tmp_path: Path, disk: RecordingDisk) -> None:
    (tmp_path / "elsewhere").write_bytes(b"precious")
    (tmp_path / NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Exception, match="cannot write"):
        async with Partial.open(tmp_path / NAME, 25, disk=disk, limits=LIMITS, on_waiting=lambda _: None):
            pass
    assert (tmp_path / "elsewhere").read_bytes() == b"precious"
