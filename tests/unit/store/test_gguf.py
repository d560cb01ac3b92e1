import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.store import GgufError, GgufHeader, GgufInfo, LongArray, Tensor, human_count, read_header, read_info
from corral.store.gguf import shortest
from corral.store.gguf_types import FILE_TYPES, TENSOR_TYPES
from tests.support.gguf_files import write_random, write_scripted


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    return write_scripted(
        path, "Hi!", jinja="{{ messages }}", metadata={"general.tags": ["a", "b"], "x.many": list(range(600))}
    )


def header(*, magic: bytes = b"GGUF", version: int = 3, tensors: int = 0, keys: int = 0, rest: bytes = b"") -> bytes:
    return magic + struct.pack("<IQQ", version, tensors, keys) + rest


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def test_header_has_what_was_written(small: Path) -> None:
    info = read_info(small)
    assert (info.architecture, info.file_type, info.context_length, info.embedding_length) == ("llama", "F16", 4096, 256)
    assert (info.block_count, info.head_count, info.head_count_kv, info.key_length, info.value_length) == (1, 4, 4, 64, 64)
    assert (info.bos_token, info.eos_token, info.chat_template) == ("<|im_end|>", "<|im_end|>", "{{ messages }}")
    assert (info.pooling_type, info.sliding_window) == (None, 0)
    assert info.metadata["general.tags"] == ["a", "b"]
    assert info.metadata["x.many"] == LongArray(600)
    assert info.metadata["llama.attention.layer_norm_rms_epsilon"] == 1e-05


def test_header_agrees_with_the_gguf_package(small: Path) -> None:
    theirs, ours = gguf.GGUFReader(small), read_header(small, with_arrays=True)
    assert {tensor.name: (tensor.type_name, tensor.shape) for tensor in ours.tensors} == {
        tensor.name: (tensor.tensor_type.name, tuple(map(int, tensor.shape))) for tensor in theirs.tensors
    }
    assert ours.parameter_count == sum(int(tensor.n_elements) for tensor in theirs.tensors)
    keys = [key for key in theirs.fields if not key.startswith("GGUF.")]
    assert list(ours.metadata) == keys
    for key in keys:
        assert ours.metadata[key] == pytest.approx(theirs.fields[key].contents()), key


def test_tables_agree_with_the_gguf_package() -> None:
    sizes = {int(kind): (kind.name, *size) for kind, size in gguf.GGML_QUANT_SIZES.items()}
    assert {kind: TENSOR_TYPES[kind] for kind in sizes.keys() & TENSOR_TYPES.keys()} == {
        kind: sizes[kind] for kind in sizes.keys() & TENSOR_TYPES.keys()
    }
    for number, name in FILE_TYPES.items():
        assert gguf.LlamaFileType(number).name.removeprefix("MOSTLY_").removeprefix("ALL_").removesuffix("_MOE") == name


def test_random_model_of_another_architecture_is_read(tmp_path: Path) -> None:
    info = read_info(write_random(tmp_path / "g.gguf", arch="gemma3", window=64))
    assert (info.architecture, info.sliding_window, info.key_length) == ("gemma3", 64, 16)


def test_kv_heads_that_differ_by_layer_are_averaged_upwards(tmp_path: Path) -> None:
    info = read_info(write_scripted(tmp_path / "a.gguf", "x", metadata={"llama.attention.head_count_kv": [4, 0, 0]}))
    assert info.head_count_kv == 2


KEYS = [
    "general.architecture",
    "general.file_type",
    "llama.context_length",
    "llama.embedding_length",
    "llama.block_count",
    "llama.vision.block_count",
    "llama.audio.block_count",
    "llama.attention.head_count",
    "llama.attention.head_count_kv",
    "llama.attention.key_length",
    "llama.attention.value_length",
    "llama.attention.sliding_window",
    "llama.pooling_type",
    "tokenizer.ggml.model",
    "tokenizer.ggml.tokens",
    "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.bos_token_id",
    "tokenizer.ggml.eos_token_id",
    "tokenizer.chat_template",
]
COUNTS = [
    "parameter_count",
    "context_length",
    "embedding_length",
    "block_count",
    "vision_block_count",
    "audio_block_count",
    "vocabulary_size",
    "head_count",
    "head_count_kv",
    "key_length",
    "value_length",
    "sliding_window",
]
SCALAR = st.one_of(
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.integers(0, 64),
    st.floats(),
    st.booleans(),
    st.text(max_size=20),
)
VALUE = st.one_of(SCALAR, st.lists(SCALAR, max_size=4), st.builds(LongArray, st.integers(513, 1 << 60)))


