"""What comes back from RAM and disk changes no answer: whatever the model keeps of what it has read, and however it is asked.

Batches of one token (`num_batch=1`) make kernels compute the same numbers in the same order whatever is reused: so the texts
must be equal, letter by letter. Two sequences at most are in KV memory, so that a few conversations push each other out of it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from corral.engine.llamacpp import LlamaCppEngine
from tests.support.gguf_adapter import write_adapter
from tests.support.gguf_files import write_random
from tests.support.gguf_recurrent import write_hybrid, write_mamba
from tests.support.gguf_vision import picture, write_seeing
from tests.support.live_engine import Answer, ask, launched

SYSTEM = "You are a fox that tells stories of lazy dogs, and you tell them in a few words, whatever you are asked. " * 2
QUESTIONS = [f" {number}: What did the dog dream of?" for number in range(5)]
END = " Go on."
Writer = Callable[[Path], Path]


def gemma3(path: Path) -> Path:
    return write_random(path, arch="gemma3", layers=7, window=32)


DROPPING = [pytest.param(write_random, id="attention"), pytest.param(gemma3, id="sliding-window")]
KEEPING = [pytest.param(write_mamba, id="recurrent"), pytest.param(write_hybrid, id="hybrid")]


@asynccontextmanager
async def small(path: Path, **more: Any) -> AsyncIterator[LlamaCppEngine]:
    """An engine whose KV memory has room for two sequences."""
    async with launched(path, **({"num_batch": 1, "n_parallel": 2, "kv_ram_bytes": 1 << 28} | more)) as engine:
        yield engine


async def fresh(path: Path, prompt: str, num_predict: int = 16, *, engine: dict[str, Any] | None = None, **job: Any) -> Answer:
    async with launched(path, num_batch=1, kv_ram_bytes=0, **(engine or {})) as alone:
        return await ask(alone, prompt, num_predict=num_predict, **job)


def wait_for_files(folder: Path, count: int) -> None:
    until_s = time.monotonic() + 60
    while len(list(folder.rglob("*.kv"))) < count:
        assert time.monotonic() < until_s, "an idle worker has written nothing"
        time.sleep(0.05)


async def go_round(engine: LlamaCppEngine, **job: Any) -> list[Answer]:
    """Conversations of one question each; the first of them are not in KV memory any more afterwards."""
    return [await ask(engine, SYSTEM + question, num_predict=8, **job) for question in QUESTIONS]


@pytest.mark.parametrize("write", [*DROPPING, *KEEPING])
async def test_a_conversation_that_was_pushed_out_comes_back_and_goes_on_as_in_a_fresh_engine(
    tmp_path: Path, write: Writer
) -> None:
    path = write(tmp_path / "model.gguf")
    async with small(path) as engine:
        for question, answer in zip(QUESTIONS, await go_round(engine), strict=True):
            again = await ask(engine, SYSTEM + question + answer.text + END, num_predict=16)
            assert again.finish.cached_tokens >= answer.finish.prompt_tokens - 1
            assert again.text == (await fresh(path, SYSTEM + question + answer.text + END)).text


@pytest.mark.parametrize("write", [*DROPPING, *KEEPING])
async def test_the_third_prompt_of_one_beginning_has_it_from_the_cache(tmp_path: Path, write: Writer) -> None:
    """A model that cannot unread needs the second one to see where it ends."""
    path = write(tmp_path / "model.gguf")
    async with small(path) as engine:
        answers = await go_round(engine)
    shared = answers[0].finish.prompt_tokens - 40
    assert min(answer.finish.cached_tokens for answer in answers[2:]) >= shared
    for question, answer in zip(QUESTIONS, answers, strict=True):
        assert answer.text == (await fresh(path, SYSTEM + question, 8)).text


@pytest.mark.parametrize("write", KEEPING)
async def test_the_same_prompt_again_is_cached_though_its_answer_cannot_be_unread(tmp_path: Path, write: Writer) -> None:
    path = write(tmp_path / "model.gguf")
    async with small(path) as engine:
        first, again = [await ask(engine, SYSTEM, num_predict=16) for _ in range(2)]
    assert again.finish.cached_tokens == again.finish.prompt_tokens - 1
    assert again.text == first.text == (await fresh(path, SYSTEM)).text


@pytest.mark.parametrize("write", [*DROPPING, *KEEPING])
async def test_a_known_prompt_comes_back_after_a_restart(tmp_path: Path, write: Writer) -> None:
    path = write(tmp_path / "model.gguf")
    async with small(path, kv_dir=str(tmp_path / "kv"), kv_disk_bytes=1 << 28) as engine:
        before = await go_round(engine)
    async with small(path, kv_dir=str(tmp_path / "kv"), kv_disk_bytes=1 << 28) as engine:
        for question, first in reversed(list(zip(QUESTIONS, before, strict=True))):
            again = await ask(engine, SYSTEM + question, num_predict=16)
            assert again.finish.cached_tokens >= again.finish.prompt_tokens - 32  # less is not read from disk for its own sake
            assert again.text == (await fresh(path, SYSTEM + question)).text
            assert again.text.startswith(first.text.rstrip("\ufffd"))


@pytest.mark.parametrize("write", DROPPING)
async def test_an_idle_worker_writes_what_is_parked_before_anybody_stops_it(tmp_path: Path, write: Writer) -> None:
    path, folder = write(tmp_path / "model.gguf"), tmp_path / "kv"
    async with small(path, kv_dir=str(folder), kv_disk_bytes=1 << 28) as engine:
        await ask(engine, SYSTEM, num_predict=4)
        await asyncio.to_thread(wait_for_files, folder, 3)
        again = await ask(engine, SYSTEM + END, num_predict=16)
    assert again.text == (await fresh(path, SYSTEM + END)).text


@pytest.mark.parametrize("damage", ["cut", "zeros", "gone"])
async def test_damaged_files_cost_a_recomputation_and_nothing_else(tmp_path: Path, damage: str) -> None:
    path, folder = write_random(tmp_path / "model.gguf"), tmp_path / "kv"
    async with small(path, kv_dir=str(folder), kv_disk_bytes=1 << 28) as engine:
        first = await ask(engine, SYSTEM, num_predict=16)
    files = list(folder.rglob("*.kv"))
    assert len(files) >= 3
    for file in files:
        data = file.read_bytes()
        if damage == "gone":
            file.unlink()
        else:
            file.write_bytes(data[: len(data) // 2] + (bytes(len(data) - len(data) // 2) if damage == "zeros" else b""))
    async with small(path, kv_dir=str(folder), kv_disk_bytes=1 << 28) as engine:
        again = await ask(engine, SYSTEM, num_predict=16)
    assert (again.text, again.finish.cached_tokens) == (first.text, 0)


@pytest.mark.parametrize("settings", [{"kv_cache_type": "q8_0"}, {"flash_attention": False}, {"adapters": True}])
async def test_a_model_that_is_loaded_otherwise_finds_nothing_on_disk(tmp_path: Path, settings: dict[str, Any]) -> None:
    path, disk = write_random(tmp_path / "model.gguf", width=128), {"kv_dir": str(tmp_path / "kv"), "kv_disk_bytes": 1 << 28}
    async with small(path, **disk) as engine:
        await ask(engine, SYSTEM, num_predict=4)
    if settings.pop("adapters", False):
        settings = {"adapter_paths": (str(write_adapter(tmp_path / "adapter.gguf", width=128)),)}
    async with small(path, **disk, **settings) as engine:
        assert (await ask(engine, SYSTEM, num_predict=4)).finish.cached_tokens == 0


async def test_values_that_lie_in_columns_come_back_too(tmp_path: Path) -> None:
    path, settings = write_random(tmp_path / "model.gguf"), {"flash_attention": False}
    async with small(path, **settings) as engine:
        answers = await go_round(engine)
        again = await ask(engine, SYSTEM + QUESTIONS[0] + END, num_predict=16)
    assert again.finish.cached_tokens >= answers[0].finish.prompt_tokens - 1
    assert again.text == (await fresh(path, SYSTEM + QUESTIONS[0] + END, engine=settings)).text


@pytest.mark.parametrize("write", [*DROPPING, *KEEPING])
async def test_what_was_kept_comes_back_to_memory_that_has_grown(tmp_path: Path, write: Writer) -> None:
    path = write(tmp_path / "model.gguf")
    async with small(path, n_parallel=6, n_ctx=2048) as engine:
        await go_round(engine)
        long = await ask(engine, SYSTEM * 5, num_predict=1, num_ctx=2048)
        async with asyncio.TaskGroup() as group:
            for number in range(6):
                group.create_task(ask(engine, f"{number} {SYSTEM}", num_predict=4))
        assert long.finish.prompt_tokens > 1000
        again = await ask(engine, SYSTEM + QUESTIONS[1] + END, num_predict=16)
    assert again.finish.cached_tokens >= 200
    assert again.text == (await fresh(path, SYSTEM + QUESTIONS[1] + END)).text


async def test_each_set_of_adapters_has_its_own(tmp_path: Path) -> None:
    path = write_random(tmp_path / "base.gguf")
    loaded = {"adapter_paths": (str(write_adapter(tmp_path / "adapter.gguf")),)}
    half = ((0, 0.5),)
    async with small(path, **loaded) as engine:
        await go_round(engine)
        first = await ask(engine, SYSTEM + QUESTIONS[0], num_predict=16, adapters=half)
        await go_round(engine, adapters=half)
        again = await ask(engine, SYSTEM + QUESTIONS[0], num_predict=16)
    assert first.finish.cached_tokens == 0
    assert again.finish.cached_tokens >= again.finish.prompt_tokens - 1
    assert first.text == (await fresh(path, SYSTEM + QUESTIONS[0], engine=loaded, adapters=half)).text
    assert again.text == (await fresh(path, SYSTEM + QUESTIONS[0], engine=loaded)).text


@pytest.mark.parametrize("kind", ["mlp", "qwen2vl"])
@pytest.mark.parametrize("is_restarted", [False, True], ids=["ram", "disk"])
async def test_conversations_that_show_images_come_back(tmp_path: Path, kind: Any, is_restarted: bool) -> None:
    text, projector = write_seeing(tmp_path, kind)
    loaded: dict[str, Any] = {"projector_paths": (str(projector),), "n_ctx": 1024}
    prompt, shown = f"{SYSTEM} See [img-0]: what is it?", (picture(1, (60, 90)),)
    asked: dict[str, Any] = {"num_ctx": 1024}
    disk = {"kv_dir": str(tmp_path / "kv"), "kv_disk_bytes": 1 << 28}
    async with small(text, **loaded, **disk) as engine:
        first = await ask(engine, prompt, num_predict=8, media=shown, **asked)
        await go_round(engine)
        if not is_restarted:
            again = await ask(engine, prompt + END, num_predict=16, media=shown, **asked)
    if is_restarted:
        async with small(text, **loaded, **disk) as engine:
            again = await ask(engine, prompt + END, num_predict=16, media=shown, **asked)
    assert again.finish.cached_tokens >= first.finish.prompt_tokens - 64
    assert again.text == (await fresh(text, prompt + END, engine=loaded, media=shown, **asked)).text


async def test_a_real_model_says_the_same_after_it_was_pushed_out_and_after_a_restart(smollm2: Path, tmp_path: Path) -> None:
    disk = {"kv_dir": str(tmp_path / "kv"), "kv_disk_bytes": 1 << 28, "num_batch": 512}
    async with small(smollm2, **disk) as engine:
        before = [await ask(engine, SYSTEM * 4 + question, num_predict=8) for question in QUESTIONS]
        again = await ask(engine, SYSTEM * 4 + QUESTIONS[0] + END, num_predict=16)
    async with small(smollm2, **disk) as engine:
        restarted = await ask(engine, SYSTEM * 4 + QUESTIONS[0] + END, num_predict=16)
    assert again.finish.cached_tokens >= before[0].finish.prompt_tokens - 32
    assert restarted.finish.cached_tokens >= before[0].finish.prompt_tokens - 32
    assert len(again.text) > 5
    assert restarted.text == again.text
