"""What a worker does where it may not: grow beyond its limit, and read a text that llama.cpp refuses."""

import asyncio
from pathlib import Path

import pytest

from corral.core.errors import EngineError
from corral.core.types import LoadSpec
from corral.engine import KV_BYTES_PER_VALUE
from corral.engine.llamacpp.worker.native.binding import KV_TYPES
from corral.engine.llamacpp.worker.words import tokenized
from corral.wire.link import CallFailed, Tokenize, Tokens
from tests.support.gguf_files import write_random
from tests.support.live_engine import ask, launched
from tests.support.toy_engine import ToyWords

MIB = 1 << 20
LONG = "x" * 6000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random(tmp_path_factory.mktemp("gguf") / "random.gguf", context=8192, width=128, layers=4)


async def test_memory_grows_to_its_limit_and_further_when_the_limit_is_lifted(model: Path) -> None:
    async with launched(model, n_ctx=8192, n_parallel=8) as engine:
        changed = asyncio.Event()
        engine.on_change = changed.set
        before_bytes = engine.info.size_bytes
        engine.set_limit(before_bytes + MIB)
        with pytest.raises(EngineError, match="not enough memory for a context of 6"):
            await ask(engine, LONG, num_ctx=8192, num_predict=2)
        async with asyncio.TaskGroup() as tasks:  # what there is serves them in turn
            for number in range(8):
                tasks.create_task(ask(engine, f"hi {number}", num_predict=3))
        assert engine.info.size_bytes < before_bytes + 2 * MIB
        engine.set_limit(0)
        changed.clear()
        assert (await ask(engine, LONG, num_ctx=8192, num_predict=2)).finish.eval_tokens == 2
        assert changed.is_set()
        assert engine.info.size_bytes > before_bytes + 5 * MIB


async def test_limit_at_load_bounds_how_many_run_at_once(model: Path) -> None:
    sequence_bytes = 8192 * 4 * 2 * 64 * 2  # two heads of the four have cells
    limit_bytes = 64 * MIB + 3 * sequence_bytes
    weights_bytes = 2 * MIB  # or fewer; less than a third of a sequence
    async with launched(model, n_ctx=8192, n_parallel=8, limit_bytes=limit_bytes + weights_bytes) as engine:
        assert engine.info.n_parallel == 3
        assert (await ask(engine, LONG, num_ctx=8192, num_predict=2)).finish.eval_tokens == 2


def test_text_that_cannot_be_tokenized_is_answered_with_the_reason() -> None:
    words = ToyWords()
    assert tokenized(words, Tokenize(1, "ab", add_special=False)) == Tokens(1, [97, 98])
    refusal = tokenized(words, Tokenize(2, "a\nb", add_special=False))
    assert refusal == CallFailed(2, "llama.cpp cannot tokenize a text of 3 bytes")


def test_every_type_of_cells_has_a_size() -> None:
    assert set(KV_TYPES) == set(KV_BYTES_PER_VALUE)
    assert LoadSpec(model_path="", n_ctx=1, n_parallel=1).kv_cache_type in KV_TYPES
