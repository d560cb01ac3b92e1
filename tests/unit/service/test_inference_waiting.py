"""What comes before the queue for a model counts in it, and the end of the server is told in one word."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from corral.core.errors import QueueFullError, ServerStoppingError
from corral.core.settings import Settings
from corral.engine.fake import Script
from corral.template import MAX_RENDERINGS
from tests.support.inference_bench import Bench, bench, text_of, user
from tests.support.models import make_model

SLOW = "{{ range 100000 }}{{ end }}"  # more than a moment
TEMPLATE = "{{ range .Messages }}{{ .Content }}{{ end }}"


async def rendered(b: Bench) -> str:
    """How a request whose template takes its time ends."""
    try:
        return text_of(await b.generate("m", "hi", template=f"{SLOW}{{{{ .Prompt }}}}"))
    except (QueueFullError, ServerStoppingError) as error:
        return error.code


async def test_renderings_that_wait_fill_the_queue_and_one_more_is_refused(tmp_path: Path) -> None:
    model = make_model(tmp_path, "m", template=TEMPLATE)
    async with bench(model, settings=Settings(max_queue=2)) as b:
        await b.chat("m")  # loaded: who finds a place free does not wait
        async with asyncio.TaskGroup() as tasks, AsyncExitStack() as busy:
            for _ in range(MAX_RENDERINGS):
                await busy.enter_async_context(b.inference._renderings.place("other"))
            waiting = [tasks.create_task(rendered(b)) for _ in range(2)]
            while b.inference._scheduler._waiting.waiting < 2:  # noqa: ASYNC110  it tells nobody
                await asyncio.sleep(0)
            assert await rendered(b) == "queue_full"
            assert text_of(await b.chat("m", user("hi"))) == "Hello, world"  # takes a moment only, and is not held up
        assert [task.result() for task in waiting] == ["Hello, world"] * 2


async def test_a_rendering_that_waits_is_told_of_the_end(tmp_path: Path) -> None:
    async with bench(make_model(tmp_path, "m", template=TEMPLATE)) as b:
        async with asyncio.TaskGroup() as tasks, AsyncExitStack() as busy:
            for _ in range(MAX_RENDERINGS):
                await busy.enter_async_context(b.inference._renderings.place("other"))
            waiting = tasks.create_task(rendered(b))
            while not b.inference._scheduler._waiting.waiting:  # noqa: ASYNC110  it tells nobody
                await asyncio.sleep(0)
            await b.inference._scheduler.aclose()
        assert waiting.result() == "server_stopping"


async def test_a_dead_worker_is_not_replaced_when_the_server_stops(tmp_path: Path) -> None:
    async with bench(make_model(tmp_path, "m", template=TEMPLATE), settings=Settings(num_parallel=1)) as b:
        gate = asyncio.Event()
        b.launcher.scripts.append(Script(gate=lambda _index: gate))
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(said(b))
            while not b.jobs:  # noqa: ASYNC110  it tells nobody
                await asyncio.sleep(0)
            waiting = [tasks.create_task(said(b)) for _ in range(3)]
            while b.inference._scheduler._waiting.waiting < 3:  # noqa: ASYNC110  it tells nobody
                await asyncio.sleep(0)
            await b.inference._scheduler.aclose()
            gate.set()
        assert [task.result() for task in (running, *waiting)] == ["server_stopping"] * 4
        assert len(b.launcher.specs) == 1


async def said(b: Bench) -> str:
    try:
        return text_of(await b.chat("m", user("hi")))
    except ServerStoppingError as error:
        return error.code
