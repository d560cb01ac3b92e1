"""How much memory the processes of a server take beside the model's weights and its KV cache.

Counted is the proportional set size of the server and of all that descends from it, so that what several share counts once.
From that go the size of the model's file, and llama.cpp's own figures for the KV memory of its newest context, which stand in
the server's log when it is told to write much. What llama.cpp makes of weights to compute quicker, a second copy, stays in.
"""

import re
from pathlib import Path
from typing import Final

from servers import tree

_CONTEXT: Final = re.compile(r"llama_context: n_seq_max +=")  # the first thing that is said of a new one
_CELLS: Final = re.compile(r"(?:KV|RS) buffer size += +([\d.]+) MiB")


def beyond_mb(pid: int, gguf: Path, log: Path) -> float:
    """In millions of bytes."""
    return (_resident_bytes(pid) - gguf.stat().st_size - _cells_bytes(log.read_text(errors="replace"))) / 1e6


def _resident_bytes(pid: int) -> int:
    infos = [process.memory_full_info() for process in tree(pid)]
    return sum(getattr(info, "pss", info.rss) for info in infos)  # only Linux tells shares


def _cells_bytes(log: str) -> int:
    """KV memory and recurrent states of the context that was made last.

    >>> _cells_bytes("llama_context: n_seq_max = 2\\nCPU KV buffer size = 9 MiB\\n"
    ...     "llama_context: n_seq_max = 4\\nCPU KV buffer size = 1.5 MiB\\nCPU KV buffer size = 0.5 MiB")
    2097152
    """
    newest = _CONTEXT.split(log)[-1]
    if not (sizes := _CELLS.findall(newest)):
        raise RuntimeError("the server's log tells nothing of its KV memory")
    return int(sum(map(float, sizes)) * (1 << 20))
