import errno
import hashlib
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from corral.core.errors import BadRequestError, ModelCorruptError, ModelNotFoundError, NotSupportedError, StoreError
from corral.core.types import Message
from corral.store import CONFIG_LAYER, MODEL_LAYER, SYSTEM_LAYER, TEMPLATE_LAYER, ModelName, Store
from corral.store.files import read_bounded
from corral.wire.registry import Descriptor, Manifest
from tests.support.gguf_files import write_scripted
from tests.support.stores import add_model


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    return write_scripted(tmp_path / "a.gguf", "Hi!")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def name(text: str) -> ModelName:
    return ModelName.parse(text)


def blobs(root: Path) -> set[str]:
    return {path.name for path in (root / "blobs").iterdir()}


def snapshot(root: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in root.rglob("*")}


def test_empty_store_has_no_models_and_is_not_made(store: Store) -> None:
    assert store.list() == []
    with pytest.raises(ModelNotFoundError, match="model 'nope:latest' not found"):
        store.get(name("nope"))
    assert not store.root.exists()


def test_get_gives_everything_a_model_has(store: Store, gguf: Path) -> None:
    messages = (Message(role="user", content="hi"), Message(role="assistant", content="<ho>"))
    add_model(
        store,
        "m",
        gguf,
        template="{{ .Prompt }}",
        system="Be brief.",
        parameters={"stop": ["<a>"], "temperature": 0.5},
        messages=messages,
        licenses=["MIT", "Apache"],
    )
    model = store.get(name("m"))
    assert (model.name.short, model.template, model.system) == ("m:latest", "{{ .Prompt }}", "Be brief.")
    assert (model.parameters, model.messages) == ({"stop": ["<a>"], "temperature": 0.5}, messages)
    assert (model.licenses, model.gguf.architecture, model.config.file_type) == (("MIT", "Apache"), "llama", "F16")
    assert model.model_path.read_bytes() == gguf.read_bytes()


OLLAMA_LAYERS: dict[str, tuple[str, bytes]] = {
    "template": ("application/vnd.ollama.image.template", b"{{ .System }}|{{ .Prompt }}"),
    "system": ("application/vnd.ollama.image.system", b"You are Mario."),
    "license": ("application/vnd.ollama.image.license", b"MIT"),
    "params": ("application/vnd.ollama.image.params", b'{"stop":["a"],"temperature":0.2}\n'),
    "messages": (
        "application/vnd.ollama.image.messages",
        b'[{"role":"user","content":"hi"},{"role":"assistant","content":"ho"}]\n',
    ),
}
OLLAMA_CONFIG = (
    b'{"model_format":"gguf","model_family":"llama","model_families":["llama"],"model_type":"1.38M","file_type":"F16",'
    b'"architecture":"amd64","os":"linux"}\n'
)


def lay_out_as_ollama_does(root: Path, gguf: Path) -> str:
    """Writes a store by hand, byte for byte as Ollama has it; gives the digest of the manifest."""

    def blob(data: bytes) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (root / "blobs").mkdir(parents=True, exist_ok=True)
        (root / "blobs" / f"sha256-{digest}").write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    layers = [{"mediaType": "application/vnd.ollama.image.model"} | blob(gguf.read_bytes())]
    layers += [{"mediaType": kind} | blob(data) for kind, data in OLLAMA_LAYERS.values()]
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json"} | blob(OLLAMA_CONFIG),
        "layers": layers,
    }
    path = root / "manifests" / "127.0.0.1:5001" / "me" / "hello" / "v1"
    path.parent.mkdir(parents=True)
    text = json.dumps(manifest, separators=(",", ":")).encode()
    path.write_bytes(text)
    return hashlib.sha256(text).hexdigest()


def test_store_that_ollama_wrote_is_read(tmp_path: Path, gguf: Path) -> None:
    digest = lay_out_as_ollama_does(tmp_path / "ollama", gguf)
    store = Store(tmp_path / "ollama")
    model = store.get(name("http://127.0.0.1:5001/me/hello:v1"))
    assert (model.digest, model.name.short) == (digest, "127.0.0.1:5001/me/hello:v1")
    sizes = len(OLLAMA_CONFIG) + gguf.stat().st_size + sum(len(data) for _, data in OLLAMA_LAYERS.values())
    assert model.size_bytes == sizes
    assert (model.template, model.system, model.licenses) == ("{{ .System }}|{{ .Prompt }}", "You are Mario.", ("MIT",))
    assert model.parameters == {"stop": ["a"], "temperature": 0.2}
    assert [message.content for message in model.messages] == ["hi", "ho"]
    assert (model.config.model_type, model.config.model_families) == ("1.38M", ("llama",))


