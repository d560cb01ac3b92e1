"""Measured settings beside the models: kept with them, gone with them, and never in the way."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from corral.core.errors import StoreError
from corral.core.tuning import Machine, Tuned, Tuning
from corral.store import ModelName, Store, tuning_files
from tests.support.gguf_files import write_scripted
from tests.support.models import make_model
from tests.support.stores import add_model

HERE = Machine(cpu="c", cores=2, threads=4, devices=("CPU",), build="1 abc")
THERE = msgspec.structs.replace(HERE, cpu="other")


def tuning(files: tuple[str, ...], machine: Machine = HERE, **more: Any) -> Tuning:
    settings: dict[str, Any] = {"settings": Tuned(num_batch=1024), "gain": 1.1, "measured_at": "2026-01-02T03:04:05+00:00"}
    return Tuning(files=files, machine=machine, placement=(-1, 0, None, "f16"), **settings | more)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


@pytest.fixture
def files(store: Store, tmp_path: Path) -> tuple[str, ...]:
    return tuning_files(add_model(store, "m", write_scripted(tmp_path / "m.gguf", "Hi.")))


def path_of(store: Store) -> Path:
    return store.root / "tuned.json"


def test_a_choice_is_kept_and_read_by_another_server(store: Store, files: tuple[str, ...]) -> None:
    before = store.tunings_stamp()
    store.put_tuning(tuning(files))
    assert store.tunings() == [tuning(files)]
    assert Store(store.root).tunings() == [tuning(files)]
    assert before is None
    assert store.tunings_stamp() is not None


def test_a_newer_choice_takes_the_place_of_one_for_the_same_machine_whatever_its_build(
    store: Store, files: tuple[str, ...]
) -> None:
    store.put_tuning(tuning(files, THERE))
    store.put_tuning(tuning(files, gain=1.1))
    rebuilt = msgspec.structs.replace(HERE, build="2 def")
    store.put_tuning(tuning(files, rebuilt, gain=1.2))
    assert [(each.machine.cpu, each.gain) for each in store.tunings()] == [("other", 1.1), ("c", 1.2)]


def test_a_choice_that_is_removed_leaves_those_of_other_machines(store: Store, files: tuple[str, ...]) -> None:
    store.put_tuning(tuning(files))
    store.put_tuning(tuning(files, THERE))
    assert store.remove_tuning(files, HERE)
    assert not store.remove_tuning(files, HERE)
    assert [each.machine.cpu for each in store.tunings()] == ["other"]
    assert store.remove_tuning(files, THERE)
    assert not path_of(store).exists()


def test_it_goes_with_the_last_model_of_its_files(store: Store, files: tuple[str, ...]) -> None:
    store.put_tuning(tuning(files))
    store.copy(ModelName.parse("m"), ModelName.parse("again"), prune=True)
    store.delete(ModelName.parse("m"))
    assert store.tunings() == [tuning(files)]
    store.delete(ModelName.parse("again"))
    assert store.tunings() == []
    assert not path_of(store).exists()


def test_it_goes_with_files_that_a_new_model_replaces(store: Store, files: tuple[str, ...], tmp_path: Path) -> None:
    store.put_tuning(tuning(files))
    other = add_model(store, "other", write_scripted(tmp_path / "o.gguf", "Ho."))
    manifest = store.manifest(other.name).text
    store.replace(ModelName.parse("m"), manifest, prune=True)
    assert store.tunings() == []


@pytest.mark.parametrize("clear", [Store.prune, Store.sweep], ids=["prune", "sweep"])
def test_clearing_up_leaves_no_orphans(store: Store, files: tuple[str, ...], clear: Any) -> None:
    store.put_tuning(tuning(files))
    store.put_tuning(tuning(("sha256:" + "0" * 64,)))
    store.put_tuning(tuning(("no digest",)))
    clear(store)
    assert store.tunings() == [tuning(files)]


def test_a_dry_run_removes_nothing(store: Store, files: tuple[str, ...]) -> None:
    orphan = tuning(("sha256:" + "0" * 64,))
    store.put_tuning(orphan)
    store.prune(dry_run=True)
    assert store.tunings() == [orphan]


def test_what_a_killed_writer_left_is_cleared_up(store: Store, files: tuple[str, ...]) -> None:
    left = store.root / ".tmp-tuned"
    left.write_text("{")
    pruned = Store(store.root, clock=lambda: left.stat().st_mtime + 7200).prune()
    assert [item.path for item in pruned.removed] == [".tmp-tuned"]
    assert not left.exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "\xff\xfe",
        '{"version": 2, "entries": []}',
        '{"version": 1, "entries": 3}',
        "[" * 100_000,
        '{"version": 1, "entries": [{"files": 1}, 5, null]}',
    ],
    ids=["empty", "cut", "list", "no-utf8", "newer", "no-entries", "deep", "no-entry"],
)
def test_a_damaged_file_is_none_and_is_written_anew(store: Store, files: tuple[str, ...], text: str) -> None:
    path_of(store).write_bytes(text.encode("latin-1"))
    assert store.tunings() == []
    store.put_tuning(tuning(files))
    assert store.tunings() == [tuning(files)]


@pytest.mark.parametrize(
    "settings",
    [{"num_batch": 0}, {"num_batch": 1 << 30}, {"most_threads": 10**6}, {"kv_cache_type": "q9"}, {"kv_unified": "yes"}],
    ids=str,
)
def test_settings_that_make_no_sense_are_passed_over(store: Store, files: tuple[str, ...], settings: dict[str, Any]) -> None:
    entry = msgspec.to_builtins(tuning(files)) | {"settings": settings}
    good = msgspec.to_builtins(tuning(files))
    path_of(store).write_bytes(msgspec.json.encode({"version": 1, "entries": [entry, good]}))
    assert store.tunings() == [tuning(files)]


def test_a_file_that_is_none_is_passed_over_and_cannot_be_written(store: Store, files: tuple[str, ...]) -> None:
    path_of(store).mkdir()
    assert store.tunings() == []
    with pytest.raises(StoreError, match=r"tuned\.json"):
        store.put_tuning(tuning(files))


def test_a_model_outside_of_a_store_has_no_choice(tmp_path: Path) -> None:
    assert tuning_files(make_model(tmp_path, "loose")) == ()
