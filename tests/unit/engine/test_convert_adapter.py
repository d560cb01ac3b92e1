"""PEFT adapters as GGUFs: the matrices, their names, the order of rows, and what is refused. In this process."""

import json
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from corral.core.errors import CorralError
from corral.engine.llamacpp.errands.convert_adapter import convert
from corral.store import read_header
from tests.support.gguf_files import write_random, write_scripted

WIDTH, HEADS, KV_HEADS, RANK = 64, 4, 2, 4
MODULE = "base_model.model.model.layers.{}.{}"
Matrix = npt.NDArray[Any]
_DTYPES = {"float32": "F32", "float16": "F16", "uint16": "BF16", "int32": "I32"}


def write_adapter(folder: Path, tensors: dict[str, Matrix], **config: object) -> Path:
    folder.mkdir(exist_ok=True)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, matrix in tensors.items():
        begin, data = len(data), data + matrix.tobytes()
        header[name] = {"dtype": _DTYPES[matrix.dtype.name], "shape": matrix.shape, "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": 8, **config}))
    return folder


def pair(module: str, rows: int = WIDTH, columns: int = WIDTH, rank: int = RANK, dtype: str = "float32") -> dict[str, Matrix]:
    made = np.random.default_rng(len(module)).standard_normal
    return {
        f"{module}.lora_A.weight": made((rank, columns)).astype(dtype),
        f"{module}.lora_B.weight": made((rows, rank)).astype(dtype),
    }


def converted(
    tmp_path: Path, base: Path, tensors: dict[str, Matrix], **config: object
) -> tuple[dict[str, Any], dict[str, Matrix]]:
    target = tmp_path / "adapter.gguf"
    convert(write_adapter(tmp_path / "adapter", tensors, **config), base, target)
    found = {tensor.name: np.array(tensor.data).reshape(tensor.shape[::-1]) for tensor in gguf.GGUFReader(target).tensors}
    return dict(read_header(target).metadata), found


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random(tmp_path_factory.mktemp("base") / "a.gguf", width=WIDTH, heads=HEADS, kv_heads=KV_HEADS)


def test_names_alpha_and_values_are_carried_over(tmp_path: Path, llama: Path) -> None:
    tensors = pair(MODULE.format(0, "mlp.up_proj"), rows=128) | pair(
        MODULE.format(1, "self_attn.v_proj"), rows=32, dtype="float16"
    )
    metadata, found = converted(tmp_path, llama, tensors)
    assert {key: metadata[key] for key in ("general.type", "general.architecture", "adapter.type", "adapter.lora.alpha")} == {
        "general.type": "adapter",
        "general.architecture": "llama",
        "adapter.type": "lora",
        "adapter.lora.alpha": 8.0,
    }
    assert set(found) == {f"blk.{name}.weight.lora_{half}" for name in ("0.ffn_up", "1.attn_v") for half in "ab"}
    assert found["blk.0.ffn_up.weight.lora_a"].shape == (RANK, WIDTH)
    assert np.array_equal(found["blk.0.ffn_up.weight.lora_b"], tensors[MODULE.format(0, "mlp.up_proj.lora_B.weight")])
    assert found["blk.1.attn_v.weight.lora_a"].dtype == np.float16


