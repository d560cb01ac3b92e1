import fcntl
import hashlib
import json
import os
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from corral.store import Store
from corral.wire.care import Leftover, ModelUse
from tests.support.gguf_files import write_scripted
from tests.support.stores import add_model

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


class Clock:
    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Store:
    return Store(tmp_path / "store", clock=clock)


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    return write_scripted(tmp_path / "a.gguf", "Hi!")


def names(items: list[Leftover]) -> list[str]:
    return [Path(item.path).name for item in items]


def blob_name(data: bytes) -> str:
    return f"sha256-{hashlib.sha256(data).hexdigest()}"


def put(store: Store, name: str, data: bytes = b"x" * 5000) -> Path:
    path = store.root / "blobs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def partial(store: Store) -> list[Path]:
    name = "sha256-" + "a" * 64
    return [put(store, f"{name}-partial"), put(store, f"{name}-partial-0", b"{}"), put(store, f"{name}-partial-12", b"{}")]


def test_empty_store_has_nothing_and_is_not_made(store: Store) -> None:
    use = store.usage()
    assert (use.models, use.leftovers, use.used_bytes, use.damaged) == ([], [], 0, [])
    assert store.prune().removed == []
    store.sweep()
    assert not store.root.exists()


def test_usage_says_what_each_model_takes_alone_and_shared(store: Store, gguf: Path) -> None:
    size = gguf.stat().st_size
    add_model(store, "a", gguf, system="of a")
    add_model(store, "b", gguf, system="for b", licenses=["MIT"])
    config = store.manifest(store.list()[0].name).manifest.config.size
    use = store.usage()
    assert use.models == [
        ModelUse(name="b:latest", alone_bytes=8, shared_bytes=size + config),
        ModelUse(name="a:latest", alone_bytes=4, shared_bytes=size + config),
    ]
    assert use.used_bytes == size + config + 12
    assert use.root == str(store.root)


def test_usage_counts_missing_layers_but_not_those_of_another_store(tmp_path: Path, gguf: Path) -> None:
    theirs = Store(tmp_path / "theirs")
    add_model(theirs, "m", gguf)
    ours = Store(tmp_path / "ours", [theirs.root])
    ours.write_manifest(theirs.list()[0].name, theirs.manifest(theirs.list()[0].name).manifest)
    assert ours.usage().models == [ModelUse(name="m:latest", alone_bytes=0, shared_bytes=0)]
    theirs.delete(theirs.list()[0].name)
    assert ours.usage().models[0].missing == 2


def test_usage_tells_leftovers_apart(store: Store, gguf: Path) -> None:
    add_model(store, "m", gguf)
    put(store, blob_name(b"nobody's"), b"nobody's")
    partial(store)
    put(store, ".tmp-abc")
    put(store, "notes.txt")
    (store.root / "blobs" / ("sha256-" + "b" * 64)).symlink_to(gguf)
    scratch = store.root / ".incoming" / "tmp1"
    scratch.mkdir(parents=True)
    (scratch / "model.gguf").write_bytes(b"12345")
    use = store.usage()
    assert {(Path(item.path).name[:12], item.kind) for item in use.leftovers} == {
        (blob_name(b"nobody's")[:12], "unused"),
        ("sha256-aaaaa", "partial"),
        (".tmp-abc", "temporary"),
        ("tmp1", "temporary"),
    }
    assert sum(item.kind == "partial" for item in use.leftovers) == 3
    assert [item.size_bytes for item in use.leftovers if item.path == ".incoming/tmp1"] == [5]


def test_prune_removes_what_nobody_needs_once_it_is_an_hour_old(store: Store, gguf: Path, clock: Clock) -> None:
    add_model(store, "m", gguf)
    orphan, dead = put(store, blob_name(b"nobody's"), b"nobody's"), put(store, ".tmp-abc")
    assert store.prune().removed == []
    clock.ahead_s = HOUR_S + 1
    told = store.prune(dry_run=True)
    assert sorted(names(told.removed)) == sorted([orphan.name, dead.name])
    assert orphan.exists()
    assert dead.exists()
    assert names(store.prune().removed) == names(told.removed)
    assert not orphan.exists()
    assert not dead.exists()
    assert store.list()[0].name.short == "m:latest"


def test_blob_that_is_about_to_be_used_stays(store: Store, clock: Clock) -> None:
    orphan = put(store, blob_name(b"nobody's"), b"nobody's")
    os.utime(orphan, (0, 0))
    before = orphan.stat().st_mtime_ns
    assert store.keep_blob(orphan.name)
    clock.ahead_s = HOUR_S - 10
    assert store.prune().removed == []
    assert orphan.stat().st_mtime_ns == before


def test_prune_keeps_downloads_unless_they_are_asked_for(store: Store, clock: Clock) -> None:
    parts = partial(store)
    clock.ahead_s = 400 * DAY_S
    told = store.prune()
    assert (told.removed, len(told.kept)) == ([], 3)
    assert all(path.exists() for path in parts)
    assert len(store.prune(partials=True).removed) == 3
    assert not any(path.exists() for path in parts)


def test_blobs_of_a_download_that_was_interrupted_are_kept_with_it(store: Store, clock: Clock) -> None:
    layer = put(store, blob_name(b"done"), b"done")
    partial(store)
    clock.ahead_s = 400 * DAY_S
    store.sweep()
    assert layer.exists()
    store.prune(partials=True)
    assert not layer.exists()


