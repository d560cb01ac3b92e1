"""Chat and generate over real workers: what happens when one of them is killed."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from corral.core.settings import Settings
from corral.engine.llamacpp import LlamaCppEngine, LlamaCppLauncher
from corral.sched import Scheduler
from corral.service import Inference
from corral.service.requests import Delta, Done, GenerateRequest
from corral.store import Store
from tests.support.gguf_files import write_scripted
from tests.support.stores import add_model

SAY = "Hello, I am here."
MARKS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")


@dataclass(frozen=True, slots=True)
class Rig:
    inference: Inference
    scheduler: Scheduler
    store: Store

    @property
    def engine(self) -> LlamaCppEngine:
        (runner,) = self.scheduler._runners.values()
        assert isinstance(runner.engine, LlamaCppEngine)
        return runner.engine

    async def generate(self, prompt: str, **more: object) -> tuple[str, Done]:
        text = ""
        async with self.inference.generate(GenerateRequest(model="m", prompt=prompt, **more)) as events:  # type: ignore[arg-type]
            async for event in events:
                if isinstance(event, Done):
                    return text, event
                assert isinstance(event, Delta)
                text += event.content
        raise AssertionError("the answer has no end")


@asynccontextmanager
async def rig_of(folder: Path, gguf: Path, template: str | None = None) -> AsyncIterator[Rig]:
    store = Store(folder / "models")
    add_model(store, "m", gguf, template=template)
    launcher = LlamaCppLauncher()
    scheduler = Scheduler(launcher, Settings())
    inference = Inference(store, scheduler)
    try:
        yield Rig(inference, scheduler, store)
    finally:
        await scheduler.aclose()
        await launcher.aclose()
        inference.close()


@pytest.mark.parametrize("is_noticed", [False, True], ids=["asked before its death is known", "asked after"])
async def test_worker_that_is_killed_while_idle_costs_the_next_request_nothing(tmp_path: Path, is_noticed: bool) -> None:
    """A worker of gigabytes takes its time to die, and until then takes what it is sent: so does one that is stopped."""
    async with rig_of(tmp_path, write_scripted(tmp_path / "m.gguf", SAY)) as rig:
        await rig.generate("hi")
        engine = rig.engine
        os.kill(engine.pid, signal.SIGSTOP)
        if is_noticed:
            os.kill(engine.pid, signal.SIGKILL)
            await engine._worker.dead.wait()
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(rig.generate("hi"))
            while not is_noticed and not engine._streams:  # noqa: ASYNC110  nobody tells when the job is on its way
                await asyncio.sleep(0)
            if not is_noticed:
                os.kill(engine.pid, signal.SIGKILL)
        assert asked.result()[0] == SAY
        assert rig.engine is not engine


async def test_context_of_an_answer_goes_on_with_nothing_computed_twice(tmp_path: Path) -> None:
    path = write_scripted(
        tmp_path / "m.gguf", SAY, bos="<s>", jinja="{{ bos_token }}{% for m in messages %}[{{ m.content }}]{% endfor %}"
    )
    async with rig_of(tmp_path, path) as rig:
        text, first = await rig.generate("hello")
        assert first.context
        _, second = await rig.generate("and what?", context=first.context)
    assert text == SAY
    assert second.prompt_tokens == len(first.context) + len("[and what?]")
    assert second.cached_tokens >= len(first.context) - 1
    bos = first.context[0]
    assert second.context is not None
    assert [at for at, token in enumerate(second.context) if token == bos] == [0]


async def test_suffix_goes_by_the_models_tokens_or_the_template_alike(tmp_path: Path) -> None:
    path = write_scripted(tmp_path / "m.gguf", SAY, special=MARKS)
    spelled = (
        "{{ if .Suffix }}"
        + "".join(f"{mark}{what}" for mark, what in zip(MARKS, ("{{ .Prompt }}", "{{ .Suffix }}", ""), strict=True))
        + "{{ end }}"
    )
    for folder, template in (("tokens", "{{ .Prompt }}"), ("template", spelled)):
        (tmp_path / folder).mkdir()
        async with rig_of(tmp_path / folder, path, template=template) as rig:
            text, done = await rig.generate("def f(", suffix="return")
        assert (text, done.reason, done.prompt_tokens) == (SAY, "stop", len("def f(return") + len(MARKS))
        assert done.context
