"""Drafts with real contexts: the same answers as without them, in fewer steps."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from corral.core.types import Grammar, Sampling
from corral.engine.llamacpp import LlamaCppEngine
from tests.support.gguf_files import write_random
from tests.support.gguf_recurrent import write_mamba
from tests.support.live_engine import Answer, ask, launched

WARM = Sampling(temperature=0.7, seed=11)
PENALTIES = Sampling(temperature=0.6, seed=3, repeat_penalty=1.05, presence_penalty=0.1, min_p=0.02)
MIROSTAT = Sampling(temperature=0.8, seed=5, mirostat=2, mirostat_tau=2.0)
WORDS = Grammar(text="start: (/w[0-9]+ ?/)+")
MANIFEST = """The harbour office keeps a list of ships. The Amber Lark came from Oslo with timber and left for Porto on \
Monday. \
The Second Wind came from Porto with salt and left for Oslo on Friday. The Old Heron came from Lagos with cocoa and stays."""
TASK = "Repeat this text word for word:"
COPY = f"<|im_start|>user\n{TASK}\n\n{MANIFEST}<|im_end|>\n<|im_start|>assistant\nThe harbour office keeps"


@pytest.fixture(scope="module")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random(tmp_path_factory.mktemp("gguf") / "random.gguf", context=32768)


@pytest.fixture
async def engine(random_model: Path) -> AsyncIterator[LlamaCppEngine]:
    async with launched(random_model, n_ctx=2048) as loaded:
        yield loaded


async def both(engine: LlamaCppEngine, prompt: str, **more: Any) -> tuple[Answer, Answer]:
    """With drafts, and without."""
    drafted = await ask(engine, prompt, num_ctx=2048, **more)
    return drafted, await ask(engine, prompt, num_ctx=2048, draft=0, **more)


def are_same(drafted: Answer, plain: Answer) -> bool:
    assert plain.finish.draft_tokens == 0
    assert drafted.finish.confirmed_tokens <= drafted.finish.draft_tokens
    told = ("reason", "stop_text", "eval_tokens", "prompt_tokens")
    return drafted.text == plain.text and all(getattr(drafted.finish, n) == getattr(plain.finish, n) for n in told)


@pytest.mark.parametrize(
    "sampling",
    [Sampling(temperature=0), WARM, PENALTIES, MIROSTAT],
    ids=["greedy", "seed", "penalties", "mirostat"],
)
async def test_text_is_that_of_the_seed_with_and_without_drafts(engine: LlamaCppEngine, sampling: Sampling) -> None:
    drafted, plain = await both(engine, "hello hello hello", num_predict=300, sampling=sampling)
    assert are_same(drafted, plain)


async def test_grammar_binds_drafts_too(engine: LlamaCppEngine) -> None:
    drafted, plain = await both(engine, "hello hello", num_predict=200, grammars=(WORDS,))
    assert are_same(drafted, plain)


@pytest.mark.parametrize("at", [40, 61, 90])
async def test_stop_string_ends_a_drafted_answer_where_it_would_end_without(engine: LlamaCppEngine, at: int) -> None:
    whole = await ask(engine, "hello", num_ctx=2048, num_predict=150)
    stop = whole.text[at : at + 7]
    drafted, plain = await both(engine, "hello", num_predict=150, stop=(stop,))
    assert are_same(drafted, plain)
    assert drafted.finish.stop_text == stop


async def test_full_context_is_shifted_under_drafts(engine: LlamaCppEngine) -> None:
    drafted = await ask(engine, "hello", num_ctx=64, num_predict=300)
    plain = await ask(engine, "hello", num_ctx=64, num_predict=300, draft=0)
    assert are_same(drafted, plain)


async def test_streams_beside_each_other_say_what_they_say_alone(engine: LlamaCppEngine) -> None:
    prompts = [f"hello {'w100 w200 ' * number}" for number in range(4)]
    alone = [await ask(engine, prompt, num_ctx=2048, num_predict=120, draft=0) for prompt in prompts]
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(ask(engine, prompt, num_ctx=2048, num_predict=120)) for prompt in prompts]
    assert [task.result().text for task in running] == [answer.text for answer in alone]


async def test_model_that_keeps_a_state_drafts_nothing(tmp_path: Path) -> None:
    async with launched(write_mamba(tmp_path / "recurrent.gguf")) as loaded:
        answer = await ask(loaded, "hello hello hello", num_predict=100)
        assert answer.finish.draft_tokens == 0


# A real model


async def test_real_model_copies_in_fewer_steps_and_says_the_same(smollm2: Path) -> None:
    async with launched(smollm2, n_ctx=2048) as loaded:
        await ask(loaded, COPY, num_ctx=2048, num_predict=60)  # what steps take is not known before
        for sampling in (Sampling(temperature=0), Sampling(temperature=0.3, seed=7)):
            drafted, plain = await both(loaded, COPY, num_predict=90, sampling=sampling)
            assert are_same(drafted, plain)
            assert drafted.text.strip().startswith("a list of ships. The Amber Lark")
            assert drafted.finish.confirmed_tokens > drafted.finish.eval_tokens / 3


async def test_real_model_writes_the_same_free_text(smollm2: Path) -> None:
    async with launched(smollm2, n_ctx=2048) as loaded:
        for subject in ("rain", "a list of ten fruits"):
            prompt = f"<|im_start|>user\nWrite about {subject}.<|im_end|>\n<|im_start|>assistant\n"
            drafted, plain = await both(loaded, prompt, num_predict=120)
            assert are_same(drafted, plain)


async def test_real_model_meets_a_schema_with_what_it_copies(smollm2: Path) -> None:
    ships = {
        "type": "array",
        "items": {"type": "object", "properties": {"ship": {"type": "string"}, "from": {"type": "string"}}},
    }
    ships["items"] |= {"required": ["ship", "from"], "additionalProperties": False}  # type: ignore[operator]
    grammar = Grammar(text=f"start: %json {json.dumps(ships | {'minItems': 2, 'maxItems': 3})}", is_json=True)
    prompt = f"<|im_start|>user\nList the ships as JSON:\n\n{MANIFEST}<|im_end|>\n<|im_start|>assistant\n"
    async with launched(smollm2, n_ctx=2048) as loaded:
        drafted, plain = await both(loaded, prompt, num_predict=200, grammars=(grammar,))
        assert are_same(drafted, plain)
        assert 2 <= len(json.loads(drafted.text)) <= 3
