"""What a model that sees is thought to take."""

from pathlib import Path

from corral.sched.placement import needed_bytes
from tests.support.models import make_model

MIB = 1 << 20


def test_a_projector_counts_with_what_it_computes_in(tmp_path: Path) -> None:
    info = make_model(tmp_path, "m").gguf
    bare = needed_bytes(info, 10 * MIB, n_ctx=2048, kv_cache_type="f16")
    seeing = needed_bytes(info, 10 * MIB, n_ctx=2048, kv_cache_type="f16", projector_bytes=5 * MIB)
    assert seeing == bare + (5 + 256) * MIB
