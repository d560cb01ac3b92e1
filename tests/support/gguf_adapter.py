"""Writes LoRA adapters as llama.cpp reads them, for the models of gguf_files.write_random."""

from pathlib import Path

import gguf
import numpy as np

_RANK = 4


def write_adapter(path: Path, *, width: int = 64, layers: int = 2, seed: int = 1, alpha: float = 16.0) -> Path:
    """Of the query weights of all layers, at random."""
    random = np.random.default_rng(seed).standard_normal
    out = gguf.GGUFWriter(path, "llama")
    out.add_type("adapter")
    out.add_string("adapter.type", "lora")
    out.add_float32("adapter.lora.alpha", alpha)
    for layer in range(layers):
        out.add_tensor(f"blk.{layer}.attn_q.weight.lora_a", random((_RANK, width)).astype(np.float32))
        out.add_tensor(f"blk.{layer}.attn_q.weight.lora_b", random((width, _RANK)).astype(np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path
