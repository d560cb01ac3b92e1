"""Blocks as files: what is written is read, and nothing else is."""

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from corral.engine.llamacpp.worker.cache.payloads import BandForm, CacheForm, Payload
from corral.engine.llamacpp.worker.cache.private import UntrustedError
from corral.engine.llamacpp.worker.cache.shelf import Name, Shelf
from corral.engine.llamacpp.worker.cache.tree import key_of

FORM = (CacheForm(12, False, 1, (BandForm(2, 8, 8, b"header_of_12"),)),)
ROOT = b"r" * 16
TOKENS = (5, 6, -1 - 2**100)


def payload(fill: int = 1, *, tail: bytes = b"") -> Payload:
    return Payload(FORM, len(TOKENS), (0,), np.full(28 * len(TOKENS), fill, np.uint8), tail)


def name(tokens: tuple[int, ...] = TOKENS, *, has_tail: bool = False) -> Name:
    return Name(ROOT, key_of(ROOT, tokens), len(tokens), has_tail)


def shelf(folder: Path, *, budget_bytes: int = 1 << 20, identity: bytes = b"model") -> Shelf:
    return Shelf(folder / "kv", identity, budget_bytes=budget_bytes)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def write(folder: Path) -> tuple[Shelf, Path]:
    there = shelf(folder)
    there.write(name(), TOKENS, payload())
    (path,) = files(folder)
    return there, path


@pytest.mark.parametrize("tail", [b"", b"a state"], ids=["cells", "with-a-state"])
def test_a_block_is_read_as_it_was_written(tmp_path: Path, tail: bytes) -> None:
    ours, own = shelf(tmp_path), name(has_tail=bool(tail))
    size = ours.write(own, TOKENS, payload(7, tail=tail))
    found = shelf(tmp_path).read(own)
    assert found
    assert (found.parent, found.key, found.tokens) == (ROOT, own.key, TOKENS)
    assert (found.payload.form, found.payload.skipped, found.payload.tail) == (FORM, (0,), tail)
    assert found.payload.data.tobytes() == bytes([7]) * 28 * len(TOKENS)
    assert [path.stat().st_size for path in files(tmp_path)] == [size]


def test_files_and_folders_are_their_owners_alone(tmp_path: Path) -> None:
    _, path = write(tmp_path)
    modes = {stat.S_IMODE(each.stat().st_mode) for each in (path, *list(path.parents)[:3])}
    assert modes == {0o600, 0o700}


def test_another_model_finds_nothing(tmp_path: Path) -> None:
    write(tmp_path)
    other = shelf(tmp_path, identity=b"other")
    assert not other.has(name())
    assert other.read(name()) is None


@pytest.mark.parametrize("at", [0, 9, 14, 20, 40, -30, -1])
def test_a_file_with_another_byte_anywhere_is_no_block_and_is_deleted(tmp_path: Path, at: int) -> None:
    there, path = write(tmp_path)
    data = bytearray(path.read_bytes())
    data[at] ^= 0x41
    path.write_bytes(data)
    assert there.read(name()) is None
    assert not path.exists()
    assert there.read(name()) is None


@pytest.mark.parametrize("kept", [0, 1, 23, 24, 60, -1])
def test_a_file_that_is_cut_is_no_block_and_is_deleted(tmp_path: Path, kept: int) -> None:
    there, path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:kept])
    assert there.read(name()) is None
    assert not path.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"GGUF" * 100, b"corralKV" + bytes(8) + b"\xff" * 8, os.urandom(1000)],
    ids=["empty", "other-format", "absurd-sizes", "noise"],
)
def test_a_foreign_file_with_a_blocks_name_is_deleted(tmp_path: Path, content: bytes) -> None:
    there, path = write(tmp_path)
    path.write_bytes(content)
    assert there.tokens(name()) is None
    assert there.read(name()) is None
    assert not path.exists()


def test_a_block_under_the_name_of_another_is_none(tmp_path: Path) -> None:
    there, path = write(tmp_path)
    other = name((5, 6, 8))
    path.rename(path.with_name(other.text))
    assert there.read(other) is None
    assert not files(tmp_path)


def test_names_of_other_files_are_no_blocks() -> None:
    assert Name.read(name().text) == name()
    for text in ("", "notes.txt", "a-b-c.kv", f"{name().text}.part", "00-11.kv", "00-11-1-2.kv"):
        assert Name.read(text) is None


