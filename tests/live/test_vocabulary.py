"""A vocabulary without its model, in a real worker: there and back, and what llama.cpp would end the worker for."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from corral.core.errors import BadRequestError, EngineError, ModelLoadError
from corral.core.types import EmbedJob, LoadSpec
from corral.engine.llamacpp import LlamaCppEngine, LlamaCppLauncher
from tests.support.gguf_bert import random_bert, tokenizer, vocabulary, write_bert
from tests.support.gguf_files import write_scripted
from tests.support.live_engine import ask, launched

TEXTS = ["", "Hello, world!", "Ein Gru\u00df \U0001f999\n\n  x = 1", "<|im_start|>user\nhi<|im_end|>", " two  spaces "]


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[LlamaCppEngine]:
    path = write_scripted(tmp_path / "m.gguf", "Hello", bos="<s>")
    async with launched(path, vocab_only=True, n_ctx=0) as engine:
        yield engine


@pytest.mark.parametrize("text", TEXTS)
async def test_text_comes_back(engine: LlamaCppEngine, text: str) -> None:
    for parse_special in (True, False):
        tokens = await engine.tokenize(text, add_special=False, parse_special=parse_special)
        assert await engine.detokenize(tokens) == text
        assert b"".join(await engine.pieces(tokens)).decode() == text


async def test_names_of_special_tokens_are_text_where_they_are_to_be(engine: LlamaCppEngine) -> None:
    assert len(await engine.tokenize("<|im_start|>", add_special=False)) == 1
    assert len(await engine.tokenize("<|im_start|>", add_special=False, parse_special=False)) == len("<|im_start|>")


async def test_bos_is_added_once(engine: LlamaCppEngine) -> None:
    begun = await engine.tokenize("ab")
    assert await engine.pieces(begun) == [b"<s>", b"a", b"b"]
    assert await engine.tokenize("<s>ab") == begun


async def test_part_of_a_character_is_bytes_and_no_text(engine: LlamaCppEngine) -> None:
    tokens = await engine.tokenize("\u00fc", add_special=False)
    assert await engine.pieces(tokens) == [b"\xc3", b"\xbc"]
    assert await engine.detokenize(tokens[:1]) == "\ufffd"


@pytest.mark.parametrize("token", [-1, 100_000, 2**31 - 1])
async def test_number_that_is_no_token_ends_nothing(engine: LlamaCppEngine, token: int) -> None:
    with pytest.raises(BadRequestError, match=f"token {token} is not in the model's vocabulary, which has the tokens 0 to "):
        await engine.detokenize([1, token])
    with pytest.raises(BadRequestError):
        await engine.pieces([token])
    assert await engine.detokenize([]) == ""


async def test_it_does_nothing_else(engine: LlamaCppEngine) -> None:
    with pytest.raises(EngineError, match="only the model's vocabulary is loaded"):
        await ask(engine, "hi")
    with pytest.raises(EngineError, match="only the model's vocabulary is loaded"):
        async with engine.embed(EmbedJob(texts=("a",), num_ctx=64)) as arriving:
            await anext(arriving)
    engine.set_limit(1)
    assert await engine.tokenize("a", add_special=False) != []


async def test_other_tokenizers_come_back_as_well_as_they_can(tmp_path: Path) -> None:
    async with launched(write_bert(tmp_path / "bert.gguf", random_bert()), vocab_only=True, n_ctx=0) as engine:
        tokens = await engine.tokenize("why is the sky blue?")
        assert tokens == tokenizer().tokens("why is the sky blue?")
        assert (await engine.detokenize(tokens[1:-1])).strip() == "why is the sky blue?"
        assert await engine.pieces(tokens[:1]) == [vocabulary()[tokens[0]].encode()]


async def test_file_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF, or so it says")
    launcher = LlamaCppLauncher(keeps_standby=False)
    with pytest.raises(ModelLoadError, match="cannot load the vocabulary of"):
        await launcher.launch(LoadSpec(model_path=str(path), n_ctx=0, n_parallel=1, vocab_only=True), lambda _share: None)
    await launcher.aclose()
