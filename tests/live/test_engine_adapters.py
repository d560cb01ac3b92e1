"""A model with adapters, each request with as much of them as it asks for.

Batches of one token make kernels compute the same numbers in the same order whatever runs beside: so texts must be equal.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from corral.core.errors import BadRequestError
from corral.core.settings import Settings
from corral.core.types import EmbedJob
from corral.engine.llamacpp import LlamaCppEngine, LlamaCppLauncher, LlamaCppWorkshop
from corral.sched import Scheduler
from corral.service import Inference
from corral.service.create import CreateRequest, CreateService
from corral.service.requests import Delta, GenerateRequest
from corral.store import MODEL_LAYER, Store
from tests.support.gguf_adapter import write_adapter
from tests.support.gguf_files import write_random
from tests.support.live_engine import ask, job_of, launched
from tests.support.stores import add_model

Adapters = tuple[tuple[int, float], ...]

PROMPT = "The quick brown fox jumps over the lazy dog, and the dog dreams of foxes that are slow."
SETS: dict[str, Adapters] = {
    "all": (),
    "half": ((0, 0.5), (1, 0.5)),
    "first": ((0, 1.0),),
    "second": ((1, 1.0),),
    "none": ((0, 0.0),),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random(tmp_path_factory.mktemp("gguf") / "base.gguf", width=64, layers=2)


@pytest.fixture(scope="module")
def adapters(base: Path) -> tuple[str, ...]:
    return tuple(str(write_adapter(base.with_name(f"{seed}.gguf"), seed=seed)) for seed in (1, 2))


@pytest.fixture
async def engine(base: Path, adapters: tuple[str, ...]) -> AsyncIterator[LlamaCppEngine]:
    async with launched(base, adapter_paths=adapters, num_batch=1, n_parallel=8) as engine:
        yield engine


async def said(engine: LlamaCppEngine, chosen: Adapters = (), prompt: str = PROMPT) -> str:
    return (await ask(engine, prompt, adapters=chosen, num_predict=32)).text


async def test_scales_do_what_a_model_with_these_adapters_alone_does(
    engine: LlamaCppEngine, base: Path, adapters: tuple[str, ...]
) -> None:
    answers = {name: await said(engine, chosen) for name, chosen in SETS.items()}
    assert len(set(answers.values())) == len(SETS)
    async with launched(base, num_batch=1) as bare:
        assert answers["none"] == await said(bare)
    for name, number in (("first", 0), ("second", 1)):
        async with launched(base, adapter_paths=(adapters[number],), num_batch=1) as one:
            assert answers[name] == await said(one)
    assert answers["all"] == await said(engine, ((0, 1.0), (1, 1.0)))


async def test_logits_without_adapters_are_those_of_the_model_itself(engine: LlamaCppEngine, base: Path) -> None:
    async def chances(of: LlamaCppEngine, chosen: Adapters) -> list[float]:
        job = job_of(PROMPT, adapters=chosen, num_predict=8, logprobs=3)
        async with of.generate(job) as steps:
            return [chance.logprob async for step in steps for token in step.logprobs for chance in token.top]

    async with launched(base, num_batch=1) as bare:
        assert await chances(engine, SETS["none"]) == await chances(bare, ())
    assert await chances(engine, SETS["none"]) != await chances(engine, SETS["all"])


async def test_jobs_of_all_scales_at_once_say_what_each_says_alone(engine: LlamaCppEngine) -> None:
    asked = [(chosen, f"{PROMPT} {number}") for number in range(3) for chosen in SETS.values()]
    alone = [await said(engine, *one) for one in asked]
    async with asyncio.TaskGroup() as tasks:
        together = [tasks.create_task(said(engine, *one)) for one in asked]
    assert [task.result() for task in together] == alone


async def test_beginning_is_computed_again_with_other_scales(engine: LlamaCppEngine) -> None:
    first = await ask(engine, PROMPT + " One.", num_predict=4)
    other = await ask(engine, PROMPT + " Two.", num_predict=4, adapters=SETS["none"])
    again = await ask(engine, PROMPT + " Three.", num_predict=4, adapters=SETS["none"])
    assert (first.finish.cached_tokens, other.finish.cached_tokens) == (0, 0)
    assert again.finish.cached_tokens >= len(PROMPT) // 2


async def test_embeddings_are_made_with_all_adapters_whatever_is_generated(engine: LlamaCppEngine) -> None:
    async def vector() -> bytes:
        async with engine.embed(EmbedJob(texts=("hello",), num_ctx=512)) as vectors:
            return b"".join([part.data async for part in vectors])

    before = await vector()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(said(engine, SETS["none"]))
        after = tasks.create_task(vector())
    assert after.result() == before


async def test_option_of_a_request_chooses_among_the_layers_of_the_model(base: Path, adapters: tuple[str, ...]) -> None:
    store = Store(base.parent / "store")
    await asyncio.to_thread(add_model, store, "base", base)
    digest = store.put_blob(await asyncio.to_thread(Path(adapters[0]).read_bytes), MODEL_LAYER)[0].digest
    create = CreateService(store, LlamaCppWorkshop())
    async with create.create(CreateRequest(model="tuned", from_model="base", adapters={"a.gguf": digest})) as running:
        assert [status.status async for status in running][-1] == "success"
    await create.aclose()
    launcher = LlamaCppLauncher()
    scheduler = Scheduler(launcher, Settings())
    inference = Inference(store, scheduler)

    async def answer(model: str, **options: object) -> str:
        own = {"temperature": 0, "num_predict": 24, **options}
        async with inference.generate(GenerateRequest(model=model, prompt=PROMPT, raw=True, options=own)) as events:
            return "".join([event.content async for event in events if isinstance(event, Delta)])

    try:
        tuned = await answer("tuned")
        assert tuned == await answer("tuned", lora=[{"id": 0, "scale": 1}])
        assert tuned != await answer("tuned", lora=[{"id": 0, "scale": 0}]) == await answer("base")
        with pytest.raises(BadRequestError, match='option "lora" names adapter 0, and the model has none'):
            await answer("base", lora=[{"id": 0, "scale": 1}])
    finally:
        await scheduler.aclose()
        await launcher.aclose()
        inference.close()


async def test_adapter_that_is_not_there_is_refused_and_harms_nobody(engine: LlamaCppEngine) -> None:
    before = await said(engine)
    with pytest.raises(BadRequestError, match='option "lora" names adapter 2, and the model has 2'):
        await said(engine, ((2, 1.0),))
    assert await said(engine) == before
