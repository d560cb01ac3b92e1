"""Which files have the tokens that ask for what goes between two texts."""

from pathlib import Path
from typing import Any

import pytest

from corral.store.gguf import read_header
from corral.store.gguf_info import read_info
from tests.support.gguf_files import write_random, write_scripted

QWEN = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")


@pytest.mark.parametrize(
    "marks",
    [
        QWEN,
        ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
        ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
        ("<PRE>", "<SUF>", "<MID>"),
        ("▁<PRE>", "▁<SUF>", "▁<MID>"),
        ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # noqa: RUF001  DeepSeek spells them with wide bars
        ("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),
    ],
    ids=lambda marks: marks[0],
)
@pytest.mark.parametrize("vocab", [0, 2000], ids=["few tokens", "many tokens"])
def test_tokens_are_known_by_their_texts(tmp_path: Path, marks: tuple[str, str, str], vocab: int) -> None:
    path = write_random(tmp_path / "m.gguf", special=marks, vocab=vocab)
    assert read_header(path).infill_tokens == marks
    assert read_header(path, with_arrays=True).infill_tokens == marks
    assert read_info(path).infill_tokens == marks


@pytest.mark.parametrize(
    "kinds", [("fim_pre", "fim_suf", "fim_mid"), ("prefix", "suffix", "middle")], ids=["new keys", "old keys"]
)
def test_tokens_are_known_by_the_numbers_that_the_file_gives(tmp_path: Path, kinds: tuple[str, str, str]) -> None:
    first = 258  # behind the bytes, one merge and the end-of-answer token
    metadata = {f"tokenizer.ggml.{kind}_token_id": first + number for number, kind in enumerate(kinds)}
    path = write_scripted(tmp_path / "m.gguf", "hi", special=("[B]", "[A]", "[M]"), metadata=metadata)
    assert read_header(path).infill_tokens == ("[B]", "[A]", "[M]")


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_two_of_the_three_are_of_no_use(tmp_path: Path, missing: int) -> None:
    special = [mark for number, mark in enumerate(QWEN) if number != missing]
    assert read_header(write_scripted(tmp_path / "m.gguf", "hi", special=special)).infill_tokens is None


@pytest.mark.parametrize("value", [10**6, 2**32 - 1, "x", [1, 2], 1.5], ids=str)
def test_numbers_that_are_none_are_passed_over(tmp_path: Path, value: Any) -> None:
    names = ("bos", "eos", "fim_pre", "fim_suf", "fim_mid")
    metadata = {f"tokenizer.ggml.{name}_token_id": value for name in names}
    info = read_info(write_scripted(tmp_path / "m.gguf", "hi", metadata=metadata))
    assert (info.infill_tokens, info.bos_token, info.eos_token) == (None, "", "")


def test_texts_that_only_look_like_tokens_are_none(tmp_path: Path) -> None:
    path = write_scripted(tmp_path / "m.gguf", "hi", jinja="".join(QWEN), special=[mark + "x" for mark in QWEN])
    assert read_header(path).infill_tokens is None
