"""Answers of a real model in a real worker, asked for through the service: as itself, or in the templates of other families."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from corral.core.settings import Settings
from corral.core.types import Message, ToolCall
from corral.engine.llamacpp import LlamaCppLauncher
from corral.sched import Scheduler
from corral.service import Inference
from corral.service.requests import ChatRequest, Delta, Done
from tests.support.wardrobe import Wardrobe

NUM_CTX: Final = 2048
PARALLEL: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    content: str
    thinking: str
    calls: tuple[ToolCall, ...]
    done: Done

    @property
    def is_complete(self) -> bool:
        """It was not cut at its limit of tokens."""
        return self.done.reason == "stop"


@dataclass(frozen=True, slots=True)
class Rig:
    inference: Inference

    async def ask(self, seed: int, question: str, *, model: str = "m", **more: Any) -> Answer:
        """A hot answer. `more` is of the request."""
        options = {"temperature": 1.0, "seed": seed, "num_ctx": NUM_CTX} | more.pop("options", {})
        turns = (Message(role="user", content=question),)
        deltas: list[Delta] = []
        async with self.inference.chat(ChatRequest(model=model, messages=turns, options=options, **more)) as events:
            async for event in events:
                if isinstance(event, Done):
                    return Answer(
                        content="".join(delta.content for delta in deltas),
                        thinking="".join(delta.thinking for delta in deltas),
                        calls=tuple(call for delta in deltas for call in delta.tool_calls),
                        done=event,
                    )
                assert isinstance(event, Delta)
                deltas.append(event)
        raise AssertionError("the answer has no end")


@asynccontextmanager
async def rig_of(folder: Path, gguf: Path, templates: Mapping[str, str]) -> AsyncIterator[Rig]:
    """The model `m`, and `m:NAME` with the template of that name. All goes when the block is left."""
    store = Wardrobe(folder / "models", gguf, templates)
    launcher = LlamaCppLauncher()
    scheduler = Scheduler(launcher, Settings(num_parallel=PARALLEL))
    inference = Inference(store, scheduler)
    try:
        yield Rig(inference)
    finally:
        await scheduler.aclose()
        await launcher.aclose()
        inference.close()
