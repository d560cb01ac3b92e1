"""A full context in mid-answer: the older half goes and the answer with it goes on, or it ends; on every kind of memory."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.gguf_files import write_random
from tests.support.gguf_recurrent import write_mamba
from tests.support.live_engine import ask, launched

STORY = (
    "<|im_start|>user\nTell me a long story about a fox and a river.<|im_end|>\n<|im_start|>assistant\n"
    "Once upon a time there was a fox who lived by a river."
)


def gemma3(path: Path) -> Path:
    return write_random(path, arch="gemma3", layers=7, window=32)


MODELS = [
    pytest.param(write_random, id="attention"),
    pytest.param(gemma3, id="sliding-window"),
    pytest.param(write_mamba, id="recurrent"),
]


@pytest.mark.parametrize("write", MODELS)
@pytest.mark.parametrize("num_keep", [0, 4, -1])
async def test_every_memory_shifts_or_ends_and_is_sound_afterwards(
    tmp_path: Path, write: Callable[[Path], Path], num_keep: int
) -> None:
    path = write(tmp_path / "model.gguf")
    async with launched(path, num_batch=1) as engine:
        fresh = await ask(engine, "And who are you?", num_predict=24)
        answer = await ask(engine, "hello there", num_ctx=64, num_predict=90, num_keep=num_keep)
        again = await ask(engine, "And who are you?", num_predict=24)
    assert answer.finish.prompt_tokens + answer.finish.eval_tokens >= 64
    assert again.text == fresh.text


@pytest.mark.parametrize("write", MODELS)
async def test_no_memory_shifts_unasked(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    async with launched(write(tmp_path / "model.gguf")) as engine:
        finish = (await ask(engine, "hello there", num_ctx=64, num_predict=90, shift=False)).finish
    assert (finish.reason, finish.prompt_tokens + finish.eval_tokens) == ("length", 64)


async def test_story_goes_on_in_words_through_many_shifts(smollm2: Path) -> None:
    job = {"num_predict": 500, "num_keep": -1}
    async with launched(smollm2) as engine:
        whole = await ask(engine, STORY, num_ctx=512, **(job | {"num_predict": 60}))
        shifted = await ask(engine, STORY, num_ctx=128, **job)
    assert shifted.finish.eval_tokens > 300, "it went through its context several times"
    assert shifted.text.startswith(whole.text[:100])
    later = shifted.text[400:]
    words = re.findall(r"[A-Za-z']+", later)
    assert sum(map(len, words)) > 0.7 * len(later), later
    assert 3 < sum(map(len, words)) / len(words) < 8, later
    assert len({word.lower() for word in words}) > 30, later
