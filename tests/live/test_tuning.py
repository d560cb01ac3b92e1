"""One buffer for all sequences against one for each, and a model tuned from end to end, on real workers."""

import asyncio
from pathlib import Path

import pytest

from corral.core.options import Options
from corral.core.settings import Settings
from corral.core.tuning import Tuned, placement_of
from corral.engine.llamacpp import LlamaCppLauncher, this_machine
from corral.sched import Scheduler, TunedModels, untuned_spec
from corral.service.tuning import TuneRequest, TuneService, TuneStatus
from corral.store import Store
from tests.support.gguf_files import write_random
from tests.support.live_engine import ask, launched
from tests.support.stores import add_model

PROMPT = " ".join(f"word{number}" for number in range(60))


@pytest.fixture(scope="module")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random(tmp_path_factory.mktemp("gguf") / "random.gguf")


async def test_a_unified_buffer_gives_the_same_answers(random_model: Path) -> None:
    prompts = [f"{PROMPT} {end}" for end in ("a", "b", "c", "d", "e", "f")]
    said: list[list[str]] = []
    for is_unified in (False, True):
        async with launched(random_model, kv_unified=is_unified, n_parallel=6, n_ctx=2048) as engine:
            first = await ask(engine, PROMPT, num_predict=6, num_ctx=2048)
            async with asyncio.TaskGroup() as tasks:
                forks = [tasks.create_task(ask(engine, prompt, num_predict=12, num_ctx=2048)) for prompt in prompts]
            again = await ask(engine, prompts[0], num_predict=12, num_ctx=2048)
            assert all(fork.result().finish.cached_tokens > 0 for fork in forks)
            said.append([first.text, *(fork.result().text for fork in forks), again.text])
    assert said[0] == said[1]


async def test_what_a_fork_has_in_common_stays_where_it_is_when_the_fork_is_shifted(random_model: Path) -> None:
    """Positions of cells that two sequences share must not move in both."""
    short, long = (f"{PROMPT} {' '.join([letter] * 40)}" for letter in "xy")  # what follows is too long to be given up
    async with launched(random_model, kv_unified=True, n_parallel=4, n_ctx=1024) as engine:
        first = await ask(engine, short, num_predict=12, num_ctx=1024)
        shifted = await ask(engine, long, num_predict=1500, num_ctx=1024)
        assert shifted.finish.prompt_tokens + shifted.finish.eval_tokens > 1024
        assert 32 < shifted.finish.cached_tokens < shifted.finish.prompt_tokens - 32
        again = await ask(engine, short, num_predict=12, num_ctx=1024)
        assert again.text == first.text
        assert again.finish.cached_tokens > 32


async def test_memory_that_grows_carries_a_unified_buffer_over(random_model: Path) -> None:
    async with launched(random_model, kv_unified=True, n_parallel=4, n_ctx=4096) as engine:
        short = await ask(engine, PROMPT, num_predict=4, num_ctx=4096)
        await ask(engine, " ".join([PROMPT] * 8), num_predict=4, num_ctx=4096)
        again = await ask(engine, PROMPT, num_predict=4, num_ctx=4096)
        assert again.text == short.text
        assert again.finish.cached_tokens > 0


@pytest.mark.timeout(120)
async def test_a_model_is_tuned_from_end_to_end(random_model: Path, tmp_path: Path) -> None:
    store, settings, launcher = Store(tmp_path / "models"), Settings(num_parallel=4), LlamaCppLauncher()
    model = add_model(store, "m", random_model)
    tuned = TunedModels(store, launcher, this_machine)
    scheduler = Scheduler(launcher, settings, tuned=tuned)
    service = TuneService(store, scheduler, tuned, settings)
    try:
        async with service.tune(TuneRequest(model="m", rounds=1, budget_s=30)) as statuses:
            last = [status async for status in statuses][-1]
        assert isinstance(last, TuneStatus)
        assert last.report
        measured = [item for item in last.report.results if item.speeds]
        assert measured[0].name == "default"
        assert len(measured) > 1, last.report
        assert all(min(item.speeds.prompt, item.speeds.forks) > 0 for item in measured if item.speeds)
        stored = store.tunings()
        assert bool(stored) == last.report.is_stored == bool(last.report.chosen)
        spec = untuned_spec(model, Options.resolve(), settings)
        used = await tuned.settings(model, placement_of(spec))
        assert used == (last.report.chosen or Tuned())
        async with scheduler.lease(model, Options.resolve()) as lease:
            assert (await ask(lease.engine, "a", num_predict=2)).finish.eval_tokens == 2  # type: ignore[arg-type]  # any engine
    finally:
        await service.aclose()
        await scheduler.aclose()
        await launcher.aclose()
        tuned.close()
