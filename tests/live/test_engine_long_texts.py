"""Texts of megabytes, which take llama.cpp seconds to tokenize: an answer that is being given goes on meanwhile."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from corral.core.errors import BadRequestError, ContextOverflowError
from corral.core.types import EmbedJob
from corral.engine.llamacpp import LlamaCppEngine
from tests.support.gguf_files import write_random
from tests.support.live_engine import ask, job_of, launched

MIB = 1 << 20
PROSE = "The quick brown fox jumps over the lazy dog. "


def prose(size_bytes: int) -> str:
    return (PROSE * (size_bytes // len(PROSE) + 1))[:size_bytes]


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[LlamaCppEngine]:
    path = await asyncio.to_thread(write_random, tmp_path / "random.gguf", context=8192, width=64, layers=2)
    async with launched(path, n_ctx=8192, n_parallel=4) as engine:
        yield engine


async def steps_while(engine: LlamaCppEngine, work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """The longest time without a step of an answer that is given meanwhile, and how long the work took; in seconds."""
    steps_s: list[float] = []  # when each came
    began = asyncio.Event()

    async def read() -> None:
        async with engine.generate(job_of("hello", num_ctx=8192, num_predict=1_000_000, logprobs=0)) as steps:
            async for _ in steps:
                steps_s.append(time.monotonic())
                began.set()

    async with asyncio.TaskGroup() as tasks:
        reader = tasks.create_task(read())
        await began.wait()
        began_s = time.monotonic()
        await work()
        ended_s = time.monotonic()
        assert not reader.done()
        reader.cancel()
    times_s = [began_s, *(at_s for at_s in steps_s if began_s < at_s < ended_s), ended_s]
    return max(after - before for before, after in pairwise(times_s)), ended_s - began_s


async def test_prompt_of_megabytes_is_counted_while_others_go_on(engine: LlamaCppEngine) -> None:
    async def work() -> None:
        with pytest.raises(ContextOverflowError) as caught:
            await ask(engine, prose(6 * MIB), num_ctx=8192)
        assert caught.value.prompt_tokens > MIB
        assert not caught.value.is_least

    gap_s, took_s = await steps_while(engine, work)
    assert gap_s < max(0.5, took_s / 3)


async def test_prompt_of_20_megabytes_is_refused_with_the_least_of_its_tokens(engine: LlamaCppEngine) -> None:
    async def work() -> None:
        with pytest.raises(ContextOverflowError, match=r"request \(at least [0-9]+ tokens\)") as caught:
            await ask(engine, prose(20 * MIB), num_ctx=8192)
        assert 8192 < caught.value.prompt_tokens < 20 * MIB
        assert caught.value.is_least

    gap_s, took_s = await steps_while(engine, work)
    assert gap_s < 1
    assert took_s < 10


async def test_text_that_may_fit_for_all_that_is_known_is_refused_by_its_size(engine: LlamaCppEngine) -> None:
    with pytest.raises(BadRequestError, match="the text has 9437184 bytes or more, and 8388608 are read"):
        await ask(engine, " " * (9 * MIB), num_ctx=8192)


async def test_text_to_tokenize_makes_nobody_wait(engine: LlamaCppEngine) -> None:
    text = prose(4 * MIB)
    counts: list[int] = []

    async def work() -> None:
        counts.append(len(await engine.tokenize(text)))

    gap_s, took_s = await steps_while(engine, work)
    assert counts[0] > MIB // 2
    assert gap_s < max(0.5, took_s / 3)
    with pytest.raises(BadRequestError, match="9437184 bytes or more"):
        await engine.tokenize("x" * 9 * MIB)


async def test_input_of_megabytes_is_embedded_while_others_go_on(engine: LlamaCppEngine) -> None:
    async def vector(text: str, *, truncate: bool) -> bytes:
        async with engine.embed(EmbedJob(texts=(text,), num_ctx=64, truncate=truncate)) as vectors:
            return b"".join([part.data async for part in vectors])

    async def work() -> None:
        with pytest.raises(ContextOverflowError):
            await vector(prose(6 * MIB), truncate=False)

    gap_s, took_s = await steps_while(engine, work)
    assert gap_s < max(0.5, took_s / 3)
    assert await vector(prose(20 * MIB), truncate=True) == await vector(prose(1000), truncate=True)


async def test_job_that_leaves_while_its_prompt_is_read_is_forgotten(engine: LlamaCppEngine) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(0.2):
            await ask(engine, prose(6 * MIB), num_ctx=8192)
    assert (await ask(engine, "hello", num_predict=2)).finish.eval_tokens == 2


async def test_worker_that_reads_a_long_text_ends_at_once(tmp_path: Path) -> None:
    path = await asyncio.to_thread(write_random, tmp_path / "random.gguf", width=64, layers=1)
    async with launched(path) as engine:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await ask(engine, "a" * (8 * MIB))
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 3