def test_what_is_written_is_what_ollama_writes(tmp_path: Path, gguf: Path) -> None:
    theirs = tmp_path / "theirs"
    digest = lay_out_as_ollama_does(theirs, gguf)
    ours = Store(tmp_path / "ours")
    texts = {kind: data for kind, (_, data) in OLLAMA_LAYERS.items()}
    model = add_model(
        ours,
        "127.0.0.1:5001/me/hello:v1",
        gguf,
        template=texts["template"].decode(),
        system=texts["system"].decode(),
        licenses=["MIT"],
        parameters={"temperature": 0.2, "stop": ["a"]},
        messages=(Message(role="user", content="hi"), Message(role="assistant", content="ho")),
    )
    assert blobs(theirs) - blobs(ours.root) == {f"sha256-{hashlib.sha256(OLLAMA_CONFIG).hexdigest()}"}  # another model_type
    layers = Store(theirs).manifest(model.name).manifest.layers
    assert ours.manifest(model.name).manifest.layers == layers
    written = (ours.root / "manifests/127.0.0.1:5001/me/hello/v1").read_bytes()
    expected = (theirs / "manifests/127.0.0.1:5001/me/hello/v1").read_bytes()
    config = ours.manifest(model.name).manifest.config
    old = Store(theirs).manifest(model.name).manifest.config
    swapped = expected.replace(old.digest.encode(), config.digest.encode()).replace(
        b":%d}" % old.size, b":%d}" % config.size, 1
    )
    assert written == swapped
    assert digest


def test_angle_brackets_are_written_as_go_writes_them(store: Store, gguf: Path) -> None:
    model = add_model(store, "m", gguf, parameters={"stop": ["<|im_start|>", "<|im_end|>"]})
    data = b'{"stop":["\\u003c|im_start|\\u003e","\\u003c|im_end|\\u003e"]}\n'
    assert store.has_blob("sha256:" + hashlib.sha256(data).hexdigest())
    assert model.parameters == {"stop": ["<|im_start|>", "<|im_end|>"]}


@pytest.mark.parametrize("spelling", ["Mixed:Case", "mixed:case", "MIXED:CASE"])
def test_get_finds_any_case_and_gives_the_first_spelling(store: Store, gguf: Path, spelling: str) -> None:
    add_model(store, "Mixed:Case", gguf)
    assert store.get(name(spelling)).name.short == "Mixed:Case"


def test_writing_another_case_replaces_the_model(store: Store, gguf: Path) -> None:
    add_model(store, "Mixed", gguf)
    add_model(store, "mIXED", gguf, system="new")
    assert [(model.name.short, model.system) for model in store.list()] == [("Mixed:latest", "new")]


def test_list_is_newest_first_over_all_stores(tmp_path: Path, gguf: Path) -> None:
    other = Store(tmp_path / "other")
    store = Store(tmp_path / "own", [other.root, tmp_path / "not there"])
    for number, (where, text) in enumerate([(store, "a"), (other, "b"), (store, "c"), (other, "A"), (other, "ns/d")]):
        add_model(where, text, gguf, system=f"{where.root}")
        path = where.root.joinpath("manifests", *name(text).parts)
        os.utime(path, ns=(number * 10**9, number * 10**9))
    assert [model.name.short for model in store.list()] == ["ns/d:latest", "c:latest", "b:latest", "a:latest"]
    assert store.get(name("A")).system == str(store.root)


def test_extra_store_is_never_written(tmp_path: Path, gguf: Path) -> None:
    other = Store(tmp_path / "other")
    model = add_model(other, "m", gguf)
    before = snapshot(other.root)
    store = Store(tmp_path / "own", [other.root])
    assert store.get(name("m")) == model
    with pytest.raises(BadRequestError, match="only read here"):
        store.delete(name("m"))
    store.adopt("sha256:" + hashlib.sha256(gguf.read_bytes()).hexdigest())
    store.write_manifest(name("copy"), other.manifest(name("m")).manifest)
    store.delete(name("copy"))
    assert snapshot(other.root) == before


def test_adopted_blob_outlives_the_store_it_came_from(tmp_path: Path, gguf: Path) -> None:
    other = Store(tmp_path / "other")
    add_model(other, "m", gguf)
    store = Store(tmp_path / "own", [other.root])
    for blob in other.manifest(name("m")).blobs:
        store.adopt(blob.digest)
    store.write_manifest(name("copy"), other.manifest(name("m")).manifest)
    other.delete(name("m"))
    assert store.get(name("copy")).gguf.architecture == "llama"


