"""Does a model fit: what it will need, what there is, and who must go so that it fits.

A model takes of the GPUs what they can hold, and the rest of it of the machine's memory. An estimate decides only whom to
evict and whether to try; the engine itself measures what it took. Nothing is changed here; the scheduler acts.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Protocol

import psutil

from corral.core.errors import ModelLoadError
from corral.core.settings import Settings
from corral.engine import COMPUTE_BYTES, ENCODER_BYTES, GPU_SHARE, KV_BYTES_PER_VALUE
from corral.sched.runner import Runner
from corral.store import GgufInfo

_EMBED_TOKENS: Final = 256  # of texts in one step of a model that makes embeddings; it takes more when a longer text comes
_EMBED_BYTES: Final = 256 << 20  # for what comes of them, at most: with a large vocabulary they are fewer
DEFAULT_CONTEXT: Final = 4096
LEAST_CONTEXT_WITH_IMAGES: Final = 2048  # Source: ollama@v0.32 server/sched.go, GetRunner
DEFAULT_PARALLEL: Final = 16


class Memory(Protocol):
    """The memory that models may use."""

    def available_bytes(self) -> int:
        """The machine's own memory that is free now."""
        ...

    def gpu_bytes(self) -> int:
        """What all models together may take of the GPUs; 0 where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class SystemMemory:
    """This machine's memory. How large its GPUs are is the engine's to know."""

    gpu_total_bytes: Callable[[], int] = lambda: 0

    def available_bytes(self) -> int:
        return int(psutil.virtual_memory().available)

    def gpu_bytes(self) -> int:
        return int(self.gpu_total_bytes() * GPU_SHARE)


class Placement:
    """Decides about one runner that is to be loaded, beside `others` that hold memory or are about to."""

    def __init__(self, memory: Memory, settings: Settings) -> None:
        self._memory = memory
        self._budget_bytes = settings.memory_budget_bytes
        self._max_loaded = settings.max_loaded_models

    def fits(self, runner: Runner, others: Collection[Runner], gone: Collection[Runner] = ()) -> bool:
        """Would there be room for it if those of the others that are in `gone` were gone?"""
        stay = [r for r in others if r not in gone]
        if 0 < self._max_loaded <= len(stay):
            return False
        if self._budget_bytes and runner.reserved_bytes > self._budget_bytes - sum(r.reserved_bytes for r in stay):
            return False
        gpu_bytes, ram_bytes = self._split(runner)
        gpu_free = self._memory.gpu_bytes() - sum(self._split(r)[0] for r in stay)
        return gpu_bytes <= gpu_free and ram_bytes <= self._ram_free(stay, gone)

    def in_the_way(self, runner: Runner, others: Collection[Runner], *, spares_busy: bool = True) -> list[Runner]:
        """The runners to close, idle ones and least keep-alive left first, and no more of them than it takes.

        None of them where what closes already is enough, or where more would have to end than may: nobody is evicted in
        vain. With `spares_busy` only idle ones may. Raises ModelLoadError where even closing all the others would not make
        room.
        """
        if not self.fits(runner, others, gone=others):
            raise self._refusal(runner, others)
        going = [r for r in others if r.is_going or (r.is_retired and not spares_busy)]
        may_go = [r for r in others if r not in going and (r.is_idle or (r.state == "ready" and not spares_busy))]
        chosen = sorted(may_go, key=lambda r: (r.is_idle, -r.remaining_s))
        if not self.fits(runner, others, gone=[*going, *chosen]):
            return []
        for spared in list(chosen):  # busy ones, then those with most keep-alive left, have the first chance to stay
            rest = [r for r in chosen if r is not spared]
            if self.fits(runner, others, gone=[*going, *rest]):
                chosen = rest
        return chosen[::-1]

    def limit_bytes(self, runner: Runner, others: Collection[Runner]) -> int:
        """What it may grow to beside the others, so that all together stay within the budget; 0 without one.

        What nobody has reserved is shared out evenly.
        """
        if not self._budget_bytes:
            return 0
        spare_bytes = self._budget_bytes - runner.reserved_bytes - sum(r.reserved_bytes for r in others)
        return runner.reserved_bytes + max(0, spare_bytes) // (1 + len(others))

    def _split(self, runner: Runner) -> tuple[int, int]:
        """What it takes on GPUs, and in the machine's own memory."""
        need_bytes = runner.need_bytes
        if runner.engine:
            gpu_bytes = min(runner.engine.info.vram_bytes, need_bytes)
        else:
            gpu_bytes = min(need_bytes, self._memory.gpu_bytes()) if runner.spec.num_gpu else 0
        return gpu_bytes, need_bytes - gpu_bytes

    def _ram_free(self, stay: Collection[Runner], gone: Collection[Runner]) -> int:
        """What is free now counts those that are loaded, and not those that are still loading.

        Who goes gives back its cache of prompts too. The caches of those who stay are not counted on: they give way to a lower
        limit, but not before the load begins.
        """
        coming = sum(self._split(r)[1] + r.engine.info.cache_bytes for r in gone if r.engine)
        return self._memory.available_bytes() + coming - sum(self._split(r)[1] for r in stay if not r.engine)

    def _refusal(self, runner: Runner, others: Collection[Runner]) -> ModelLoadError:
        most = self._split(runner)[0] + self._ram_free((), others)
        if self._budget_bytes:
            most = min(most, self._budget_bytes)
        return ModelLoadError(
            f"model requires more system memory ({_gib(runner.need_bytes)}) than is available ({_gib(most)}); "
            "use a smaller model or a smaller num_ctx, or free memory"
        )


def kv_bytes_per_token(gguf: GgufInfo, kv_cache_type: str) -> float:
    """KV memory that one token takes in all layers, in bytes."""
    per_value = KV_BYTES_PER_VALUE.get(kv_cache_type, 2.0)  # a type that is none is the engine's to refuse
    values = gguf.head_count_kv * (gguf.key_length + gguf.value_length)
    return gguf.block_count * values * per_value


def needed_bytes(gguf: GgufInfo, file_bytes: int, *, n_ctx: int, kv_cache_type: str, projector_bytes: int = 0) -> int:
    """Memory for the weights, the KV cells of one full sequence, and the compute buffers; and for a projector's the same.

    A model that makes embeddings has no use for cells, but for the outputs of a step's tokens.
    """
    if gguf.pooling_type is not None:
        return file_bytes + min(_EMBED_TOKENS * gguf.vocabulary_size * 4, _EMBED_BYTES) + COMPUTE_BYTES
    encoder_bytes = projector_bytes + ENCODER_BYTES if projector_bytes else 0
    return file_bytes + encoder_bytes + int(n_ctx * kv_bytes_per_token(gguf, kv_cache_type)) + COMPUTE_BYTES


def _gib(size_bytes: int) -> str:
    return f"{max(size_bytes, 0) / (1 << 30):.1f} GiB"
