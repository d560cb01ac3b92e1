"""The use case over a scripted engine: order of checks, cutting, what it costs, who waits."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from corral.core.aio import cancelling
from corral.core.errors import (
    BadRequestError,
    CapabilityError,
    EngineCrashedError,
    ModelNotFoundError,
    NotFoundError,
)
from corral.core.settings import Settings, parse_host
from corral.engine.fake import FakeLauncher, Script, fake_vector
from corral.sched import Scheduler
from corral.service.embed import Embeddings, EmbedRequest, EmbedService, NotFiniteError
from corral.store import Store
from tests.support.gguf_bert import random_bert, write_bert
from tests.support.gguf_files import write_scripted
from tests.support.stores import add_model


class Rig:
    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "models")
        self.launcher = FakeLauncher()
        settings = Settings(address=parse_host("127.0.0.1:0"), models=folder / "models")
        self.scheduler = Scheduler(self.launcher, settings)
        self.service = EmbedService(self.store, self.scheduler)
        add_model(self.store, "minilm", write_bert(folder / "bert.gguf", random_bert()), parameters={"num_ctx": 32})
        add_model(self.store, "ranker", write_bert(folder / "ranker.gguf", random_bert(), pooling="rank"))
        add_model(self.store, "chatty", write_scripted(folder / "chatty.gguf", "Hello"))

    async def embed(self, *texts: str, model: str = "minilm", **more: object) -> Embeddings:
        return await self.service.embed(EmbedRequest(model=model, texts=texts, **more))  # type: ignore[arg-type]  # fields


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    yield made
    await made.scheduler.aclose()
    made.service.close()


def rows(made: Embeddings) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.frombuffer(b"".join(made.pieces), "<f4").reshape(made.count, -1)


async def test_each_text_has_a_vector_of_length_one(rig: Rig) -> None:
    texts = [f"text {number}" for number in range(250)]
    made = await rig.embed(*texts)
    wanted = np.array([fake_vector(text) for text in texts])
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    assert (made.count, made.dimensions, made.prompt_tokens) == (250, 4, 500)
    assert rows(made) == pytest.approx(wanted, abs=1e-6)
    assert made.total_ns >= made.load_ns > 0


async def test_dimensions_keep_the_first_numbers(rig: Rig) -> None:
    made = await rig.embed("a", dimensions=2)
    assert made.dimensions == 2
    assert np.linalg.norm(rows(made)) == pytest.approx(1)


async def test_no_text_loads_the_model(rig: Rig) -> None:
    assert await rig.embed() == Embeddings()
    assert [running.model.name.short for running in rig.scheduler.running()] == ["minilm:latest"]


async def test_job_says_how_long_a_text_may_be_and_whether_it_may_be_cut(rig: Rig) -> None:
    await rig.embed("a")
    await rig.embed("a", truncate=False)
    (engine,) = rig.launcher.engines
    assert [(job.num_ctx, job.truncate) for job in engine.embed_jobs] == [(256, True), (256, False)]


async def test_options_reach_the_load(rig: Rig) -> None:
    await rig.embed("a", model="chatty", options={"num_ctx": 1024, "num_thread": 1})
    assert (rig.launcher.specs[0].n_ctx, rig.launcher.specs[0].num_thread) == (1024, 1)
    with pytest.raises(BadRequestError, match='option "num_ctx" must be of type integer'):
        await rig.embed("a", options={"num_ctx": "big"})


async def test_too_long_text_is_refused_in_ollamas_words(rig: Rig) -> None:
    with pytest.raises(BadRequestError, match=r"^the input length exceeds the context length$"):
        await rig.embed("word " * 300, truncate=False)
    assert (await rig.embed("word " * 300)).prompt_tokens == 256


async def test_numbers_that_are_none_are_refused(rig: Rig) -> None:
    rig.launcher.vectors = {"bad": [1.0, float("nan"), 0.0, 0.0]}
    with pytest.raises(NotFiniteError, match="embedding contains NaN or Inf values"):
        await rig.embed("good", "bad")


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        pytest.param("", ModelNotFoundError, "model '' not found", id="no name"),
        pytest.param("nope", NotFoundError, 'model "nope" not found, try pulling it first', id="unknown"),
        pytest.param("a b", BadRequestError, "invalid model name", id="no name at all"),
        pytest.param("ranker", CapabilityError, '"ranker" does not support embeddings: it ranks texts by a query', id="ranks"),
    ],
)
async def test_models_that_cannot_embed(rig: Rig, name: str, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        await rig.embed("a", model=name)
    assert str(caught.value) == text
    assert not rig.launcher.engines


async def test_chat_model_embeds_too(rig: Rig) -> None:
    assert (await rig.embed("a", "b", model="chatty")).count == 2


async def test_more_texts_than_an_answer_may_hold_are_refused_before_anything_is_loaded(rig: Rig) -> None:
    most = (1 << 29) // (64 * 4)
    with pytest.raises(BadRequestError, match=rf"the request has {most + 1} inputs, and {most} are taken"):
        await rig.embed(*[""] * (most + 1))
    assert not rig.launcher.engines


async def test_worker_that_dies_fails_the_request(rig: Rig) -> None:
    gate = rig.launcher.embed_gate = asyncio.Event()

    async def die() -> None:
        while not (rig.launcher.engines and rig.launcher.engines[0].running):  # noqa: ASYNC110  it tells nobody
            await asyncio.sleep(0)
        rig.launcher.engines[0].is_alive = False
        gate.set()

    async with cancelling(die(), name="die"):
        with pytest.raises(EngineCrashedError):
            await rig.embed("a")


async def test_worker_that_was_dead_is_replaced(rig: Rig) -> None:
    rig.launcher.scripts.append(Script(is_lost=True))
    assert (await rig.embed("a")).count == 1
    assert len(rig.launcher.engines) == 2


async def test_request_that_is_cancelled_leaves_the_engine(rig: Rig) -> None:
    rig.launcher.embed_gate = asyncio.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await rig.embed("a")
    assert [engine.running for engine in rig.launcher.engines] == [0]
    assert [running.model.name.short for running in rig.scheduler.running()] == ["minilm:latest"]


async def test_keep_alive_zero_unloads_afterwards(rig: Rig) -> None:
    await rig.embed("a", keep_alive_s=0.0)
    for _ in range(100):
        if not rig.scheduler.running():
            break
        await asyncio.sleep(0)
    assert not rig.scheduler.running()
    assert not rig.launcher.engines[0].is_alive
