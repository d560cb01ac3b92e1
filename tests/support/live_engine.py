"""Engines in worker processes of their own, for live tests: launched, asked, and found to be gone."""

import os
import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corral.core.types import Finish, Job, LoadSpec, Sampling
from corral.engine.llamacpp import LlamaCppEngine, LlamaCppLauncher

GREEDY = Sampling(temperature=0.0)


def spec_of(path: Path, **more: Any) -> LoadSpec:
    settings: dict[str, Any] = {"model_path": str(path), "n_ctx": 512, "n_parallel": 4, "num_thread": 1} | more
    return LoadSpec(**settings)


def job_of(prompt: str, **more: Any) -> Job:
    settings: dict[str, Any] = {"prompt": prompt, "num_ctx": 512, "sampling": GREEDY} | more
    return Job(**settings)


@asynccontextmanager
async def launched(path: Path, **more: Any) -> AsyncIterator[LlamaCppEngine]:
    """An engine, closed at the end with its launcher."""
    launcher = LlamaCppLauncher()
    try:
        engine = await launcher.launch(spec_of(path, **more), lambda _share: None)
        try:
            yield engine
        finally:
            await engine.aclose()
    finally:
        await launcher.aclose()


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    finish: Finish


async def ask(engine: LlamaCppEngine, prompt: str, **more: Any) -> Answer:
    """The whole answer of a job; greedy unless told otherwise."""
    text = ""
    async with engine.generate(job_of(prompt, **more)) as steps:
        async for step in steps:
            text += step.text
            if step.finish:
                return Answer(text, step.finish)
    raise AssertionError("the steps ended without a finish")


class Watch:
    """A process, under whatever number it may be known later: is it gone?"""

    def __init__(self, pid: int) -> None:
        self._fd = os.pidfd_open(pid)

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_exc: object) -> None:
        os.close(self._fd)

    def is_gone(self, wait_s: float = 0) -> bool:
        """Waits for its end for so long at most."""
        return bool(select.select([self._fd], [], [], wait_s)[0])
