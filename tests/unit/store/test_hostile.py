"""Names, manifests and blobs that were made to harm: each is an error that names the model, and nothing outside is touched."""

import json
import os
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from corral.core.errors import BadRequestError, CorralError, ModelCorruptError, ModelNotFoundError, StoreError
from corral.store import GgufError, ModelName, Store, read_header, read_info
from tests.support.gguf_files import write_scripted
from tests.support.stores import add_model

MANIFEST = "manifests/registry.ollama.ai/library/m/latest"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.mark.parametrize(
    "text",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "..",
        "a/../b",
        "a/b/../c",
        "host/../m",
        "m:../../x",
        "m:..",
        ".hidden",
        "m\0",
        "m:latest\n",
        "m\\..\\x",
        "%2e%2e/x",
        "x" * 10_240,
        "x:" + "y" * 10_240,
        "a/" * 5000 + "m",
        "\ud800",
        "é",
        "",
        ":",
        "//m",
        "http://../../m",
    ],
    ids=range(22),
)
def test_hostile_name_is_no_name(text: str) -> None:
    with pytest.raises(BadRequestError, match=r"invalid model name|:cloud"):
        ModelName.parse(text)


def test_name_too_long_for_a_file_is_not_there_and_cannot_be_made(store: Store, tmp_path: Path) -> None:
    model = add_model(store, "m", write_scripted(tmp_path / "a.gguf", "x"))
    long = ModelName.parse("h" * 300 + "/library/m")
    with pytest.raises(ModelNotFoundError):
        store.get(long)
    with pytest.raises(BadRequestError, match="too long"):
        store.copy(model.name, long, prune=True)
    with pytest.raises(ModelNotFoundError):
        store.delete(long)


def changed(**fields: Any) -> Callable[[dict[str, Any]], bytes]:
    def change(manifest: dict[str, Any]) -> bytes:
        return json.dumps(manifest | fields).encode()

    return change


def with_layer(**fields: Any) -> Callable[[dict[str, Any]], bytes]:
    def change(manifest: dict[str, Any]) -> bytes:
        manifest["layers"][0] |= fields
        return json.dumps(manifest).encode()

    return change


HOSTILE: list[tuple[str, Callable[[dict[str, Any]], bytes], str]] = [
    ("a path as digest", with_layer(digest="sha256:../../../../etc/passwd"), "damaged manifest"),
    ("an absolute path as digest", with_layer(digest="/etc/passwd"), "damaged manifest"),
    ("a path after the digest", with_layer(digest="sha256:" + "a" * 64 + "/../x"), "damaged manifest"),
    ("capital digits", with_layer(digest="sha256:" + "A" * 64), "damaged manifest"),
    ("a digest that is not there", with_layer(digest="sha256:" + "a" * 64), "aaaa is missing"),
    ("a smaller size", with_layer(size=1), "should have 1;"),
    ("a larger size", with_layer(size=1 << 50), "and should have"),
    ("a negative size", with_layer(size=-1), "a size of -1 bytes"),
    ("a size that no number holds", with_layer(size=10**400), "damaged manifest"),
    ("a size beyond JSON's numbers", with_layer(size=1 << 63), "a size of"),
    ("a size that is no number", with_layer(size="big"), "damaged manifest"),
    ("a text as layers", changed(layers="x"), "damaged manifest"),
    ("no config", lambda manifest: json.dumps({"layers": manifest["layers"]}).encode(), "damaged manifest"),
    ("no JSON", lambda _: b"\0" * 100, "damaged manifest"),
    ("no UTF-8", lambda _: b'{"config":"\xff\xfe"}', "damaged manifest"),
    ("deep JSON", lambda _: b'{"x":' + b"[" * 1_000_000, "damaged manifest"),
    ("deep JSON that ends", lambda _: b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "damaged manifest"),
    ("nothing", lambda _: b"", "damaged manifest"),
]


