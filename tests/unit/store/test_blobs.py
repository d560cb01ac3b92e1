import errno
import hashlib
import os
import threading
from pathlib import Path

import pytest

from corral.core.errors import BadRequestError, StoreError
from corral.store import MODEL_LAYER, Store
from corral.store.blobs import BlobWriter
from corral.store.files import write_atomically
from corral.store.layout import Layout

DATA = b"some bytes" * 1000
DIGEST = "sha256:" + hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def files(store: Store) -> list[str]:
    return sorted(path.name for path in (store.root / "blobs").iterdir())


def test_writer_makes_a_blob_of_what_it_was_given(store: Store) -> None:
    with store.start_blob(DIGEST) as writer:
        writer.write(DATA[:5000])
        assert not store.has_blob(DIGEST)
        writer.write(memoryview(DATA)[5000:])
        assert writer.commit() == DIGEST
    path = store.blob_path(DIGEST)
    assert path
    assert path.read_bytes() == DATA
    assert files(store) == [DIGEST.replace(":", "-")]


@pytest.mark.parametrize("spelling", [DIGEST, DIGEST.replace(":", "-"), DIGEST.replace(DIGEST[7:], DIGEST[7:].upper())])
def test_digest_is_taken_in_every_spelling(store: Store, spelling: str) -> None:
    with store.start_blob(spelling) as writer:
        writer.write(DATA)
        writer.commit()
    assert store.has_blob(spelling)


@pytest.mark.parametrize(
    "digest", ["", "foo", "sha256:zz", "sha256:" + "0" * 63, "sha512:" + "0" * 64, "sha256:../" + "0" * 61]
)
def test_digest_that_is_none_is_refused(store: Store, digest: str) -> None:
    for ask in (store.has_blob, store.blob_path, store.start_blob):
        with pytest.raises(BadRequestError, match=r"^invalid digest format$"):
            ask(digest)


def test_writer_refuses_other_bytes_and_leaves_nothing(store: Store) -> None:
    other = "sha256:" + "0" * 64
    with store.start_blob(other) as writer:
        writer.write(b"x")
        got = "sha256:" + hashlib.sha256(b"x").hexdigest()
        with pytest.raises(BadRequestError, match=f'^digest mismatch, expected "{other}", got "{got}"$'):
            writer.commit()
    assert files(store) == []


def test_writer_that_is_given_up_leaves_nothing(store: Store) -> None:
    with store.start_blob(DIGEST) as writer:
        writer.write(DATA)
    assert files(store) == []
    with pytest.raises(StoreError, match="given up"):
        writer.write(b"late")


def test_writers_of_one_digest_do_not_meet(store: Store) -> None:
    with store.start_blob(DIGEST) as first, store.start_blob(DIGEST) as second:
        first.write(DATA[:10])
        second.write(DATA)
        second.commit()
        first.write(DATA[10:])
        first.commit()
    assert files(store) == [DIGEST.replace(":", "-")]


def test_many_threads_write_one_digest(store: Store) -> None:
    def write() -> None:
        with store.start_blob(DIGEST) as writer:
            for at in range(0, len(DATA), 100):
                writer.write(DATA[at : at + 100])
            writer.commit()

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert files(store) == [DIGEST.replace(":", "-")]


def test_full_disk_is_a_clear_error_and_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int, _data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with store.start_blob(DIGEST) as writer:
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(StoreError, match="No space left on device; remove models"):
            writer.write(DATA)
        monkeypatch.undo()
    assert files(store) == []


def test_folder_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with Store(tmp_path / "file" / "store").start_blob(DIGEST) as writer, pytest.raises(StoreError, match="cannot write"):
        writer.write(DATA)


def test_writer_that_is_closed_before_its_first_write_makes_no_file(store: Store) -> None:
    writer = store.start_blob(DIGEST)
    writer.close()
    for late in (lambda: writer.write(DATA), writer.commit):
        with pytest.raises(StoreError, match="given up"):
            late()
    assert not store.root.exists()


def test_blob_without_bytes_is_a_blob(store: Store) -> None:
    with store.start_blob() as writer:
        digest = writer.commit()
    assert store.has_blob(digest)


def test_folders_that_a_file_needs_are_made_durably(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = list[Path]()
    monkeypatch.setattr("corral.store.files.sync_folder", synced.append)
    write_atomically(tmp_path / "host" / "library" / "m" / "latest", b"{}")
    assert synced == [tmp_path, tmp_path / "host", tmp_path / "host" / "library", tmp_path / "host" / "library" / "m"]


def test_sweep_goes_on_after_a_file_that_it_cannot_remove(store: Store) -> None:
    blobs = store.root / "blobs"
    blobs.mkdir(parents=True)
    for name in ("a", "b"):
        (blobs / f".tmp-{name}").write_bytes(b"")
        os.utime(blobs / f".tmp-{name}", (0, 0))
    (blobs / ".tmp-0").mkdir()
    (blobs / ".tmp-z").mkdir()
    for name in ("0", "z"):
        os.utime(blobs / f".tmp-{name}", (0, 0))
    store.sweep()
    assert files(store) == [".tmp-0", ".tmp-z"]


def test_temporary_file_is_no_blob_and_is_swept_when_its_writer_is_gone(store: Store) -> None:
    writer = BlobWriter(Layout(store.root))
    writer.write(DATA)
    (temporary,) = (store.root / "blobs").iterdir()
    assert "sha256" not in temporary.name
    left = temporary.with_name(".tmp-left")
    left.write_bytes(DATA)
    store.sweep()
    assert {temporary.name, ".tmp-left"} == set(files(store))
    for path in (temporary, left):
        os.utime(path, (0, 0))
    store.sweep()
    assert files(store) == [temporary.name]
    writer.close()
    assert files(store) == []


def test_import_file_moves_it_into_the_store(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "download"
    source.write_bytes(DATA)
    layer = store.import_file(source, DIGEST)
    assert (layer.media_type, layer.digest, layer.size) == (MODEL_LAYER, DIGEST, len(DATA))
    assert store.has_blob(DIGEST)
    assert not source.exists()


def test_import_file_copies_between_disks(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "download"
    source.write_bytes(DATA)
    replace = Path.replace

    def other_disk(self: Path, target: Path) -> Path:
        if self == source:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", other_disk)
    store.import_file(source, DIGEST)
    path = store.blob_path(DIGEST)
    assert path
    assert path.read_bytes() == DATA
    assert not source.exists()
