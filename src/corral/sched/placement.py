"""Does a model fit: what it will need, and what there is.

An estimate decides only whom to evict and whether to try; the engine itself measures what it took.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import psutil

from corral.store import GgufInfo

_KV_BYTES_PER_VALUE: Final = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}
_COMPUTE_BYTES: Final = 64 << 20  # buffers for one batch, and the process around it
_UNBOUNDED: Final = 1 << 60
_CONTEXT_STEP: Final = 256  # llama.cpp pads a context to a multiple of this
DEFAULT_CONTEXT: Final = 4096
DEFAULT_PARALLEL: Final = 16


class Memory(Protocol):
    """The memory that models may use."""

    def available_bytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class SystemMemory:
    """What this machine has free now.

    With a GPU there is no bound: the engine puts on it what fits, and a load that does not fit anywhere fails by itself.
    """

    has_gpu: Callable[[], bool] = lambda: False

    def available_bytes(self) -> int:
        return _UNBOUNDED if self.has_gpu() else int(psutil.virtual_memory().available)


def padded_context(tokens: int) -> int:
    """The context that llama.cpp makes of a wish: at least one step, a whole number of steps."""
    return max(1, -(-tokens // _CONTEXT_STEP)) * _CONTEXT_STEP


def kv_bytes_per_token(gguf: GgufInfo, kv_cache_type: str) -> float:
    """KV memory that one token takes in all layers, in bytes."""
    per_value = _KV_BYTES_PER_VALUE.get(kv_cache_type, 2.0)
    values = gguf.head_count_kv * (gguf.key_length + gguf.value_length)
    return gguf.block_count * values * per_value


def needed_bytes(gguf: GgufInfo, file_bytes: int, *, n_ctx: int, kv_cache_type: str) -> int:
    """Memory for the weights, the KV cells of one full sequence, and the compute buffers."""
    return file_bytes + int(n_ctx * kv_bytes_per_token(gguf, kv_cache_type)) + _COMPUTE_BYTES
