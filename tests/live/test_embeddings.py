"""Embeddings of a real engine, against the same models in numpy."""

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from corral.core.errors import BadRequestError, ContextOverflowError, EngineCrashedError
from corral.core.types import EmbedJob
from corral.engine.llamacpp import LlamaCppEngine
from tests.support.bert import POOLS, Bert
from tests.support.gguf_bert import Pooling, random_bert, tokenizer, write_bert
from tests.support.gguf_files import write_random
from tests.support.live_engine import ask, job_of, launched

TEXTS = ["the sky", "hello word", "why is the sky blue?", "a", "blueing skying, the words", "x1 y2 z3!"]
Rows = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def bert() -> Bert:
    return random_bert()


@pytest.fixture(scope="module")
def bert_file(bert: Bert, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("gguf") / "bert.gguf", bert)


@pytest.fixture(scope="module")
def chat_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random(tmp_path_factory.mktemp("gguf") / "random.gguf", context=4096)


async def embed(
    engine: LlamaCppEngine, texts: Sequence[str], *, num_ctx: int = 4096, truncate: bool = True
) -> tuple[Rows, int]:
    """The vectors, and how many tokens were read for them."""
    data, tokens = b"", 0
    async with engine.embed(EmbedJob(texts=tuple(texts), num_ctx=num_ctx, truncate=truncate)) as arriving:
        async for came in arriving:
            data += came.data
            tokens += came.prompt_tokens
    return np.frombuffer(data, "<f4").reshape(len(texts), -1), tokens


def of_length_one(rows: Rows) -> Rows:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def close_to(wanted: Sequence[Rows] | Rows, tolerance: float) -> object:
    return pytest.approx(np.asarray(wanted), abs=tolerance)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
async def test_embedding_model_answers_as_numpy_does(bert: Bert, tmp_path: Path, pooling: Pooling) -> None:
    path = write_bert(tmp_path / "bert.gguf", bert, pooling=pooling)
    async with launched(path) as engine:
        vectors, tokens = await embed(engine, TEXTS)
    read = [tokenizer().tokens(text) for text in TEXTS]
    assert vectors == close_to([POOLS[pooling](bert.hidden(ids)) for ids in read], 2e-2)
    assert tokens == sum(map(len, read))


@pytest.mark.parametrize("pooling", ["none", None])
async def test_model_that_does_not_say_how_gives_the_mean(bert: Bert, tmp_path: Path, pooling: Pooling | None) -> None:
    async with launched(write_bert(tmp_path / "bert.gguf", bert, pooling=pooling)) as engine:
        vectors, _ = await embed(engine, TEXTS)
    assert vectors == close_to([POOLS["mean"](bert.hidden(tokenizer().tokens(text))) for text in TEXTS], 2e-2)


async def test_many_texts_give_what_each_gives_alone(bert_file: Path) -> None:
    texts = [" ".join(TEXTS[number % 5 : number % 5 + 1 + number % 2]) for number in range(300)]
    async with launched(bert_file) as engine:
        together, _ = await embed(engine, texts)
        alone = [(await embed(engine, [text]))[0][0] for text in texts[:12]]
    assert of_length_one(together[:12]) == close_to(of_length_one(np.array(alone)), 3e-4)
    assert of_length_one(together[150:160]) == close_to(of_length_one(together[:10]), 3e-4)


async def test_long_text_is_cut_to_the_positions_that_the_model_has(bert: Bert, bert_file: Path) -> None:
    text = "hello " * 500
    async with launched(bert_file) as engine:
        vectors, tokens = await embed(engine, [text])
        with pytest.raises(ContextOverflowError):
            await embed(engine, ["a", text], truncate=False)
    assert tokens == 64
    assert vectors == close_to([POOLS["mean"](bert.hidden(tokenizer().tokens(text, most=64)))], 2e-2)


async def test_context_grows_for_long_texts(tmp_path: Path) -> None:
    bert = random_bert(context=3000)
    path = write_bert(tmp_path / "bert.gguf", bert)
    texts = ["a", "word " * 1500, "the sky"]
    async with launched(path, n_ctx=3000) as engine:
        vectors, tokens = await embed(engine, texts)
        before = engine.info.size_bytes
        again, _ = await embed(engine, texts[::2])
    assert tokens == 3 + 1502 + 4
    assert vectors == close_to([POOLS["mean"](bert.hidden(tokenizer().tokens(text, most=3000))) for text in texts], 2e-2)
    assert again == close_to(vectors[::2], 1e-4)
    assert before > 0


