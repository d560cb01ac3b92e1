"""The use case over a scripted engine: order, scores, refusals."""

import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from corral.core.errors import (
    BadRequestError,
    CapabilityError,
    ContextOverflowError,
    EngineError,
    ModelNotFoundError,
)
from corral.core.settings import Settings
from corral.core.types import EmbedJob
from corral.engine.fake import FakeLauncher, Script
from corral.sched import Scheduler
from corral.service.rerank import Ranks, RerankRequest, RerankService
from corral.store import Store
from tests.support.gguf_bert import random_bert, write_bert
from tests.support.gguf_files import Array, write_random, write_scripted
from tests.support.stores import add_model

SCORES = {"good": (2.0, 0.0), "best": (800.0, 0.0), "even better": (900.0, 0.0), "bad": (-3.0, 9.0), "worst": (-900.0, 1.0)}


class Rig:
    def __init__(self, folder: Path) -> None:
        store = Store(folder / "models")
        self.launcher = FakeLauncher(vectors=SCORES)
        self.scheduler = Scheduler(self.launcher, Settings(models=folder / "models"))
        self.service = RerankService(store, self.scheduler)
        head = {"cls.output.weight": write_head()}
        add_model(store, "ranker", write_bert(folder / "ranker.gguf", random_bert(classes=1), pooling="rank"))
        add_model(store, "headless", write_bert(folder / "headless.gguf", random_bert(), pooling="rank"))
        add_model(store, "minilm", write_bert(folder / "bert.gguf", random_bert(classes=1)))
        add_model(store, "chatty", write_scripted(folder / "chatty.gguf", "Hello"))
        shares = write_random(folder / "q.gguf", arch="qwen3", metadata={"qwen3.pooling_type": 4}, more_tensors=head)
        add_model(store, "shares", shares)

    async def rerank(self, *documents: str, model: str = "ranker", query: str = "q", **more: object) -> Ranks:
        request = RerankRequest(model=model, query=query, documents=documents, **more)  # type: ignore[arg-type]  # fields
        return await self.service.rerank(request)


def write_head() -> Array:
    return random_bert(classes=2).weights["classifier.out_proj.weight"]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    yield made
    await made.scheduler.aclose()
    made.service.close()


def places(ranks: Ranks) -> list[int]:
    return [one.index for one in ranks.results]


def scores(ranks: Ranks) -> list[float]:
    return [one.score for one in ranks.results]


async def test_best_comes_first_with_a_score_between_0_and_1(rig: Rig) -> None:
    ranks = await rig.rerank("bad", "good", "worst", "best", "even better")
    assert places(ranks) == [4, 3, 1, 0, 2]
    assert scores(ranks) == pytest.approx([1.0, 1.0, 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(3)), 0.0])
    assert ranks.prompt_tokens == 6 + 5
    assert ranks.total_ns >= ranks.load_ns > 0


async def test_of_equals_the_first_comes_first(rig: Rig) -> None:
    assert places(await rig.rerank("bad", "good", "bad", "good")) == [1, 3, 0, 2]


async def test_raw_scores_are_the_models(rig: Rig) -> None:
    assert scores(await rig.rerank("bad", "best", raw_scores=True)) == [800.0, -3.0]


async def test_model_that_gives_shares_is_left_alone(rig: Rig) -> None:
    rig.launcher.vectors = {"a": (0.25, 0.75), "b": (0.5, 0.5)}
    assert scores(await rig.rerank("a", "b", model="shares")) == [0.5, 0.25]


@pytest.mark.parametrize(("top_n", "wanted"), [(1, [1]), (2, [1, 0]), (5, [1, 0]), (None, [1, 0])])
async def test_top_n_keeps_the_best(rig: Rig, top_n: int | None, wanted: list[int]) -> None:
    assert places(await rig.rerank("bad", "good", top_n=top_n)) == wanted


async def test_scores_of_many_documents_are_all_there(rig: Rig) -> None:
    ranks = await rig.rerank(*["bad"] * 250, "good")
    assert (len(ranks.results), ranks.results[0].index) == (251, 250)


async def test_job_has_the_query_and_what_may_be_cut(rig: Rig) -> None:
    await rig.rerank("good", options={"num_ctx": 256})
    await rig.rerank("good", truncate=False)
    (engine,) = rig.launcher.engines
    job = EmbedJob(texts=("good",), query="q", num_ctx=256)
    assert engine.embed_jobs == [job, EmbedJob(texts=("good",), query="q", num_ctx=256, truncate=False)]


async def test_no_document_loads_the_model(rig: Rig) -> None:
    assert await rig.rerank(query="") == Ranks()
    assert [running.model.name.short for running in rig.scheduler.running()] == ["ranker:latest"]


@pytest.mark.parametrize(
    ("more", "kind", "text"),
    [
        pytest.param({"model": ""}, BadRequestError, "model is required", id="no name"),
        pytest.param({"model": "nope"}, ModelNotFoundError, "model 'nope' not found", id="unknown"),
        pytest.param({"model": "chatty"}, CapabilityError, '"chatty" does not support rerank', id="a chat model"),
        pytest.param({"model": "minilm"}, CapabilityError, '"minilm" does not support rerank', id="an embedding model"),
        pytest.param({"model": "headless"}, CapabilityError, '"headless" does not support rerank', id="no classifier"),
        pytest.param({"query": ""}, BadRequestError, "query is required", id="no query"),
        pytest.param(
            {"top_n": 0}, BadRequestError, "top_n must be 1 or more, not 0; leave it out to get all documents", id="top_n"
        ),
        pytest.param(
            {"options": {"num_ctx": "x"}}, BadRequestError, 'option "num_ctx" must be of type integer', id="an option"
        ),
    ],
)
async def test_what_is_refused_before_anything_is_loaded(
    rig: Rig, more: dict[str, object], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind) as caught:
        await rig.rerank("good", **more)  # type: ignore[arg-type]  # its fields
    assert str(caught.value) == text
    assert not rig.launcher.engines


async def test_document_that_may_not_be_cut_is_refused_with_both_numbers(rig: Rig) -> None:
    with pytest.raises(ContextOverflowError, match=r"\(300 tokens\) exceeds the available context size \(256 tokens\)"):
        await rig.rerank("word " * 299, truncate=False)


async def test_score_that_is_no_number_is_an_error_that_names_the_document(rig: Rig) -> None:
    rig.launcher.vectors = {"good": (1.0,), "bad": (float("nan"),)}
    with pytest.raises(EngineError, match="the model gave no number as the score of document 1"):
        await rig.rerank("good", "bad")


async def test_worker_that_was_dead_costs_nothing(rig: Rig) -> None:
    rig.launcher.scripts.append(Script(is_lost=True))
    assert places(await rig.rerank("bad", "good")) == [1, 0]
