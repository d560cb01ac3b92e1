"""What a real engine makes of a suffix: the prompt that llama.cpp's own server would make, and an answer that ends."""

from pathlib import Path

import pytest

from corral.core.errors import BadRequestError, ContextOverflowError
from tests.support.gguf_files import write_scripted
from tests.support.live_engine import ask, launched

MARKS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
SAY = "return a + b"


@pytest.mark.parametrize("bos", [None, "<s>"], ids=["no-bos", "bos"])
async def test_prompt_is_prefix_suffix_middle(tmp_path: Path, bos: str | None) -> None:
    """The same tokens as those of a text with the marks in it: the second job finds all of it cached."""
    path = write_scripted(tmp_path / "coder.gguf", SAY, special=MARKS, bos=bos)
    async with launched(path) as engine:
        filled = await ask(engine, "def add(a, b):\n    ", suffix="\n\nprint(add(1, 2))")
        spelled = await ask(engine, f"{MARKS[0]}def add(a, b):\n    {MARKS[1]}\n\nprint(add(1, 2)){MARKS[2]}")
    assert filled.text == spelled.text == SAY
    assert filled.finish.prompt_tokens == spelled.finish.prompt_tokens
    assert spelled.finish.cached_tokens == spelled.finish.prompt_tokens - 1


async def test_code_that_spells_a_special_token_stays_code(tmp_path: Path) -> None:
    path = write_scripted(tmp_path / "coder.gguf", SAY, special=MARKS)
    async with launched(path) as engine:
        filled = await ask(engine, f'MARK = "{MARKS[1]}', suffix='"')
    assert filled.finish.prompt_tokens == len(f'MARK = "{MARKS[1]}') + 1 + len(MARKS)


async def test_conversation_before_it_brings_its_own_bos(tmp_path: Path) -> None:
    path = write_scripted(tmp_path / "coder.gguf", SAY, special=MARKS, bos="<s>")
    async with launched(path) as engine:
        prefix = tuple(await engine.tokenize("before"))
        filled = await ask(engine, "a", suffix="b", prefix_tokens=prefix)
    assert filled.finish.prompt_tokens == len(prefix) + 2 + len(MARKS)


async def test_token_that_pads_an_infill_ends_the_answer_though_it_ends_no_other(tmp_path: Path) -> None:
    first_special = 258
    path = write_scripted(
        tmp_path / "coder.gguf",
        SAY,
        special=("<|im_end|>", *MARKS),
        eos="<|fim_pad|>",
        metadata={"tokenizer.ggml.eos_token_id": first_special},
    )
    async with launched(path) as engine:
        answer = await ask(engine, "a", suffix="b")
    assert (answer.text, answer.finish.reason) == (SAY, "stop")


@pytest.mark.parametrize("special", [(), MARKS[:2]], ids=["none", "two-of-three"])
async def test_model_without_the_tokens_says_so(tmp_path: Path, special: tuple[str, ...]) -> None:
    path = write_scripted(tmp_path / "plain.gguf", SAY, special=special)
    async with launched(path) as engine:
        with pytest.raises(BadRequestError, match="no tokens to ask for what goes before a suffix"):
            await ask(engine, "a", suffix="b")
        assert (await ask(engine, "a")).text == SAY


async def test_infill_that_does_not_fit_is_refused_with_both_numbers(tmp_path: Path) -> None:
    path = write_scripted(tmp_path / "coder.gguf", SAY, special=MARKS)
    async with launched(path) as engine:
        with pytest.raises(ContextOverflowError) as caught:
            await ask(engine, "a" * 300, suffix="b" * 300)
    assert (caught.value.prompt_tokens, caught.value.num_ctx) == (603, 512)