def test_delete_removes_only_what_nobody_else_has(store: Store, gguf: Path) -> None:
    add_model(store, "a", gguf, system="of a", licenses=["of both"])
    add_model(store, "ns/b", gguf, system="of b", licenses=["of both"])
    store.delete(name("A"))
    assert store.get(name("ns/b")).licenses == ("of both",)
    assert f"sha256-{hashlib.sha256(b'of a').hexdigest()}" not in blobs(store.root)
    store.delete(name("ns/b"))
    assert blobs(store.root) == set()
    assert list((store.root / "manifests").iterdir()) == []
    with pytest.raises(ModelNotFoundError):
        store.delete(name("ns/b"))


def test_delete_keeps_all_layers_while_another_manifest_is_unreadable(store: Store, gguf: Path) -> None:
    add_model(store, "a", gguf)
    add_model(store, "b", gguf, system="of b")
    before = blobs(store.root)
    (store.root / "manifests/registry.ollama.ai/library/a/latest").write_bytes(b'{"half')
    store.delete(name("b"))
    assert blobs(store.root) == before


def half_written(store: Store) -> Path:
    path = store.root / "manifests/registry.ollama.ai/library/m/latest"
    path.write_bytes(path.read_bytes()[:100])
    return path


def without_weights(store: Store) -> Path:
    path = store.get(name("m")).model_path
    path.unlink()
    return path


def truncated_weights(store: Store) -> Path:
    path = store.get(name("m")).model_path
    os.truncate(path, 1000)
    return path


def other_weights(store: Store) -> Path:
    path = store.get(name("m")).model_path
    path.write_bytes(b"x" * path.stat().st_size)
    return path


def without_config(store: Store) -> Path:
    return _lost(store, store.manifest(name("m")).manifest.config.digest)


def without_template(store: Store) -> Path:
    return _lost(
        store, next(layer for layer in store.manifest(name("m")).manifest.layers if layer.media_type == TEMPLATE_LAYER).digest
    )


def _lost(store: Store, digest: str) -> Path:
    path = store.blob_path(digest)
    assert path
    path.unlink()
    os.utime(store.root / "manifests/registry.ollama.ai/library/m/latest")
    return path


@pytest.mark.parametrize(
    "damage",
    [half_written, without_weights, truncated_weights, other_weights, without_config, without_template],
    ids=lambda damage: damage.__name__,
)
def test_damaged_model_is_named_listed_apart_and_can_be_deleted(
    store: Store, gguf: Path, tmp_path: Path, damage: Callable[[Store], Path], caplog: pytest.LogCaptureFixture
) -> None:
    add_model(store, "m", gguf, template="t")
    good = add_model(store, "good", write_scripted(tmp_path / "good.gguf", "Good."))
    path = damage(store)
    with pytest.raises(ModelCorruptError, match="'m:latest'") as caught:
        store.get(name("m"))
    assert path.name.replace("sha256-", "") in str(caught.value)
    assert [(damaged.name.short, str(damaged.error)) for damaged in store.scan().damaged] == [("m:latest", str(caught.value))]
    assert store.list() == [good]
    assert "damaged model" in caplog.text
    store.delete(name("m"))
    assert store.scan().damaged == []


def test_repaired_model_is_read_again(store: Store, gguf: Path) -> None:
    model = add_model(store, "m", gguf)
    model.model_path.unlink()
    with pytest.raises(ModelCorruptError):
        store.get(name("m"))
    model.model_path.write_bytes(gguf.read_bytes())
    assert store.get(name("m")).digest == model.digest


def test_model_without_weights_is_refused(store: Store) -> None:
    config = store.put_blob(b"{}\n", "config")[0]
    store.write_manifest(name("m"), Manifest(config=config))
    with pytest.raises(ModelCorruptError, match="no weights"):
        store.get(name("m"))


def test_model_that_is_in_a_cloud_is_refused(store: Store) -> None:
    config = store.put_blob(b'{"remote_host":"https://ollama.com","remote_model":"big"}\n', "config")[0]
    store.write_manifest(name("m"), Manifest(config=config))
    with pytest.raises(NotSupportedError, match="cloud"):
        store.get(name("m"))
    assert store.list() == []