def test_download_under_way_is_not_removed(store: Store) -> None:
    file, *notes = partial(store)
    with file.open("r+b") as writing:
        fcntl.flock(writing, fcntl.LOCK_EX)
        assert store.prune(partials=True).removed == []
    assert all(path.exists() for path in (file, *notes))


def test_scratch_folder_goes_with_its_process(store: Store, clock: Clock) -> None:
    scratch = store.root / ".creating" / "tmp1"
    scratch.mkdir(parents=True)
    (scratch / "1.gguf").write_bytes(b"12345")
    clock.ahead_s = HOUR_S + 1
    held = os.open(scratch, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert store.prune().removed == []
    os.close(held)
    assert names(store.prune().removed) == ["tmp1"]
    assert not scratch.exists()


def test_file_of_a_slow_writer_is_not_removed(store: Store, clock: Clock) -> None:
    data = b"slow"
    with store.start_blob(f"sha256:{hashlib.sha256(data).hexdigest()}") as writer:
        writer.write(data)
        clock.ahead_s = 400 * DAY_S
        assert store.prune().removed == []
        writer.commit()
    assert store.has_blob(writer.digest)


def test_no_blob_is_removed_while_a_manifest_cannot_be_read(store: Store, gguf: Path, clock: Clock) -> None:
    add_model(store, "m", gguf)
    (store.root / "manifests/registry.ollama.ai/library/m/latest").write_bytes(b'{"half')
    dead = put(store, ".tmp-abc")
    clock.ahead_s = HOUR_S + 1
    told = store.prune()
    assert (names(told.removed), told.damaged) == ([dead.name], ["m:latest"])
    assert store.usage().damaged == ["m:latest"]
    assert len(told.kept) == 2


@pytest.mark.parametrize("noprune", [False, True])
def test_start_removes_orphans_unless_it_is_not_to(store: Store, gguf: Path, clock: Clock, noprune: bool) -> None:
    add_model(store, "m", gguf)
    orphan, dead = put(store, blob_name(b"nobody's"), b"nobody's"), put(store, ".tmp-abc")
    clock.ahead_s = HOUR_S + 1
    store.sweep(noprune=noprune)
    assert (orphan.exists(), dead.exists()) == (noprune, False)
    assert len(store.list()) == 1


def test_nothing_outside_is_followed_or_removed(store: Store, tmp_path: Path, clock: Clock) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    put(store, ".tmp-file")
    (store.root / "blobs" / ".tmp-link").symlink_to(outside / "precious")
    (store.root / ".incoming").symlink_to(outside)
    (store.root / "blobs" / ".tmp-dir").mkdir()
    clock.ahead_s = 400 * DAY_S
    assert names(store.prune(partials=True).removed) == [".tmp-file"]
    assert (outside / "precious").exists()


@pytest.mark.parametrize("what", ["usage", "prune", "sweep"])
def test_scratch_folder_that_goes_meanwhile_is_passed_over(store: Store, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """A pull or a create ends while the store is looked through."""
    scratch = store.root / ".incoming"
    (scratch / "tmp1").mkdir(parents=True)
    scandir = os.scandir

    def and_then_it_goes(folder: Path) -> AbstractContextManager[list[os.DirEntry[str]]]:
        with scandir(folder) as found:
            entries = list(found)
        if Path(folder) == scratch:
            (scratch / "tmp1").rmdir()
            scratch.rmdir()
        return nullcontext(entries)

    monkeypatch.setattr(os, "scandir", and_then_it_goes)
    getattr(store, what)()
    assert not scratch.exists()
    assert store.usage().leftovers == []


def test_half_written_manifest_is_removed_when_its_writer_is_gone(store: Store, gguf: Path, clock: Clock) -> None:
    add_model(store, "m", gguf)
    folder = store.root / "manifests/registry.ollama.ai/library/m"
    dead, slow, stray = folder / ".tmp-dead", folder / ".tmp-slow", store.root / "manifests" / ".tmp-link"
    dead.write_bytes(b"{")
    slow.write_bytes(b"{")
    stray.symlink_to(gguf)
    held = os.open(slow, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert store.prune().removed == []
    clock.ahead_s = HOUR_S + 1
    assert names(store.prune().removed) == [".tmp-dead"]
    os.close(held)
    store.sweep()
    assert sorted(path.name for path in folder.iterdir()) == ["latest"]
    assert stray.is_symlink()
    assert [model.name.short for model in store.list()] == ["m:latest"]


def test_download_counts_as_much_as_its_notes_say(store: Store) -> None:
    name = "sha256-" + "a" * 64
    put(store, f"{name}-partial", b"x" * 100_000)
    for number, done_bytes in enumerate((3000, 500)):
        put(store, f"{name}-partial-{number}", json.dumps({"N": number, "Completed": done_bytes}).encode())
    put(store, f"{name}-partial-2", b'{"Completed": -7}')
    put(store, "sha256-" + "b" * 64 + "-partial", b"x" * 7000)
    downloads = [item for item in store.usage().leftovers if item.path.endswith("-partial")]
    assert {Path(item.path).name[7]: item.size_bytes for item in downloads} == {"a": 3500, "b": 7000}
