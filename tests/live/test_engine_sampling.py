"""The ways of drawing that llama.cpp knows and Ollama does not: each does to an answer what it is for."""

import math
import re
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from corral.core.types import Sampling
from corral.engine.llamacpp import LlamaCppEngine
from tests.support.gguf_files import write_random
from tests.support.live_engine import ask, job_of, launched

GREEDY = Sampling(temperature=0.0)
HOT = Sampling(temperature=2.0, seed=7, top_k=0, top_p=1.0)


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random(tmp_path_factory.mktemp("gguf") / "random.gguf", context=32768)


@pytest.fixture
async def engine(endless: Path) -> AsyncIterator[LlamaCppEngine]:
    async with launched(endless) as loaded:
        yield loaded


def changed(sampling: Sampling, **values: object) -> Sampling:
    return Sampling(**{name: getattr(sampling, name) for name in sampling.__struct_fields__} | values)


async def said(engine: LlamaCppEngine, sampling: Sampling, tokens: int = 24) -> str:
    return (await ask(engine, "hello", num_predict=tokens, sampling=sampling)).text


async def test_a_token_with_a_bias_of_never_is_not_said(engine: LlamaCppEngine) -> None:
    letter = "b"
    often = changed(GREEDY, logit_bias=((letter, 1e4),))
    assert set(await said(engine, often)) == {letter}
    never = changed(GREEDY, logit_bias=((letter, 1e4), (letter, -math.inf)))
    assert letter not in await said(engine, never)


async def test_a_token_may_be_named_by_its_number(engine: LlamaCppEngine) -> None:
    *_, token = await engine.tokenize("b", add_special=False)
    assert set(await said(engine, changed(HOT, logit_bias=((token, 1e4),)))) == {"b"}


async def test_a_bias_for_a_token_that_there_is_not_changes_nothing(engine: LlamaCppEngine) -> None:
    assert await said(engine, changed(GREEDY, logit_bias=((2**31 - 1, 100.0),))) == await said(engine, GREEDY)


async def test_dry_ends_what_repeats_itself(engine: LlamaCppEngine) -> None:
    free = re.findall(r"w\d{3}", await said(engine, GREEDY, tokens=400))
    dry = changed(GREEDY, dry_multiplier=100.0, dry_allowed_length=1, dry_penalty_last_n=-1, dry_sequence_breakers=())
    bound = re.findall(r"w\d{3}", await said(engine, dry, tokens=400))
    assert 4 * pairs_again(bound) < pairs_again(free)


def pairs_again(words: list[str]) -> int:
    pairs = list(pairwise(words))
    return len(pairs) - len(set(pairs))


async def test_top_n_sigma_leaves_the_best_alone(engine: LlamaCppEngine) -> None:
    assert await said(engine, changed(HOT, top_n_sigma=0.001)) == await said(engine, GREEDY)


async def test_xtc_leaves_the_best_out(engine: LlamaCppEngine) -> None:
    cold = changed(HOT, temperature=0.01)
    assert await said(engine, cold) == await said(engine, GREEDY)
    assert await said(engine, changed(cold, xtc_probability=1.0, xtc_threshold=0.0)) != await said(engine, GREEDY)


@pytest.mark.parametrize("version", [1, 2])
async def test_mirostat_draws_by_its_seed(engine: LlamaCppEngine, version: int) -> None:
    sampling = changed(HOT, mirostat=version, mirostat_tau=8.0)
    first, again = [await said(engine, sampling) for _ in range(2)]
    assert first == again
    assert first != await said(engine, HOT)


async def test_mirostat_stays_near_its_target(engine: LlamaCppEngine) -> None:
    """A target of no surprise at all: the best token each time."""
    sampling = changed(HOT, temperature=1.0, mirostat=2, mirostat_tau=1e-4, mirostat_eta=1.0)
    assert (await said(engine, sampling, tokens=60))[-20:] == (await said(engine, sampling, tokens=60))[-20:]
    assert await said(engine, changed(sampling, temperature=0.0)) == await said(engine, GREEDY)


async def test_dynamic_temperature_changes_the_draw(engine: LlamaCppEngine) -> None:
    sampling = changed(HOT, dynatemp_range=1.5)
    first, again = [await said(engine, sampling) for _ in range(2)]
    assert first == again
    assert first != await said(engine, HOT)


async def test_logprobs_are_the_models_own_whatever_the_draw(engine: LlamaCppEngine) -> None:
    """The same at any temperature; best first; of all tokens together they are 1."""
    for sampling in (GREEDY, changed(GREEDY, logit_bias=(("b", 1e4),))):
        async with engine.generate(job_of("hello", num_predict=1, logprobs=20, sampling=sampling)) as running:
            ((logprob,),) = [step.logprobs async for step in running if step.logprobs]
        values = [chance.logprob for chance in logprob.top]
        assert values == sorted(values, reverse=True)
        assert len(values) == 20
        assert sum(map(math.exp, values)) < 1
        if sampling is GREEDY:
            assert (logprob.piece, logprob.logprob) == (logprob.top[0].piece, values[0])
        else:
            assert logprob.piece == b"b"
            assert logprob.logprob < values[0]


async def test_every_token_has_a_logprob(endless: Path) -> None:
    async with launched(endless) as engine, engine.generate(job_of("hello", num_predict=8, logprobs=0)) as running:
        found = [logprob for step in [step async for step in running] for logprob in step.logprobs]
    assert len(found) == 8
    assert all(logprob.logprob <= 0 and not logprob.top for logprob in found)