def test_manifest_with_a_bad_digest_is_refused(store: Store) -> None:
    path = store.root / "manifests/registry.ollama.ai/library/m/latest"
    path.parent.mkdir(parents=True)
    path.write_text('{"config":{"digest":"sha256:../../etc/passwd","size":1},"layers":[]}')
    with pytest.raises(ModelCorruptError, match="digest"):
        store.get(name("m"))


def test_manifest_is_not_written_while_a_layer_is_missing(store: Store) -> None:
    missing = Descriptor(media_type=MODEL_LAYER, digest="sha256:" + "1" * 64, size=1)
    with pytest.raises(StoreError, match="1111"):
        store.write_manifest(name("m"), Manifest(config=missing))
    assert store.list() == []
    with pytest.raises(StoreError, match="not a manifest"):
        store.write_manifest(name("m"), b"{")


def test_strange_files_among_manifests_are_passed_over(store: Store, gguf: Path) -> None:
    add_model(store, "m", gguf)
    library = store.root / "manifests/registry.ollama.ai/library"
    (library / "m" / ".tmp-x").write_text("half")
    (library / "m" / "deeper").mkdir()
    (library / "stray").write_text("")
    (store.root / "manifests" / ".DS_Store").write_text("")
    assert [model.name.short for model in store.list()] == ["m:latest"]


def test_model_that_was_replaced_is_read_again(store: Store, gguf: Path) -> None:
    first = add_model(store, "m", gguf, system="one")
    assert store.get(name("m")) is first
    add_model(store, "m", gguf, system="two")
    assert store.get(name("m")).system == "two"


def test_model_that_is_replaced_again_and_again_is_never_the_old_one(store: Store, gguf: Path) -> None:
    for number in range(30):
        assert add_model(store, "m", gguf, system=f"{number:02}").system == f"{number:02}"


def test_get_is_cheap_on_the_hot_path(store: Store, gguf: Path) -> None:
    add_model(store, "m", gguf)
    wanted = name("m")
    fastest = 1.0
    for _ in range(20):
        began = time.perf_counter()
        store.get(wanted)
        fastest = min(fastest, time.perf_counter() - began)
    assert fastest < 0.0005  # 0.00004 s on the machine this was written on


def test_cached_reads_nothing_and_gives_what_get_gave(store: Store, gguf: Path) -> None:
    add_model(store, "m", gguf, system="one")
    before = store.get(name("m"))
    assert store.cached(name("m")) is before
    assert store.cached(name("M")) is None  # which spelling is meant is seen in the folder
    add_model(store, "other", gguf)
    assert store.cached(name("m")) is before
    store.delete(name("m"))
    assert store.cached(name("m")) is None


def test_cached_never_gives_what_has_changed(store: Store, gguf: Path) -> None:
    for system in ("one", "two", "six"):  # of one size, one after the other, within a tick of the disk's clock
        add_model(store, "m", gguf, system=system)
        assert store.get(name("m")).system == system
    Store(store.root).write_manifest(name("m"), store.manifest(name("m")).manifest)
    assert store.cached(name("m")) is None


def test_cached_knows_which_store_comes_first(tmp_path: Path, gguf: Path) -> None:
    add_model(Store(tmp_path / "theirs"), "m", gguf, system="theirs")
    store = Store(tmp_path / "ours", [tmp_path / "theirs"])
    assert store.get(name("m")) is store.cached(name("m"))
    add_model(Store(tmp_path / "ours"), "m", gguf, system="ours")
    assert store.cached(name("m")) is None
    assert store.get(name("m")).system == "ours"


