"""`python -m corral.engine.llamacpp.errands.convert_adapter FOLDER BASE TARGET`: a GGUF of a PEFT LoRA adapter.

The pairs of matrices keep their values; names become those of llama.cpp, and where the base model's rows were reordered when
it was converted, the adapter's are too. What cannot be carried over is an error, never left out.
Source: llama.cpp convert_lora_to_gguf.py, and conversion/llama.py for the order of rows.
"""

import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
import numpy.typing as npt

from corral.engine.llamacpp.errands.errand_child import end_with_server
from corral.store import GgufInfo, read_info, read_safetensors

_ROWS_REORDERED: Final = frozenset({"llama"})  # attention rows of half a head each, interleaved when it was converted
_ROWS_KEPT: Final = frozenset({"qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3", "starcoder2"})
_PAIR: Final = re.compile(r"(?:base_model\.model\.)?(.+?)(?:\.base_layer)?\.lora_([AB])(?:\.default)?\.weight")
_NUMPY: Final = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
_NOT_CARRIED: Final = ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "lora_bias")
_NICE: Final = 5
Matrix = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Config:
    """What adapter_config.json says that matters here."""

    alpha: float
    uses_root_of_rank: bool

    @classmethod
    def read(cls, path: Path) -> "_Config":
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict) or found.get("peft_type", "LORA") != "LORA":
            raise ValueError("adapter_config.json is not that of a LoRA adapter")
        for key in _NOT_CARRIED:
            if found.get(key):
                raise ValueError(f"the adapter uses {key}, which a GGUF adapter cannot have")
        if type(found.get("lora_alpha")) not in (int, float):
            raise ValueError("adapter_config.json has no number as lora_alpha")
        return cls(float(found["lora_alpha"]), bool(found.get("use_rslora")))


class _Names:
    """The base model's tensors, by what Hugging Face calls them."""

    def __init__(self, base: GgufInfo) -> None:
        self._base = base
        arch = next((key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == base.architecture), None)
        if arch is None or base.architecture not in _ROWS_REORDERED | _ROWS_KEPT:
            raise ValueError(
                f"adapters for {base.architecture} are not converted here; "
                "convert it with llama.cpp's convert_lora_to_gguf.py and give the GGUF"
            )
        self._map = gguf.get_tensor_name_map(arch, base.block_count)

    def tensor(self, module: str) -> str:
        name = self._map.get_name(f"{module}.weight", try_suffixes=(".weight",))
        if name is None:
            raise ValueError(f"the adapter is for {module!r}, which a {self._base.architecture} model does not have")
        return str(name)

    def rows(self, tensor: str, matrix: Matrix) -> Matrix:
        """The matrix with its rows in the order in which the base model has them."""
        heads = {"attn_q": self._base.head_count, "attn_k": self._base.head_count_kv}.get(tensor.split(".")[-2], 0)
        if not heads or self._base.architecture not in _ROWS_REORDERED:
            return matrix
        if matrix.shape[0] % (2 * heads):
            raise ValueError(f"{tensor} has {matrix.shape[0]} rows in the adapter, which does not fit {heads} heads")
        return matrix.reshape(heads, 2, -1, matrix.shape[1]).swapaxes(1, 2).reshape(matrix.shape)


def _matrices(path: Path) -> dict[str, Matrix]:
    header = read_safetensors(path)
    data = np.memmap(path, mode="r", offset=header.data_start)
    found: dict[str, Matrix] = {}
    for name, tensor in header.tensors.items():
        if tensor.dtype not in _NUMPY or len(tensor.shape) != 2:
            raise ValueError(f"{name!r} is {tensor.dtype} of {len(tensor.shape)} dimensions; an adapter has matrices of floats")
        values = data[tensor.begin : tensor.end].view(_NUMPY[tensor.dtype]).reshape(tensor.shape)
        found[name] = (values.astype(np.uint32) << 16).view(np.float32) if tensor.dtype == "BF16" else values
    return found


def _pairs(matrices: dict[str, Matrix]) -> dict[str, tuple[Matrix, Matrix]]:
    """The two matrices of each module. Raises ValueError for a tensor that is none of them, or has lost its other half."""
    halves: dict[str, dict[str, Matrix]] = {}
    for name, matrix in matrices.items():
        found = _PAIR.fullmatch(name)
        if not found:
            raise ValueError(f"the adapter has a tensor that is no LoRA matrix: {name!r}")
        halves.setdefault(found[1], {})[found[2]] = matrix
    for module, pair in halves.items():
        if len(pair) != 2 or pair["A"].shape[0] != pair["B"].shape[1]:
            raise ValueError(f"the adapter's matrices for {module!r} do not belong together")
    if not halves:
        raise ValueError("the adapter is empty")
    return {module: (pair["A"], pair["B"]) for module, pair in halves.items()}


def convert(folder: Path, base: Path, target: Path) -> None:
    """Raises ValueError and OSError."""
    config = _Config.read(folder / "adapter_config.json")
    pairs = _pairs(_matrices(folder / "adapter_model.safetensors"))
    info = read_info(base)
    names = _Names(info)
    ranks = {a.shape[0] for a, _ in pairs.values()}
    if config.uses_root_of_rank and len(ranks) > 1:
        raise ValueError("the adapter has several ranks and use_rslora, which a GGUF adapter cannot have together")
    out = gguf.GGUFWriter(target, info.architecture)
    out.add_type("adapter")
    out.add_string("adapter.type", "lora")
    out.add_float32("adapter.lora.alpha", config.alpha * (max(ranks) ** 0.5 if config.uses_root_of_rank else 1.0))
    for module, (a, b) in pairs.items():
        tensor = names.tensor(module)
        out.add_tensor(f"{tensor}.lora_a", np.ascontiguousarray(a))
        out.add_tensor(f"{tensor}.lora_b", np.ascontiguousarray(names.rows(tensor, b)))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def main(arguments: list[str]) -> int:
    folder, base, target = map(Path, arguments)
    end_with_server()
    os.nice(_NICE)
    convert(folder, base, target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