def test_what_comes_after_a_block_is_found(tmp_path: Path) -> None:
    there, _ = write(tmp_path)
    (tmp_path / "kv" / "notes.txt").write_text("mine")
    assert there.after(ROOT) == [name()]
    assert there.after(b"x" * 16) == []
    assert there.tokens(name()) == TOKENS


def test_writing_the_same_again_writes_nothing(tmp_path: Path) -> None:
    there, path = write(tmp_path)
    before = path.stat().st_ino
    assert there.write(name(), TOKENS, payload()) == 0
    assert path.stat().st_ino == before


def test_a_sweep_deletes_what_was_used_longest_ago_of_any_model(tmp_path: Path) -> None:
    names = [name((1, 2, number)) for number in range(20)]
    size = 0
    for number, each in enumerate(names):
        there = shelf(tmp_path, identity=b"ab"[number % 2 : number % 2 + 1])
        size = there.write(each, (1, 2, number), payload())
        path = next(path for path in files(tmp_path) if path.name == each.text)
        os.utime(path, (1000 + number, 1000 + number))
    shelf(tmp_path, identity=b"a").use([names[0]])
    left = shelf(tmp_path, budget_bytes=10 * size).sweep()
    assert left <= 9 * size
    assert {path.name for path in files(tmp_path)} == {each.text for each in (names[0], *names[-8:])}


def test_a_sweep_leaves_what_is_not_a_block_and_what_is_being_written(tmp_path: Path) -> None:
    _, path = write(tmp_path)
    mine, fresh, stale = tmp_path / "kv" / "mine.txt", path.with_name("a.kv.1.part"), path.with_name("b.kv.2.part")
    for each in (mine, fresh, stale):
        each.write_bytes(b"x" * 1000)
    os.utime(stale, (1000, 1000))
    shelf(tmp_path, budget_bytes=0).sweep()
    assert {each.name for each in files(tmp_path)} == {"mine.txt", "a.kv.1.part"}


def test_a_folder_that_cannot_be_written_is_an_os_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "kv").write_text("a file")
    with pytest.raises(OSError, match="is no folder"):
        shelf(tmp_path).write(name(), TOKENS, payload())
    assert shelf(tmp_path).read(name()) is None
    assert shelf(tmp_path).sweep() == 0


# Where others may write


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_may_write_to_is_not_used(tmp_path: Path, mode: int) -> None:
    (tmp_path / "kv").mkdir()
    (tmp_path / "kv").chmod(mode)
    with pytest.raises(UntrustedError, match="others may write"):
        shelf(tmp_path).check()
    with pytest.raises(UntrustedError, match="others may write"):
        shelf(tmp_path).write(name(), TOKENS, payload())
    assert not files(tmp_path)


@pytest.mark.parametrize("at", ["kv", "kv/6d6f64656c"], ids=["root", "model"])
def test_a_link_in_a_folders_place_is_not_followed(tmp_path: Path, at: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / at).parent.mkdir(mode=0o700, exist_ok=True)
    (tmp_path / at).symlink_to(elsewhere)
    with pytest.raises(UntrustedError, match="is no folder"):
        shelf(tmp_path).check()
    with pytest.raises(UntrustedError, match="is no folder"):
        shelf(tmp_path).write(name(), TOKENS, payload())
    assert not files(tmp_path)
    (elsewhere / name().text).write_bytes(b"mine")
    shelf(tmp_path, budget_bytes=0).sweep()
    assert files(tmp_path) == [elsewhere / name().text]


def test_a_folder_of_another_user_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, _ = write(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert not there.has(name())
    assert there.tokens(name()) is None
    with pytest.raises(UntrustedError, match="belongs to user"):
        there.check()
    assert there.read(name()) is None


def test_a_folder_that_is_not_there_yet_is_fine(tmp_path: Path) -> None:
    shelf(tmp_path / "new").check()


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_has_a_blocks_place_is_neither_followed_nor_waited_for(tmp_path: Path, kind: str) -> None:
    there, path = write(tmp_path)
    target = tmp_path / "target"
    path.rename(target)
    before = target.read_bytes()
    if kind == "link":
        path.symlink_to(target)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert not there.has(name())
    assert there.tokens(name()) is None
    assert there.read(name()) is None
    assert path.is_dir() == (kind == "folder")
    if kind != "folder":
        assert there.write(name(), TOKENS, payload(3)) > 0
        assert there.read(name())
    assert target.read_bytes() == before