@settings(max_examples=500, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), VALUE, max_size=6))
def test_metadata_of_any_kind_is_plain_values_or_an_error_that_names_a_key(values: dict[str, Any]) -> None:
    metadata = {"general.architecture": "llama", **values}
    try:
        info = GgufInfo.of(GgufHeader(metadata, (), {1: "<s>", 2: "</s>"}))
    except GgufError as exc:
        refusal = str(exc)
    else:
        refusal = ""
    if refusal:
        assert any(repr(key) in refusal for key in values)
        return
    for count in COUNTS:
        value = getattr(info, count)
        assert type(value) is int
        assert 0 <= value < 1 << 32 or count == "vocabulary_size"
    for text in ("architecture", "file_type", "bos_token", "eos_token", "parameter_size"):
        assert type(getattr(info, text)) is str
    assert type(info.adds_bos) is bool
    assert info.pooling_type is None or type(info.pooling_type) is int
    assert info.chat_template is None or info.chat_template.strip()


@pytest.mark.parametrize(
    ("architecture", "pooling_type", "tensor", "wanted"),
    [
        ("bert", 4, "cls.output.weight", True),
        ("qwen3", 4, "cls.output.weight", True),
        ("jina-bert-v2", 4, "cls.weight", True),
        ("bert", 4, "cls.weight", False),
        ("llama", 4, "output.weight", False),
        ("bert", 2, "cls.output.weight", False),
        ("bert", None, "cls.output.weight", False),
    ],
)
def test_model_ranks_that_pools_so_and_has_a_classifier(
    architecture: str, pooling_type: int | None, tensor: str, wanted: bool
) -> None:
    metadata: dict[str, Any] = {"general.architecture": architecture}
    if pooling_type is not None:
        metadata[f"{architecture}.pooling_type"] = pooling_type
    assert GgufInfo.of(GgufHeader(metadata, (Tensor(tensor, "F16", (1,)),), {})).ranks is wanted


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("llama.context_length", float("inf"), "is inf; it must be a whole number up to 4294967295, or some of them"),
        ("llama.context_length", float("nan"), "is nan; it must be"),
        ("llama.context_length", 1e300, r"is 1e\+300; it must be"),
        ("llama.context_length", -1, "is -1; it must be"),
        ("llama.block_count", "many", "is 'many'; it must be"),
        ("llama.attention.head_count", [], r"is \[\]; it must be"),
        ("llama.attention.head_count", LongArray(600), "is an array of 600 items; it must be"),
        ("general.file_type", [1], r"is \[1\]; it must be a whole number$"),
        ("general.architecture", 7, "is 7; it must be a text$"),
        ("llama.pooling_type", "mean", "is 'mean'; it must be a whole number$"),
        ("tokenizer.ggml.add_bos_token", 1, "is 1; it must be true or false$"),
        ("tokenizer.chat_template", ["x"] * 512, r"is \['x', 'x', .*; it must be a text$"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_value_of_another_kind_is_refused_with_its_key(key: str, value: object, text: str) -> None:
    metadata = {"general.architecture": "llama", key: value}
    with pytest.raises(GgufError, match=f"^damaged GGUF: '{key}' {text}"):
        GgufInfo.of(GgufHeader(metadata, (), {}))


def test_whole_number_that_is_written_as_a_float_is_one(tmp_path: Path) -> None:
    path = write_scripted(tmp_path / "a.gguf", "x", metadata={"llama.context_length": 2048.0})
    assert read_info(path).context_length == 2048


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1, exclude_max=True))
def test_truncated_file_is_refused_wherever_it_ends(small: Path, part: float) -> None:
    data = small.read_bytes()
    cut = small.with_suffix(f".{part}.cut")
    cut.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(GgufError, match=r"truncated|empty|not a GGUF"):
        read_header(cut)
    cut.unlink()


