import errno
import fcntl
import os
from pathlib import Path

import pytest

from corral.registry import Disk, Limits, Partial
from corral.store import Store, try_lock, wait_for_lock
from corral.store.lock import StoreLock

HOUR_S = 3600.0
HEX = "a" * 64


def opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT)


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL], ids=errno.errorcode.get)
def _no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks."""

    def refuse(fd: int, operation: int) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_lock_is_had_by_one_until_the_file_is_closed(tmp_path: Path) -> None:
    mine, other = opened(tmp_path / "a"), opened(tmp_path / "a")
    assert (try_lock(mine), try_lock(other)) == ("us", "others")
    os.close(mine)
    wait_for_lock(other)
    os.close(other)


def test_other_errors_are_errors(tmp_path: Path) -> None:
    fd = opened(tmp_path / "a")
    os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        try_lock(fd)


@pytest.mark.usefixtures("_no_locks")
def test_store_is_written_without_locks(tmp_path: Path) -> None:
    with StoreLock(tmp_path / "store").held():
        pass
    assert Store(tmp_path / "store").put_blob(b"x", "text")[1]


@pytest.mark.usefixtures("_no_locks")
async def test_scratch_folder_is_had_without_locks_and_another_one_is_kept(tmp_path: Path) -> None:
    disk = Disk()
    (tmp_path / ".creating" / "of-another-server").mkdir(parents=True)
    async with disk.scratch(tmp_path / ".creating") as scratch:
        (scratch / "1.gguf").write_bytes(b"x")
    assert [path.name for path in (tmp_path / ".creating").iterdir()] == ["of-another-server"]
    disk.close()


@pytest.mark.usefixtures("_no_locks")
async def test_blob_is_fetched_without_locks(tmp_path: Path) -> None:
    disk = Disk()
    path = tmp_path / f"sha256-{HEX}-partial"
    async with Partial.open(path, 4, disk=disk, limits=Limits(), on_waiting=lambda _: pytest.fail("it waits")) as partial:
        await partial.write(partial.chunks[0], b"abcd")
    assert path.read_bytes() == b"abcd"
    disk.close()


@pytest.mark.usefixtures("_no_locks")
def test_without_locks_only_the_age_of_a_file_says_that_its_writer_is_gone(tmp_path: Path) -> None:
    store = Store(tmp_path, clock=lambda: 1e11)
    (tmp_path / ".creating" / "tmp1").mkdir(parents=True)
    (tmp_path / "blobs").mkdir()
    for name in (".tmp-1", f"sha256-{HEX}-partial"):
        (tmp_path / "blobs" / name).write_bytes(b"x")
    pruned = store.prune(partials=True)
    assert [item.path for item in pruned.removed] == ["blobs/.tmp-1"]
    assert [item.path for item in pruned.kept] == [f"blobs/sha256-{HEX}-partial", ".creating/tmp1"]