@pytest.mark.parametrize(("change", "complaint"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_hostile_manifest_is_refused_by_the_models_name(
    store: Store, tmp_path: Path, change: Callable[[dict[str, Any]], bytes], complaint: str
) -> None:
    gguf = write_scripted(tmp_path / "a.gguf", "x")
    add_model(store, "m", gguf)
    good = add_model(store, "good", gguf, system="good")
    path = store.root / MANIFEST
    path.write_bytes(change(json.loads(path.read_bytes())))
    with pytest.raises(ModelCorruptError, match=complaint) as caught:
        store.get(ModelName.parse("m"))
    assert "'m:latest'" in str(caught.value)
    assert len(str(caught.value)) < 1000
    listing = store.scan()
    assert ([model.name for model in listing.models], len(listing.damaged)) == ([good.name], 1)
    store.prune(older_than_s=0)
    store.usage()
    with suppress(StoreError):
        store.copy(ModelName.parse("m"), ModelName.parse("copy"), prune=True)
    with pytest.raises((ModelCorruptError, ModelNotFoundError)):
        store.get(ModelName.parse("copy"))
    with suppress(ModelNotFoundError):
        store.delete(ModelName.parse("copy"))
    store.delete(ModelName.parse("m"))
    assert store.get(good.name)


def test_manifest_of_a_gigabyte_is_not_read(store: Store, tmp_path: Path) -> None:
    add_model(store, "m", write_scripted(tmp_path / "a.gguf", "x"))
    os.truncate(store.root / MANIFEST, 1 << 30)
    with pytest.raises(ModelCorruptError, match="1073741824 bytes, and 16777216 are read at most"):
        store.get(ModelName.parse("m"))


def test_manifest_that_is_a_pipe_keeps_nobody_waiting(store: Store, tmp_path: Path) -> None:
    add_model(store, "m", write_scripted(tmp_path / "a.gguf", "x"))
    (store.root / MANIFEST).unlink()
    os.mkfifo(store.root / MANIFEST)
    with pytest.raises(ModelCorruptError, match="no regular file"):
        store.get(ModelName.parse("m"))
    assert store.scan().models == []


@pytest.mark.parametrize("kind", ["config", "params", "messages"])
@pytest.mark.parametrize("data", [b"[" * 1_000_000, b"\0", b"3", b'{"a":' * 100_000], ids=["deep", "nul", "number", "objects"])
def test_hostile_text_layer_is_refused_by_the_models_name(store: Store, tmp_path: Path, kind: str, data: bytes) -> None:
    add_model(store, "m", write_scripted(tmp_path / "a.gguf", "x"))
    path = store.root / MANIFEST
    manifest = json.loads(path.read_bytes())
    digest, size = store.put_blob(data, "x")[0].digest, len(data)
    if kind == "config":
        manifest["config"] |= {"digest": digest, "size": size}
    else:
        manifest["layers"].append({"mediaType": f"application/vnd.ollama.image.{kind}", "digest": digest, "size": size})
    path.write_text(json.dumps(manifest))
    with pytest.raises(ModelCorruptError, match="'m:latest'"):
        store.get(ModelName.parse("m"))


def test_blob_that_is_a_folder_or_leads_nowhere_is_missing(store: Store, tmp_path: Path) -> None:
    model = add_model(store, "m", write_scripted(tmp_path / "a.gguf", "x"))
    model.model_path.unlink()
    model.model_path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ModelCorruptError, match="missing"):
        store.get(model.name)
    model.model_path.unlink()
    model.model_path.mkdir()
    with pytest.raises(ModelCorruptError, match="missing"):
        store.get(model.name)


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def header(*, tensors: int = 0, keys: int = 0, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, keys) + rest


def write(path: Path, data: bytes, size_bytes: int) -> Path:
    """A file of that size, of which only the beginning takes space."""
    path.write_bytes(data)
    os.truncate(path, size_bytes)
    return path


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        pytest.param(
            header(keys=1, rest=text(b"k") + struct.pack("<IIQ", 9, 8, 1 << 34)),
            "claims 17179869184 texts",
            id="16 billion texts",
        ),
        pytest.param(header(keys=1, rest=text(b"k") + struct.pack("<IIQ", 9, 0, 1 << 36)), "goes on after", id="a long array"),
        pytest.param(
            header(keys=1, rest=struct.pack("<Q", 1 << 20)), "claims a text of 1048576 bytes", id="a key of a megabyte"
        ),
        pytest.param(header(tensors=1, rest=struct.pack("<Q", 1 << 20)), "claims a text of 1048576 bytes", id="a name as long"),
        pytest.param(header(keys=1, rest=text(b"k") + struct.pack("<IQ", 8, 1 << 33)), "claims a text of", id="a text"),
        pytest.param(
            header(tensors=1, rest=text(b"t") + struct.pack("<IQQIQ", 2, 1 << 63, 1 << 63, 999, 0)),
            "claim 9e.37 values|claim 8.*values",
            id="values of an unknown type",
        ),
        pytest.param(
            header(tensors=1, rest=text(b"t" * 60_000) + struct.pack("<IQIQ", 1, 4, 0, 1 << 62)), "truncated", id="a long name"
        ),
    ],
)
def test_gguf_that_claims_too_much_is_refused_at_once(tmp_path: Path, data: bytes, complaint: str) -> None:
    path = write(tmp_path / "bad.gguf", data, 1 << 38)
    for with_arrays in (False, True):
        with pytest.raises(GgufError, match=complaint) as caught:
            read_header(path, with_arrays=with_arrays)
        assert len(str(caught.value)) < 300


