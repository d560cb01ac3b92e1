"""A vocabulary without its model, in a real worker: there and back, and what llama.cpp would end the worker for."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from corral.core.errors import BadRequestError, EngineError, ModelLoadError
from corral.core.types import EmbedJob, LoadSpec
from corral.engine.llamacpp import LlamaCppEngine, LlamaCppLauncher
from corral.engine.llamacpp.worker.native import binding, cuts
from corral.engine.llamacpp.worker.native.binding import Vocabulary
from corral.engine.llamacpp.worker.words import load_vocabulary
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


def _mixed(draw: random.Random, names: list[str]) -> str:
    """A text of names of special tokens, whole and broken, white space and words."""
    pieces = [*names, *(name[: draw.randrange(len(name))] for name in names), *(name[1:] for name in names)]
    pieces += [" ", "\n", "\n\n ", "\t", "word", " and", "\U0001f999", "1", "<"]
    return "".join(draw.choices(pieces, k=draw.randrange(2, 60)))


def _names(words: Vocabulary) -> list[str]:
    found = [words.spelled(token) for token in range(words.size) if words.is_control(token)]
    return [name.decode() for name in found if name][:40]


@pytest.mark.parametrize("kind", ["smollm2", "scripted", "bert"])
def test_text_that_is_read_in_parts_has_the_tokens_of_the_whole(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    match kind:
        case "smollm2":
            path = request.getfixturevalue("smollm2")
        case "scripted":
            path = write_scripted(tmp_path / "m.gguf", "Hello", bos="<s>")
        case _:
            path = write_bert(tmp_path / "bert.gguf", random_bert())
    words, draw = load_vocabulary(LoadSpec(model_path=str(path), n_ctx=0, n_parallel=1, vocab_only=True)), random.Random(1)
    texts = [_mixed(draw, _names(words)) for _ in range(150)]
    asked = [
        {"add_special": add_special, "parse_special": parse_special}
        for add_special in (True, False)
        for parse_special in (True, False)
    ]
    wholes = [[words.tokenize(text, **how) for text in texts] for how in asked]
    monkeypatch.setattr(binding, "_WHOLE_BYTES", 1)
    monkeypatch.setattr(cuts, "_PART_BYTES", 8)
    assert [[words.tokenize(text, **how) for text in texts] for how in asked] == wholes


async def test_many_names_of_special_tokens_are_read_in_no_time(engine: LlamaCppEngine) -> None:
    tokens = await engine.tokenize("<|im_start|>" * 300_000, add_special=False)
    assert len(tokens) == 300_000
    assert len(set(tokens)) == 1


async def test_short_text_does_not_wait_for_a_long_one(engine: LlamaCppEngine) -> None:
    ended = list[str]()

    async def read(text: str, name: str) -> None:
        await engine.tokenize(text)
        ended.append(name)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(read("word and " * 300_000, "long"))
        tasks.create_task(read("word", "short"))
    assert ended == ["short", "long"]


async def test_text_that_nobody_waits_for_is_not_read(engine: LlamaCppEngine) -> None:
    long = "word and " * 150_000
    worker = psutil.Process(engine.pid)
    await engine.tokenize(long)
    one_s = worker.cpu_times().user
    async with asyncio.TaskGroup() as tasks:
        left = [tasks.create_task(engine.tokenize(long)) for _ in range(8)]
        await engine.tokenize("hi")
        for task in left:
            task.cancel()
    await engine.tokenize(long)
    assert worker.cpu_times().user - one_s < 4 * one_s
