"""Clients and priorities over a real worker: who is answered when, and that who made room says what it would have said."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from corral.core.settings import Settings
from corral.core.types import Sampling
from corral.engine.llamacpp import LlamaCppEngine, LlamaCppLauncher
from corral.sched import Scheduler
from corral.service import Inference
from corral.service.requests import Done, GenerateRequest
from corral.store import Store
from tests.support.gguf_files import write_random
from tests.support.live_engine import ask, job_of, launched
from tests.support.stores import add_model

MANY = 40
STORY = "tell a long story"


def long(seed: int) -> dict[str, Any]:
    """With this seed the answer has its 300 tokens."""
    return {"num_predict": 300, "sampling": Sampling(temperature=1.0, seed=seed, repeat_penalty=1.1)}


async def test_flood_of_one_client_does_not_hold_up_another(tmp_path: Path) -> None:
    store = Store(tmp_path / "models")
    add_model(store, "m", write_random(tmp_path / "m.gguf"))
    launcher = LlamaCppLauncher()
    scheduler = Scheduler(launcher, replace(Settings(), num_parallel=4))
    inference = Inference(store, scheduler)
    ended: list[str] = []
    has_begun = asyncio.Event()

    async def generate(client: str, prompt: str, tokens: int) -> None:
        options = {"num_predict": tokens, "temperature": 0, "num_ctx": 1024}
        request = GenerateRequest(model="m", prompt=prompt, raw=True, options=options, client=client)
        async with inference.generate(request) as events:
            async for event in events:
                has_begun.set()
                if isinstance(event, Done):
                    ended.append(client)

    try:
        async with asyncio.TaskGroup() as tasks:
            for number in range(MANY):
                tasks.create_task(generate("greedy", f"{number} things to say", 200))
            await has_begun.wait()
            tasks.create_task(generate("single", "a question", 20))
    finally:
        await scheduler.aclose()
        await launcher.aclose()
        inference.close()
    assert len(ended) == MANY + 1
    assert ended.index("single") < 4, "it took the place of one of the four, none of which has ended"


async def displaced(engine: LlamaCppEngine, seed: int) -> tuple[str, str, bool]:
    """What a long job and an early short one said, that came in its middle; and whether the short one ended first."""
    order: list[str] = []
    is_on_its_way = asyncio.Event()

    async def tell() -> str:
        text = ""
        async with engine.generate(job_of(STORY, client="batch", priority=1, **long(seed))) as steps:
            async for step in steps:
                text += step.text
                if len(text) > 300:  # a shorter one would be computed again, which may round otherwise
                    is_on_its_way.set()
        order.append("long")
        return text

    async def say() -> str:
        await is_on_its_way.wait()
        text = (await ask(engine, "and you?", num_predict=20, client="person")).text
        order.append("short")
        return text

    async with asyncio.TaskGroup() as tasks:
        told, said = tasks.create_task(tell()), tasks.create_task(say())
    return told.result(), said.result(), order == ["short", "long"]


@pytest.mark.parametrize(("arch", "seed"), [("llama", 5), ("gemma3", 6)], ids=["plain", "sliding-window"])
async def test_displaced_answer_is_the_one_it_would_have_been(
    tmp_path: Path, arch: Literal["llama", "gemma3"], seed: int
) -> None:
    path = write_random(tmp_path / "m.gguf", arch=arch)
    async with launched(path, n_parallel=1) as engine:
        assert engine.info.can_displace
        expected = (await ask(engine, STORY, **long(seed))).text
        alone = (await ask(engine, "and you?", num_predict=20)).text
    async with launched(path, n_parallel=1) as engine:
        assert await displaced(engine, seed) == (expected, alone, True)