def test_long_array_stays_unread_even_where_arrays_are_wanted(tmp_path: Path) -> None:
    rest = text(b"k") + struct.pack("<IIQ", 9, 0, 1 << 23)
    path = write(tmp_path / "long.gguf", header(keys=1, rest=rest), (1 << 23) + 100)
    assert read_header(path, with_arrays=True).metadata["k"].length == 1 << 23


ALIGNMENTS = {
    "none": 0,
    "no-power-of-two": 48,
    "4-billion": 4_000_000_000,
    "2-to-the-40": 1 << 40,
    "2-to-the-63-and-1": (1 << 63) + 1,
}


@pytest.mark.parametrize("alignment", ALIGNMENTS.values(), ids=ALIGNMENTS.keys())
@pytest.mark.parametrize("tensors", [b"", text(b"t") + struct.pack("<IQIQ", 1, 4, 0, 0)], ids=["no-tensor", "one-tensor"])
def test_gguf_of_a_false_alignment_is_refused_with_or_without_tensors(tmp_path: Path, alignment: int, tensors: bytes) -> None:
    rest = text(b"general.alignment") + struct.pack("<IQ", 10, alignment) + tensors
    path = write(tmp_path / "bad.gguf", header(tensors=bool(tensors), keys=1, rest=rest), 1 << 30)
    with pytest.raises(GgufError, match=r"its alignment is .*; it must be a power of two, up to 1048576"):
        read_header(path)


def test_many_small_arrays_are_kept_as_their_lengths(tmp_path: Path) -> None:
    array = struct.pack("<IIQ", 9, 5, 512) + struct.pack("<512i", *range(1000, 1512))
    keys = [text(b"k%d" % number) + array for number in range(2000)]
    path = tmp_path / "many.gguf"
    path.write_bytes(header(keys=len(keys), rest=b"".join(keys)))
    metadata = read_header(path).metadata
    assert metadata["k0"] == list(range(1000, 1512))
    assert metadata["k1999"].length == 512
    assert sum(len(value) for value in metadata.values() if isinstance(value, list)) == 1 << 16


def test_small_arrays_of_long_texts_are_kept_as_their_lengths(tmp_path: Path) -> None:
    array = struct.pack("<IIQ", 9, 8, 4) + text(b"x" * 500_000) * 4
    keys = [text(b"k%d" % number) + array for number in range(4)] + [text(b"end") + struct.pack("<II", 4, 7)]
    path = tmp_path / "texts.gguf"
    path.write_bytes(header(keys=len(keys), rest=b"".join(keys)))
    metadata = read_header(path).metadata
    assert metadata["k0"] == ["x" * 500_000] * 4
    assert [metadata[f"k{number}"].length for number in (1, 2, 3)] == [4, 4, 4]
    assert metadata["end"] == 7


def test_info_keeps_no_long_text_but_the_template(tmp_path: Path) -> None:
    long = "x" * 100_000
    path = write_scripted(tmp_path / "long.gguf", "Hi!", jinja=long, metadata={"general.description": long})
    info = read_info(path)
    assert info.chat_template == long
    assert long not in info.metadata.values()
    assert read_header(path).metadata["general.description"] == long


def test_architecture_that_is_no_word_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(header(keys=1, rest=text(b"general.architecture") + struct.pack("<I", 8) + text(b"x" * 10_000_000)))
    with pytest.raises(GgufError, match=r"'general.architecture' is .*; it must be a word of up to 128 letters") as caught:
        read_info(path)
    assert len(str(caught.value)) < 300


def test_no_error_of_a_store_is_anything_but_ours(store: Store, tmp_path: Path) -> None:
    """Folders where files should be, and the other way round."""
    (store.root / MANIFEST).mkdir(parents=True)
    (store.root / "blobs").write_text("no folder")
    asks: list[Callable[[], object]] = [
        store.list,
        store.usage,
        store.prune,
        store.sweep,
        lambda: store.get(ModelName.parse("m")),
        lambda: store.delete(ModelName.parse("m")),
        lambda: store.put_blob(b"x", "x"),
        lambda: store.take_file(tmp_path / "x", "sha256:" + "a" * 64, threading.Event()),
    ]
    for ask in asks:
        try:
            ask()
        except CorralError:
            continue
