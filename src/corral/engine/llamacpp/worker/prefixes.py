"""The prefix cache below KV memory for one loaded model: how much it may take, and what its bytes depend on. Worker side."""

import hashlib
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import llama_cpp
import llama_cpp.llama_cpp as api

from corral.core.machine_memory import available_bytes
from corral.core.types import LoadSpec
from corral.engine.llamacpp.worker.allowance import Allowance
from corral.engine.llamacpp.worker.cache.disk import Disk
from corral.engine.llamacpp.worker.cache.private import UntrustedError
from corral.engine.llamacpp.worker.cache.shelf import Shelf
from corral.engine.llamacpp.worker.cache.tiers import Tiers
from corral.engine.llamacpp.worker.native.binding import Model
from corral.engine.llamacpp.worker.native.devices import devices

log: Final = logging.getLogger(__name__)
_SHARE: Final = 0.25  # of the memory that would be free without it, unless the spec says how much
_MOST_SHARE: Final = 0.9  # of it, whatever the spec says
_FORMAT: Final = "1"  # of the files; one that has another finds nothing
_FOLDER: Final = "corral-kv"  # in the operator's folder, where other things may be
_BLOB: Final = re.compile(r"sha256[-:][0-9a-f]{64}")
_DIGEST_BYTES: Final = 16


def make_tiers(model: Model, spec: LoadSpec, allowance: Allowance) -> Tiers | None:
    """None where the spec says that it may have no memory. What it takes counts against the allowance."""
    if not spec.kv_ram_bytes:
        return None
    identity = _identity(spec)
    disk: Disk | None = None
    if spec.kv_dir and spec.kv_disk_bytes > 0:
        disk = _disk(Path(spec.kv_dir) / _FOLDER, identity, spec.kv_disk_bytes)
    tiers = Tiers(
        budget_bytes=lambda: budget_bytes(),
        can_drop=not model.keeps_state,
        window=model.window,
        identity=identity,
        disk=disk,
    )
    before = allowance.taken_bytes
    allowance.taken_bytes = lambda: before() + tiers.size_bytes
    budget_bytes = _budget(spec, allowance, tiers)
    return tiers


def _disk(folder: Path, identity: bytes, budget_bytes: int) -> Disk | None:
    """None where others have or may change what is there; other errors may pass."""
    shelf = Shelf(folder, identity, budget_bytes=budget_bytes)
    try:
        shelf.check()
    except UntrustedError as error:
        log.warning("the prefix cache is kept in RAM only: %s", error)
        return None
    except OSError as error:
        log.warning("the prefix cache cannot be read from disk: %s", error)
    return Disk(shelf, budget_bytes=budget_bytes)


def _budget(spec: LoadSpec, allowance: Allowance, tiers: Tiers) -> Callable[[], int]:
    def budget_bytes() -> int:
        could_have = max(0, tiers.size_bytes + allowance.left_of(available_bytes()))
        if spec.kv_ram_bytes < 0:
            return int(could_have * _SHARE)
        return min(spec.kv_ram_bytes, int(could_have * _MOST_SHARE))

    return budget_bytes


def _identity(spec: LoadSpec) -> bytes:
    """A digest of all that the bytes of a block depend on, but its tokens and their kind.

    That is the model and what is applied to it; the types of the cells and how they lie, which flash attention decides; and
    who computes: llama.cpp's version, what it was built for, and the devices.
    """
    parts = [
        _FORMAT,
        llama_cpp.__version__,
        api.llama_print_system_info().decode(errors="replace"),
        *map(str, devices()),
        str((spec.num_gpu, spec.main_gpu)),
        spec.kv_cache_type,
        str(spec.flash_attention),
        "model",
        _file_identity(spec.model_path),
        "adapters",
        *map(_file_identity, spec.adapter_paths),
        "projectors",
        *map(_file_identity, spec.projector_paths),
    ]
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=_DIGEST_BYTES).digest()


def _file_identity(path: str) -> str:
    """The digest that a store has named the file by; of any other file where it is, its size and when it was written."""
    name = Path(path).name
    if _BLOB.fullmatch(name):
        return name
    status = Path(path).stat()
    return f"{Path(path).resolve()} {status.st_size} {status.st_mtime_ns}"
