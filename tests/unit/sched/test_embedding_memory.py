"""What a model that makes embeddings is thought to take."""

from pathlib import Path

from corral.sched.placement import needed_bytes
from corral.store import read_info
from tests.support.gguf_bert import random_bert, vocabulary, write_bert
from tests.support.gguf_files import write_random

MIB = 1 << 20


def test_embedding_model_has_no_cells_but_outputs(tmp_path: Path) -> None:
    info = read_info(write_bert(tmp_path / "bert.gguf", random_bert()))
    assert info.vocabulary_size == len(vocabulary())
    need_bytes = needed_bytes(info, 10 * MIB, n_ctx=1 << 20, kv_cache_type="f16")
    assert need_bytes == 74 * MIB + 256 * 4 * len(vocabulary())


def test_outputs_of_a_large_vocabulary_are_bounded(tmp_path: Path) -> None:
    path = write_random(tmp_path / "wide.gguf", vocab=600_000, width=8, heads=1, kv_heads=1, metadata={"llama.pooling_type": 3})
    info = read_info(path)
    assert info.vocabulary_size == 600_000
    assert needed_bytes(info, 0, n_ctx=4096, kv_cache_type="f16") == (256 + 64) * MIB
