"""Models that rank texts by a query, in a real engine, against numpy; and one that reads its query in a template."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pytest

from corral.core.errors import BadRequestError, ContextOverflowError
from corral.core.types import EmbedJob
from corral.engine.llamacpp import LlamaCppEngine
from tests.support.bert import Bert
from tests.support.gguf_bert import random_bert, tokenizer, write_bert
from tests.support.gguf_files import write_random
from tests.support.live_engine import launched

QUERY: Final = "why is the sky blue?"
TEXTS: Final = ["the sky", "hello word", "blueing skying, the words", "", "a", "x1 y2 z3!"]
TEMPLATE: Final = "<|im_start|>Is it so?\nQuery: {query}\nDocument: {document}<|im_end|>"
HEAD: Final = np.random.default_rng(7).standard_normal((2, 64)).astype(np.float16)
Rows = npt.NDArray[np.float32]


async def rank(
    engine: LlamaCppEngine, query: str | None, texts: Sequence[str], *, num_ctx: int = 4096, truncate: bool = True
) -> tuple[Rows, int]:
    """What the classifier says of each text, and how many tokens were read for all of it."""
    data, tokens = b"", 0
    async with engine.embed(EmbedJob(texts=tuple(texts), query=query, num_ctx=num_ctx, truncate=truncate)) as arriving:
        async for came in arriving:
            data += came.data
            tokens += came.prompt_tokens
    return np.frombuffer(data, "<f4").reshape(len(texts), -1), tokens


def close_to(wanted: object, tolerance: float) -> object:
    return pytest.approx(np.asarray(wanted), abs=tolerance)


def softmax(rows: Rows) -> Rows:
    powers = np.exp(rows - rows.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def write_templated(path: Path, *, pooling: int = 4) -> Path:
    """A model of the Qwen3 family, which ranks by the last token; with another pooling, the same model for embeddings."""
    ranks = {
        "qwen3.classifier.output_labels": ["yes", "no"],
        "tokenizer.chat_template.rerank": TEMPLATE,
        "tokenizer.chat_templates": ["rerank"],
    }
    return write_random(
        path,
        arch="qwen3",
        context=4096,
        metadata={"qwen3.pooling_type": pooling, **(ranks if pooling == 4 else {})},
        more_tensors={"cls.output.weight": HEAD} if pooling == 4 else {},
    )


@pytest.fixture(scope="module")
def bert() -> Bert:
    return random_bert(classes=1, context=128)


@pytest.fixture(scope="module")
def bert_file(bert: Bert, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("gguf") / "ranker.gguf", bert, pooling="rank")


@pytest.fixture(scope="module")
def qwen_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_templated(tmp_path_factory.mktemp("gguf") / "qwen.gguf")


async def test_scores_are_numpys(bert: Bert, bert_file: Path) -> None:
    async with launched(bert_file) as engine:
        scores, tokens = await rank(engine, QUERY, TEXTS)
    pairs = [tokenizer().pair(QUERY, text) for text in TEXTS]
    assert scores == close_to([bert.scores(pair) for pair in pairs], 2e-2)
    assert np.ptp(scores) > 0.1, "the texts are told apart"
    assert tokens == sum(map(len, pairs))


async def test_several_classes_are_all_there(tmp_path: Path) -> None:
    bert = random_bert(classes=3)
    async with launched(write_bert(tmp_path / "ranker.gguf", bert, pooling="rank")) as engine:
        scores, _ = await rank(engine, "the", TEXTS)
    assert scores == close_to([bert.scores(tokenizer().pair("the", text)) for text in TEXTS], 2e-2)


async def test_many_texts_get_what_each_gets_alone(bert_file: Path) -> None:
    texts = [f"{TEXTS[number % 6]} {number}" for number in range(300)]
    async with launched(bert_file) as engine:
        together, _ = await rank(engine, QUERY, texts)
        alone = [(await rank(engine, QUERY, [text]))[0][0] for text in texts[:8]]
    assert together[:8] == close_to(alone, 2e-3)


async def test_long_text_is_cut_and_its_query_is_not(bert: Bert, bert_file: Path) -> None:
    text = "hello " * 50_000
    async with launched(bert_file) as engine:
        scores, tokens = await rank(engine, QUERY, [text])
        with pytest.raises(ContextOverflowError):
            await rank(engine, QUERY, ["a", "hello " * 200], truncate=False)
        with pytest.raises(ContextOverflowError) as caught:
            await rank(engine, "word " * 200, ["a"])
    assert tokens == 128
    assert scores[0] == close_to(bert.scores(tokenizer().pair(QUERY, "hello " * 500, most=128)), 2e-2)
    assert caught.value.prompt_tokens == 204


async def test_ranker_makes_no_embeddings_and_embedder_does_not_rank(bert_file: Path, tmp_path: Path) -> None:
    async with launched(bert_file) as engine:
        with pytest.raises(BadRequestError, match="ranks texts by a query and makes no embeddings"):
            await rank(engine, None, ["a"])
        assert (await rank(engine, QUERY, ["a"]))[0].shape == (1, 1)
    async with launched(write_bert(tmp_path / "bert.gguf", random_bert())) as engine:
        with pytest.raises(BadRequestError, match="makes embeddings and does not rank"):
            await rank(engine, QUERY, ["a"])


async def test_template_has_the_query_and_the_text_in_their_places(qwen_file: Path, tmp_path: Path) -> None:
    """The scores are the classifier's of what the same model says of the whole prompt as an embedding."""
    query, texts = "{document} or {query}?", ["sky", "the word {query}", ""]
    async with launched(qwen_file) as engine:
        scores, tokens = await rank(engine, query, texts)
    prompts = [TEMPLATE.replace("{document}", "\0").replace("{query}", query).replace("\0", text) for text in texts]
    async with launched(write_templated(tmp_path / "last.gguf", pooling=3)) as engine:
        vectors, read = await rank(engine, None, prompts)
    assert scores == close_to(softmax(vectors @ HEAD.astype(np.float32).T), 2e-2)
    assert scores.sum(axis=1) == close_to([1, 1, 1], 1e-3)
    assert tokens == read


async def test_text_that_is_read_in_pieces_scores_as_one_beside_short_ones(qwen_file: Path) -> None:
    texts = ["a", "word " * 400, "sky", "hello " * 300, "b"]
    async with launched(qwen_file, n_ctx=4096) as engine:
        together, _ = await rank(engine, QUERY, texts)
        alone = [(await rank(engine, QUERY, [text]))[0][0] for text in texts]
    assert together == close_to(alone, 2e-2)
    assert np.ptp(together[:, 0]) > 0.2


async def test_long_text_is_cut_in_a_template(qwen_file: Path) -> None:
    async with launched(qwen_file, n_ctx=1024) as engine:
        _, tokens = await rank(engine, QUERY, ["word " * 3000], num_ctx=1024)
        _, short = await rank(engine, QUERY, ["word " * 30], num_ctx=1024)
        with pytest.raises(ContextOverflowError):
            await rank(engine, "word " * 3000, ["a"], num_ctx=1024)
    assert 1000 <= tokens <= 1024
    assert short < 300