async def test_embedding_model_generates_no_text(bert_file: Path) -> None:
    async with launched(bert_file) as engine:
        with pytest.raises(BadRequestError, match="makes embeddings and cannot generate text"):
            await ask(engine, "hi")
        assert (engine.info.n_parallel, engine.info.can_shift) == (4, False)


async def test_chat_model_embeds_and_reads_a_long_text_in_pieces(chat_file: Path) -> None:
    texts = ["hello", "a longer line of many words", "x" * 1200, "hello"]
    async with launched(chat_file, n_ctx=4096) as engine:
        vectors, tokens = await embed(engine, texts)
        alone = [(await embed(engine, [text]))[0][0] for text in texts]
        with pytest.raises(BadRequestError, match="the model makes no tokens of it"):
            await embed(engine, ["a", ""])
    assert tokens == sum(map(len, texts))
    assert vectors == close_to(alone, 1e-3)
    assert np.isfinite(vectors).all()
    assert np.linalg.norm(vectors[0] - vectors[1]) > 0.1


async def test_vectors_of_a_reader_from_left_to_right_are_pooled_as_the_file_says(tmp_path: Path) -> None:
    """The mean of a text of one token is its last token's vector; of others it is not."""
    made = {}
    for kind in (1, 2, 3):
        path = write_random(tmp_path / f"{kind}.gguf", metadata={"llama.pooling_type": kind})
        async with launched(path, n_ctx=2048) as engine:
            made[kind], _ = await embed(engine, ["a", "abc", "a" + "b" * 1000])
    mean, first, last = made[1], made[2], made[3]
    assert mean[0] == close_to(last[0], 1e-3)
    assert first == close_to([first[0]] * 3, 1e-2)
    assert np.linalg.norm(mean[1] - last[1]) > 0.1
    assert np.linalg.norm(first[1] - last[1]) > 0.1


async def test_generation_goes_on_beside_embeddings_and_says_the_same(chat_file: Path) -> None:
    async with launched(chat_file, n_ctx=2048) as engine:
        quiet = await ask(engine, "hello", num_predict=200, num_ctx=2048)
        said, seen = "", 0
        async with asyncio.TaskGroup() as tasks, engine.generate(job_of("hello", num_predict=200, num_ctx=2048)) as steps:
            await anext(steps)
            work = tasks.create_task(embed(engine, ["word " * 200] * 40))
            async for step in steps:
                said += step.text
                seen += not work.done()
                if step.finish:
                    break
        vectors, _ = work.result()
    assert quiet.text.endswith(said)
    assert seen > 3, "steps came while texts were read"
    assert vectors == close_to([vectors[0]] * 40, 1e-3)


async def test_single_text_is_not_kept_waiting_by_a_thousand(bert_file: Path) -> None:
    async with launched(bert_file) as engine:
        async with asyncio.TaskGroup() as tasks:
            many = tasks.create_task(embed(engine, ["hello word"] * 3000))
            one = tasks.create_task(embed(engine, ["the sky"]))
            await one
            assert not many.done()
        assert many.result()[0].shape == (3000, 64)


async def test_leaving_ends_the_work(bert_file: Path) -> None:
    async with launched(bert_file) as engine:
        job = EmbedJob(texts=("hello word",) * 100_000, num_ctx=512)
        async with engine.embed(job) as arriving:
            await anext(arriving)
        async with asyncio.timeout(10):
            vectors, _ = await embed(engine, ["a"])
    assert vectors.shape == (1, 64)


async def test_worker_that_dies_fails_the_job(bert_file: Path) -> None:
    async with launched(bert_file) as engine, engine.embed(EmbedJob(texts=("a",) * 100_000, num_ctx=512)) as arriving:
        await anext(arriving)
        os.kill(engine.pid, signal.SIGKILL)

        async def read() -> None:
            async for _ in arriving:
                pass

        with pytest.raises(EngineCrashedError):
            await read()


async def test_sizes_are_told(chat_file: Path) -> None:
    """Making embeddings takes memory of its own, beside what generating takes, and a long text's is given back."""
    async with launched(chat_file, n_ctx=4096) as engine:
        await ask(engine, "hi", num_predict=1)
        alone = engine.info.size_bytes
        await embed(engine, ["a"])
        beside = engine.info.size_bytes
        await embed(engine, ["x" * 3000])
        after = engine.info.size_bytes
    assert beside > alone
    assert after <= beside