@pytest.mark.parametrize(("projection", "tensor", "heads"), [("q_proj", "attn_q", HEADS), ("k_proj", "attn_k", KV_HEADS)])
def test_rows_of_a_llama_are_in_the_order_of_its_weights(
    tmp_path: Path, llama: Path, projection: str, tensor: str, heads: int
) -> None:
    rows = WIDTH // HEADS * heads
    module = MODULE.format(0, f"self_attn.{projection}")
    tensors = pair(module, rows=rows)
    _, found = converted(tmp_path, llama, tensors)
    a, b = tensors[f"{module}.lora_A.weight"], tensors[f"{module}.lora_B.weight"]
    delta = found[f"blk.0.{tensor}.weight.lora_b"] @ found[f"blk.0.{tensor}.weight.lora_a"]
    head = rows // heads
    for row in range(rows):  # row i of the first half of a head comes to 2i, of the second to 2i + 1
        at, within = divmod(row, head)
        half, index = divmod(within, head // 2)
        assert np.allclose(delta[at * head + 2 * index + half], (b @ a)[row], atol=1e-5)


def test_bfloat16_becomes_float32(tmp_path: Path, llama: Path) -> None:
    ones = np.full((RANK, WIDTH), 0x3F80, np.uint16)
    name = MODULE.format(0, "self_attn.o_proj")
    tensors = {f"{name}.lora_A.weight": ones, f"{name}.lora_B.weight": ones.T.copy()}
    _, found = converted(tmp_path, llama, tensors)
    assert found["blk.0.attn_output.weight.lora_a"].dtype == np.float32
    assert (found["blk.0.attn_output.weight.lora_a"] == 1).all()


def test_rank_stabilised_adapter_keeps_its_scale(tmp_path: Path, llama: Path) -> None:
    metadata, _ = converted(tmp_path, llama, pair(MODULE.format(0, "mlp.down_proj"), columns=128), use_rslora=True)
    assert metadata["adapter.lora.alpha"] / RANK == pytest.approx(8 / RANK**0.5)


GOOD = pair(MODULE.format(0, "mlp.up_proj"), rows=128)
HALF = dict(list(GOOD.items())[:1])
REFUSED: dict[str, tuple[dict[str, Matrix], dict[str, object], str]] = {
    "empty": ({}, {}, "the adapter is empty"),
    "half": (HALF, {}, "do not belong together"),
    "ranks-differ": (GOOD | {next(iter(GOOD)): np.zeros((2, WIDTH), np.float32)}, {}, "do not belong together"),
    "other-tensor": ({"model.norm.weight": np.zeros((2, 2), np.float32)}, {}, "is no LoRA matrix: 'model.norm.weight'"),
    "integers": ({next(iter(GOOD)): np.zeros((2, 2), np.int32)}, {}, "is I32 of 2 dimensions"),
    "vector": ({next(iter(GOOD)): np.zeros(2, np.float32)}, {}, "is F32 of 1 dimensions"),
    "unknown-module": (pair(MODULE.format(0, "nose")), {}, "which a llama model does not have"),
    "rows-do-not-fit": (pair(MODULE.format(0, "self_attn.q_proj"), rows=63), {}, "does not fit 4 heads"),
    "dora": (GOOD, {"use_dora": True}, "uses use_dora"),
    "saved-modules": (GOOD, {"modules_to_save": ["lm_head"]}, "uses modules_to_save"),
    "ranks-by-pattern": (GOOD, {"rank_pattern": {"q_proj": 2}}, "uses rank_pattern"),
    "not-lora": (GOOD, {"peft_type": "IA3"}, "not that of a LoRA adapter"),
    "no-alpha": (GOOD, {"lora_alpha": None}, "no number as lora_alpha"),
    "alpha-text": (GOOD, {"lora_alpha": "8"}, "no number as lora_alpha"),
    "two-ranks-stabilised": (
        GOOD | pair(MODULE.format(1, "mlp.up_proj"), rows=128, rank=2),
        {"use_rslora": True},
        "several ranks",
    ),
}


@pytest.mark.parametrize(("tensors", "config", "text"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_carried_over_is_refused(
    tmp_path: Path, llama: Path, tensors: dict[str, Matrix], config: dict[str, object], text: str
) -> None:
    with pytest.raises((ValueError, CorralError), match=text):
        converted(tmp_path, llama, tensors, **config)


def test_other_architectures_are_refused_with_the_way_out(tmp_path: Path) -> None:
    base = write_scripted(tmp_path / "base.gguf", "Hi!", arch="mamba")
    with pytest.raises(ValueError, match=r"adapters for mamba are not converted here; .*convert_lora_to_gguf\.py"):
        converted(tmp_path, base, GOOD)