def test_store_that_may_not_be_read_is_passed_over_and_told_once(
    tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    add_model(Store(tmp_path / "theirs"), "m", gguf)
    store = Store(tmp_path / "ours", [tmp_path / "theirs"])
    add_model(store, "mine", gguf)
    stat, scandir = Path.stat, os.scandir

    def forbid(path: Path) -> None:
        if path.is_relative_to(tmp_path / "theirs" / "manifests"):
            raise PermissionError(errno.EACCES, "Permission denied")

    def forbidden_stat(path: Path, **more: bool) -> os.stat_result:
        forbid(path)
        return stat(path, **more)

    def forbidden_scandir(path: Path) -> object:
        forbid(Path(path))
        return scandir(path)

    monkeypatch.setattr(Path, "stat", forbidden_stat)
    monkeypatch.setattr(os, "scandir", forbidden_scandir)
    for _ in range(2):
        with pytest.raises(ModelNotFoundError):
            store.get(name("m"))
        assert [model.name.short for model in store.list()] == ["mine:latest"]
    assert [record.message for record in caplog.records] == ["models passed over"]


def test_file_that_vanishes_while_models_are_listed_damages_one_model(
    store: Store, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = add_model(store, "m", gguf)
    add_model(store, "other", write_scripted(gguf.with_name("b.gguf"), "Ho!"))
    is_file = Path.is_file

    def and_then_it_goes(path: Path) -> bool:
        found = is_file(path)
        if path == model.model_path:
            path.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Path, "is_file", and_then_it_goes)
    listing = Store(store.root).scan()
    assert [found.name.short for found in listing.models] == ["other:latest"]
    assert [found.name.short for found in listing.damaged] == ["m:latest"]


def test_replace_removes_what_only_the_old_model_had(store: Store, gguf: Path) -> None:
    old = add_model(store, "m", gguf, system="old", licenses=["MIT"])
    add_model(store, "kept", gguf, licenses=["MIT"])
    system = store.put_blob(b"old", SYSTEM_LAYER)[0].digest
    manifest = store.manifest(name("kept")).manifest
    assert store.replace(name("M"), manifest, prune=True) == {system}
    assert not store.has_blob(system)
    assert old.model_path.exists()
    assert store.get(name("m")).name.short == "m:latest"


def test_replace_without_prune_keeps_all(store: Store, gguf: Path) -> None:
    add_model(store, "m", gguf, system="old")
    add_model(store, "kept", gguf)
    before = blobs(store.root)
    assert store.replace(name("m"), store.manifest(name("kept")).manifest, prune=False) == set()
    assert blobs(store.root) == before


def damaged(store: Store, text: str, gguf: Path) -> None:
    """A model of that file, whatever is in it."""
    weights, _ = store.put_blob(gguf.read_bytes(), MODEL_LAYER)
    config, _ = store.put_blob(b'{"model_format":"gguf"}', CONFIG_LAYER)
    store.write_manifest(name(text), Manifest(config=config, layers=(weights,)))


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "many"])
def test_model_whose_metadata_makes_no_sense_breaks_no_list(store: Store, gguf: Path, value: object) -> None:
    add_model(store, "m", gguf)
    damaged(store, "n", write_scripted(gguf.with_name("b.gguf"), "Ho!", metadata={"llama.context_length": value}))
    listing = store.scan()
    assert [model.name.short for model in listing.models] == ["m:latest"]
    (bad,) = listing.damaged
    assert re.match("model 'n:latest' cannot be read: damaged GGUF: 'llama.context_length' is", str(bad.error))
    store.delete(name("n"))


def test_name_is_the_same_however_its_registry_is_asked(store: Store, gguf: Path) -> None:
    add_model(store, "http://h:1/n/m", gguf)
    asked = store.get(name("http://h:1/n/m"))
    assert asked.name.scheme == ""
    assert store.cached(name("h:1/n/m")) is asked


def older(manifests: Path, by_s: float) -> None:
    for path in manifests.rglob("*"):
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - by_s))


def test_model_of_another_store_that_was_restored_can_be_copied(tmp_path: Path, gguf: Path) -> None:
    """`cp -r` gives every file the time of the copy, in whatever order."""
    other = Store(tmp_path / "other")
    add_model(other, "m", gguf)
    older(other.root / "manifests", 60)
    store = Store(tmp_path / "own", [other.root])
    store.copy(name("m"), name("m2"), prune=True)
    for text in ("m", "m2"):
        assert store.get(name(text)).gguf.architecture == "llama"
    assert store.get(name("m")).model_path.stat().st_nlink == 2


def test_model_of_another_store_is_made_of_what_lies_there(tmp_path: Path, gguf: Path) -> None:
    other = Store(tmp_path / "other")
    model = add_model(other, "m", gguf)
    store = Store(tmp_path / "own", [other.root])
    add_model(store, "mine", gguf)
    assert store.get(name("m")) == model
    assert store.get(name("mine")).model_path.is_relative_to(store.root)


def test_blob_that_another_store_shares_is_kept_young_without_a_change_to_it(
    tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Store(tmp_path / "other")
    model = add_model(other, "m", gguf)
    digest = "sha256:" + hashlib.sha256(gguf.read_bytes()).hexdigest()
    store = Store(tmp_path / "own", [other.root])
    store.adopt(digest)
    before = model.model_path.stat()
    monkeypatch.setattr(Path, "chmod", lambda *_: pytest.fail("chmod"))
    while model.model_path.stat().st_ctime_ns == before.st_ctime_ns:
        assert store.keep_blob(digest)
    after = model.model_path.stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_nlink) == (before.st_mode, before.st_mtime_ns, 2)
    assert len(list((store.root / "blobs").iterdir())) == 1


