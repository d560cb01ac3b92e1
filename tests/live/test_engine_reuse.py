"""An answer does not depend on what was cached, copied, shifted or computed beside it.

Batches of one token (`num_batch=1`) make kernels compute the same numbers in the same order whatever is reused: so the texts
must be equal, letter by letter.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.core.types import Sampling
from tests.support.gguf_files import write_random
from tests.support.gguf_recurrent import write_mamba
from tests.support.live_engine import Answer, ask, job_of, launched

TEXT = "The quick brown fox jumps over the lazy dog, and the dog dreams of foxes that are slow. " * 2
CHAT = "<|im_start|>user\nWhy is the sky blue? Say it in a few sentences.<|im_end|>\n<|im_start|>assistant\n"


def gemma3(path: Path) -> Path:
    return write_random(path, arch="gemma3", layers=7, window=32)


MODELS = [
    pytest.param(write_random, id="attention"),
    pytest.param(gemma3, id="sliding-window"),
    pytest.param(write_mamba, id="recurrent"),
]


async def fresh(path: Path, prompt: str, num_predict: int = 24) -> Answer:
    async with launched(path, num_batch=1) as engine:
        return await ask(engine, prompt, num_predict=num_predict)


@pytest.mark.parametrize("write", MODELS)
async def test_prompt_that_goes_on_is_cached_and_says_what_a_fresh_engine_says(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    path = write(tmp_path / "model.gguf")
    async with launched(path, num_batch=1) as engine:
        first = await ask(engine, TEXT, num_predict=0)
        second = await ask(engine, TEXT + " Go on.", num_predict=24)
    assert second.finish.cached_tokens >= first.finish.prompt_tokens - 2
    assert second.text == (await fresh(path, TEXT + " Go on.")).text


@pytest.mark.parametrize("write", MODELS)
async def test_other_ending_says_what_a_fresh_engine_says(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    path = write(tmp_path / "model.gguf")
    async with launched(path, num_batch=1) as engine:
        await ask(engine, TEXT + "One.", num_predict=8)
        other = await ask(engine, TEXT + "Two!", num_predict=24)
        again = await ask(engine, TEXT + "Two!", num_predict=24)
    assert other.text == again.text == (await fresh(path, TEXT + "Two!")).text


@pytest.mark.parametrize("write", MODELS)
async def test_fork_of_a_running_job_says_what_a_fresh_engine_says(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    """The first job draws when the second one comes, and goes on after it: both say what they say alone."""
    path = write(tmp_path / "model.gguf")
    async with launched(path, num_batch=1) as engine, engine.generate(job_of(TEXT + "One.", num_predict=90)) as steps:
        text = (await anext(steps)).text
        fork = await ask(engine, TEXT + "Two!", num_predict=1)
        text += "".join([step.text async for step in steps])
    if write is write_random:  # memory of a state or a window that has gone on is of no use to another
        assert fork.finish.cached_tokens > 32
    assert fork.text == (await fresh(path, TEXT + "Two!", 1)).text
    assert text.startswith((await fresh(path, TEXT + "One.", 8)).text.rstrip("\ufffd"))


async def test_memory_that_grows_changes_no_answer(tmp_path: Path) -> None:
    """More jobs than the first context has sequences, then a prompt longer than it has cells."""
    path = write_random(tmp_path / "model.gguf", context=8192)
    async with launched(path, num_batch=1, n_ctx=4096, n_parallel=6) as engine:
        before = await ask(engine, TEXT, num_predict=24)
        size_bytes = engine.info.size_bytes
        async with asyncio.TaskGroup() as group:
            for number in range(6):
                group.create_task(ask(engine, f"{number} {TEXT}", num_predict=2))
        grown_bytes = engine.info.size_bytes
        long = await ask(engine, TEXT * 15, num_predict=2, num_ctx=4096)
        after = await ask(engine, TEXT, num_predict=24)
    assert size_bytes < grown_bytes < engine.info.size_bytes
    assert long.finish.prompt_tokens > 2000
    assert after.text == before.text
    assert after.finish.cached_tokens == after.finish.prompt_tokens - 1


async def test_greedy_text_is_the_same_cold_cached_and_forked(smollm2: Path) -> None:
    texts = list[str]()

    async def answer() -> None:
        texts.append((await ask(engine, CHAT, num_predict=40)).text)

    async with launched(smollm2) as engine:
        await answer()
        await answer()
        async with asyncio.TaskGroup() as group:
            group.create_task(answer())
            group.create_task(answer())
    assert len(texts[0].split()) > 5
    assert texts == [texts[0]] * 4


async def test_next_turn_computes_only_what_is_new(smollm2: Path) -> None:
    async with launched(smollm2) as engine:
        first = await ask(engine, CHAT, num_predict=12)
        follow_up = f"{CHAT}{first.text}<|im_end|>\n<|im_start|>user\nAnd at night?<|im_end|>\n<|im_start|>assistant\n"
        second = await ask(engine, follow_up, num_predict=12)
    assert second.finish.cached_tokens >= first.finish.prompt_tokens + first.finish.eval_tokens - 2
    async with launched(smollm2) as engine:
        assert second.text == (await ask(engine, follow_up, num_predict=12)).text


async def test_seed_gives_the_same_text_twice_also_when_cached(smollm2: Path) -> None:
    async with launched(smollm2) as engine:
        job = {"sampling": Sampling(temperature=0.8, seed=42), "num_predict": 80}
        first, second = [await ask(engine, CHAT, **job) for _ in range(2)]
        other = await ask(engine, CHAT, **(job | {"sampling": Sampling(temperature=0.8, seed=43), "num_predict": 20}))
    assert (first.finish.cached_tokens, second.finish.cached_tokens) == (0, first.finish.prompt_tokens - 1)
    assert second.text == first.text
    assert not first.text.startswith(other.text)


async def test_no_seed_gives_another_text_each_time(smollm2: Path) -> None:
    async with launched(smollm2) as engine:
        texts = {(await ask(engine, CHAT, sampling=Sampling(temperature=1.5), num_predict=20)).text for _ in range(3)}
    assert len(texts) == 3
