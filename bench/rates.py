"""Streams of free text against a worker without a server: what the other benchmarks measure against."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from corral.core.types import Finish, Job, LoadSpec, Sampling
from corral.engine.llamacpp import LlamaCppEngine, LlamaCppLauncher

STREAMS = (1, 8, 16)
TOKENS = 128  # of every answer
CONTEXT = 512  # tokens a sequence may hold
_OPENINGS = ("Once upon a time", "The history of", "In the middle of", "A list of animals:", "My favourite", "The city of")


def prompt(index: int) -> str:
    """A beginning that is each stream's own: no two share a prefix."""
    return f"{index}. {_OPENINGS[index % len(_OPENINGS)]}"


@dataclass(frozen=True, slots=True)
class Run:
    """One answer of the engine; times in seconds on the monotonic clock."""

    text: str
    finish: Finish
    first_s: float
    last_s: float


@asynccontextmanager
async def engine(gguf: Path, *, n_ctx: int = CONTEXT, n_parallel: int = 16) -> AsyncIterator[LlamaCppEngine]:
    """The model in a worker of its own."""
    launcher = LlamaCppLauncher(keeps_standby=False)
    try:
        loaded = await launcher.launch(LoadSpec(model_path=str(gguf), n_ctx=n_ctx, n_parallel=n_parallel), lambda _share: None)
        try:
            yield loaded
        finally:
            await loaded.aclose()
    finally:
        await launcher.aclose()


async def answer(loaded: LlamaCppEngine, text: str, *, tokens: int = TOKENS, seed: int = 1) -> Run:
    job = Job(prompt=text, num_ctx=loaded.info.n_ctx, num_predict=tokens, sampling=Sampling(seed=seed))
    said, finish, first_s = "", None, 0.0
    async with loaded.generate(job) as steps:
        async for step in steps:
            first_s = first_s or time.monotonic()
            said += step.text
            finish = step.finish
    assert finish is not None
    return Run(said, finish, first_s, time.monotonic())


async def at_once(loaded: LlamaCppEngine, prompts: list[str], *, tokens: int = TOKENS) -> list[Run]:
    """All prompts at the same time."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(answer(loaded, text, tokens=tokens)) for text in prompts]
    return [task.result() for task in running]


def decode_rate(runs: list[Run]) -> float:
    """Tokens a second of all streams together, each by its own pace from its first token to its last."""
    return sum((run.finish.eval_tokens - 1) / (run.last_s - run.first_s) for run in runs)