def test_folder_that_goes_while_models_are_listed_is_passed_over(
    store: Store, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_model(store, "m", gguf)
    add_model(store, "n", gguf)
    library = store.root / "manifests/registry.ollama.ai/library"
    iterdir = Path.iterdir

    def and_then_it_goes(folder: Path) -> Iterator[Path]:
        found = list(iterdir(folder))
        if folder == library:
            shutil.rmtree(library / "n", ignore_errors=True)
        return iter(found)

    monkeypatch.setattr(Path, "iterdir", and_then_it_goes)
    assert [model.name.short for model in store.scan().models] == ["m:latest"]


def test_store_is_looked_through_while_models_come_and_go(store: Store, gguf: Path) -> None:
    add_model(store, "stays", gguf)
    manifest = store.manifest(name("stays")).manifest
    rounds, is_done = 150, threading.Event()

    def come_and_go() -> None:
        other = Store(store.root)
        try:
            for number in range(rounds):
                other.write_manifest(name(f"me/m{number % 3}"), manifest)
                other.delete(name(f"me/m{number % 3}"))
        finally:
            is_done.set()

    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(come_and_go)
        while not is_done.is_set():
            listing = store.scan()
            assert "stays:latest" in [model.name.short for model in listing.models]
            assert listing.damaged == []
            assert store.usage().damaged == []
            assert store.is_used(manifest.config.digest)
        work.result()


def test_manifest_that_goes_between_two_looks_is_not_there(store: Store, gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_model(store, "m", gguf)
    path = store.root / "manifests/registry.ollama.ai/library/m/latest"
    read = read_bounded

    def gone_before(file: Path, limit_bytes: int) -> bytes:
        if file == path:
            path.unlink(missing_ok=True)
        return read(file, limit_bytes)

    monkeypatch.setattr("corral.store.manifests.read_bounded", gone_before)
    listing = Store(store.root).scan()
    assert (listing.models, listing.damaged) == ([], [])


class Clock:
    def __init__(self) -> None:
        self.now_s = 1e9

    def __call__(self) -> float:
        return self.now_s


def upload(store: Store, data: bytes) -> str:
    with store.start_blob(f"sha256:{hashlib.sha256(data).hexdigest()}") as writer:
        writer.write(data)
        return writer.commit()


@pytest.mark.parametrize("how", ["uploaded again", "asked for"])
@pytest.mark.parametrize("by", ["delete", "replace", "copy"])
def test_blob_that_a_client_counts_on_outlives_a_model_that_has_it(tmp_path: Path, gguf: Path, how: str, by: str) -> None:
    clock = Clock()
    store = Store(tmp_path / "wanting", clock=clock)
    add_model(store, "other", gguf, system="other")
    add_model(store, "m", gguf, system="wanted")
    wanted = f"sha256:{hashlib.sha256(b'wanted').hexdigest()}"
    if how == "asked for":
        assert store.keep_blob(wanted)
    else:
        assert upload(store, b"wanted") == wanted
    match by:
        case "delete":
            store.delete(name("m"))
        case "replace":
            store.replace(name("m"), store.manifest(name("other")).manifest, prune=True)
        case "copy":
            store.copy(name("other"), name("m"), prune=True)
    assert store.has_blob(wanted)


@pytest.mark.parametrize("then", ["a model is made of it", "an hour goes by"])
def test_blob_that_nobody_counts_on_any_more_goes_with_its_model(tmp_path: Path, gguf: Path, then: str) -> None:
    clock = Clock()
    store = Store(tmp_path / "wanting", clock=clock)
    add_model(store, "m", gguf, system="wanted")
    upload(store, b"wanted")
    if then == "an hour goes by":
        clock.now_s += 3601
    else:
        store.write_manifest(name("m"), store.manifest(name("m")).manifest)
    store.delete(name("m"))
    assert blobs(store.root) == set()


def test_file_that_was_taken_outlives_a_model_that_has_it(store: Store, gguf: Path) -> None:
    model = add_model(store, "m", gguf)
    digest = f"sha256:{hashlib.sha256(gguf.read_bytes()).hexdigest()}"
    store.take_file(gguf, digest, threading.Event())
    store.delete(model.name)
    assert store.has_blob(digest)
