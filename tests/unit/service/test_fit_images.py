"""Conversations with images that are too long: only the engine knows how many tokens an image has."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from corral.core.errors import ContextOverflowError, EngineLostError
from corral.core.settings import Settings
from corral.core.types import Job, LoadSpec, Message, Step
from corral.engine import ProgressCallback
from corral.engine.fake import FakeEngine, FakeLauncher
from corral.sched import Scheduler
from corral.service import Inference
from corral.service.requests import ChatRequest, Done, Truncation
from tests.support.inference_bench import Bench, Shelf, user
from tests.support.models import make_model

NUM_CTX: Final = 2048  # the least of a model that sees
TEMPLATE: Final = "{{ range .Messages }}[{{ .Role }}] {{ .Content }}\n{{ end }}"


class SeeingEngine(FakeEngine):
    """An image has as many tokens as bytes."""

    @asynccontextmanager
    async def generate(self, job: Job) -> AsyncIterator[AsyncIterator[Step]]:
        if not self.is_alive:
            raise EngineLostError
        total = len(job.prompt.split()) + sum(map(len, job.media))
        async with super().generate(job) as steps:
            yield self._seen(job, total, steps)

    async def _seen(self, job: Job, total: int, steps: AsyncIterator[Step]) -> AsyncIterator[Step]:
        if total >= job.num_ctx:
            raise ContextOverflowError(total, job.num_ctx)
        async for step in steps:
            yield step


class SeeingLauncher(FakeLauncher):
    async def launch(self, spec: LoadSpec, on_progress: ProgressCallback) -> FakeEngine:
        engine = await super().launch(spec, on_progress)
        self.engines[-1] = SeeingEngine(engine.info, scripts=self.scripts)
        return self.engines[-1]


@pytest.fixture
async def seeing(tmp_path: Path) -> AsyncIterator[Bench]:
    model = make_model(tmp_path, "m", template=TEMPLATE, reads_images=True)
    launcher = SeeingLauncher()
    scheduler = Scheduler(launcher, Settings())
    inference = Inference(Shelf({model.name: model}), scheduler)  # type: ignore[arg-type]  # a store for what is read of it
    yield Bench(inference, launcher)
    await scheduler.aclose()
    inference.close()


def shown(size: int) -> Message:
    return Message(role="user", content="look", images=(b"x" * size,))


async def truncation_of(bench: Bench, *messages: Message) -> Truncation | None:
    request = ChatRequest(model="m", messages=messages, options={"num_ctx": NUM_CTX})
    async with bench.inference.chat(request) as events:
        *_, done = [event async for event in events]
    assert isinstance(done, Done)
    return done.truncation


@pytest.mark.parametrize(
    ("sizes", "left"),
    [([480] * 5, 2), ([80] * 6 + [1850], 3), ([1600, 80, 80, 80, 400], 3), ([0] * 5, 5)],
    ids=["of one size", "the last is far larger than all others", "the first is", "none at all"],
)
async def test_images_count_for_what_the_engine_says(seeing: Bench, sizes: list[int], left: int) -> None:
    messages = [shown(size) if size else user("look") for size in sizes]
    total = 1 + sum(size + 1 for size in sizes)
    facts = await truncation_of(seeing, *messages)
    assert facts == (Truncation(prompt_tokens_total=total, dropped_messages=len(sizes) - left) if total >= NUM_CTX else None)
    assert [len(image) for image in seeing.jobs[-1].media] == [size for size in sizes if size][-left:]


async def test_image_that_is_too_large_alone_is_refused_with_the_size_of_all(seeing: Bench) -> None:
    total = 1 + 4 * (80 + 1) + 2048 + 1
    with pytest.raises(ContextOverflowError, match=rf"request \({total} tokens\) exceeds .* \({NUM_CTX} tokens\)"):
        await truncation_of(seeing, *[shown(80)] * 4, shown(2048))