def test_header_that_is_cut_at_any_byte_is_refused(small: Path, tmp_path: Path) -> None:
    data = small.read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in [*range(200), *range(200, 12_000, 37)]:
        cut.write_bytes(data[:length])
        with pytest.raises(GgufError):
            read_header(cut)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_header_is_read_or_refused_but_never_crashes(small: Path, data: st.DataObject) -> None:
    content = bytearray(small.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 9_000))] = data.draw(st.integers(0, 255))
    damaged = small.with_suffix(".damaged")
    damaged.write_bytes(content)
    with suppress(GgufError):
        read_header(damaged)


HOSTILE: list[tuple[str, bytes, str]] = [
    ("empty", b"", "it is empty"),
    ("other magic", b"GGML" + bytes(20), "begins with b'GGML'"),
    ("html", b"<!DOCTYPE html>", "not a GGUF"),
    ("version 1", header(version=1), "version 1 is not supported"),
    ("big-endian", b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    ("many keys", header(keys=1 << 60), "claims"),
    ("many tensors", header(tensors=1 << 60), "claims"),
    ("long key", header(keys=1, rest=struct.pack("<Q", 1 << 62)), "claims a text of"),
    ("unknown type", header(keys=1, rest=text("k") + struct.pack("<I", 99)), "unknown type 99"),
    ("array in array", header(keys=1, rest=text("k") + struct.pack("<IIQ", 9, 9, 1)), "array of the unknown type 9"),
    ("long array", header(keys=1, rest=text("k") + struct.pack("<IIQ", 9, 4, 1 << 61)), "more than are left"),
    ("long array of texts", header(keys=1, rest=text("k") + struct.pack("<IIQ", 9, 8, 1 << 61)), "more than are left"),
    ("dimensions", header(tensors=1, rest=text("t") + struct.pack("<I", 1 << 30)), "dimensions"),
    ("huge tensor", header(tensors=1, rest=text("t") + struct.pack("<IQQIQ", 2, 1 << 62, 1 << 62, 0, 0)), "truncated"),
    ("far tensor", header(tensors=1, rest=text("t") + struct.pack("<IQIQ", 1, 4, 0, 1 << 62)), "truncated"),
    ("odd rows", header(tensors=1, rest=text("t") + struct.pack("<IQIQ", 1, 33, 2, 0)), "not a multiple of 32"),
]


@pytest.mark.parametrize(("content", "complaint"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_hostile_file_is_refused_with_the_reason(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(GgufError, match=complaint):
        read_header(path)


def test_big_vocabulary_is_read_fast_and_without_heavy_libraries(tmp_path: Path) -> None:
    path = write_random(tmp_path / "big.gguf", vocab=262_144, width=8, heads=1, kv_heads=1, layers=1, ff=8)
    fastest = min(_timed(lambda: read_header(path)) for _ in range(3))
    assert fastest < 0.2  # 0.04 s on the machine this was written on
    code = "import sys, corral.store; sys.exit(bool({'numpy', 'gguf'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def test_info_is_read_again_when_the_file_changes(tmp_path: Path) -> None:
    path = write_scripted(tmp_path / "a.gguf", "x", context=1024)
    before = read_info(path)
    assert read_info(path) is before
    write_scripted(path, "x y z", context=2048)
    assert read_info(path).context_length == 2048


@pytest.mark.parametrize(("value", "wanted"), [(9.999999747378752e-06, 1e-05), (0.10000000149011612, 0.1), (3.0, 3.0)])
def test_shortest_is_the_decimal_that_was_meant(value: float, wanted: float) -> None:
    assert shortest(value) == wanted


@settings(deadline=None)
@given(st.floats(width=32, allow_nan=False))
def test_shortest_is_the_same_32_bit_float(value: float) -> None:
    assert struct.pack("<f", shortest(value)) == struct.pack("<f", value)


@pytest.mark.parametrize(
    ("count", "wanted"), [(0, "0"), (999, "999"), (430_592, "431K"), (1_375_744, "1.38M"), (22_565_376, "22.57M")]
)
def test_human_count_is_as_on_model_cards(count: int, wanted: str) -> None:
    assert human_count(count) == wanted
