"""The use cases over a scripted engine; what they cost is a vocabulary, never a model."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from corral.core.errors import BadRequestError, ModelNotFoundError
from corral.core.settings import Settings
from corral.engine.fake import FakeLauncher
from corral.sched import MOST_VOCABULARIES, Scheduler, Vocabularies
from corral.service.tokens import MOST_TEXT_BYTES, DetokenizeRequest, Tokenized, TokenizeRequest, TokenService
from corral.store import Store
from tests.support.gguf_files import write_scripted
from tests.support.stores import add_model


class Rig:
    def __init__(self, folder: Path) -> None:
        store, settings = Store(folder / "models"), Settings(models=folder / "models")
        self.launcher = FakeLauncher()
        self.scheduler = Scheduler(self.launcher, settings)
        self.vocabularies = Vocabularies(self.launcher, self.scheduler.line(MOST_VOCABULARIES), settings)
        self.service = TokenService(store, self.vocabularies)
        add_model(store, "hello", write_scripted(folder / "hello.gguf", "Hello"))

    async def tokenize(self, text: str, model: str = "hello", **more: Any) -> Tokenized:
        return await self.service.tokenize(TokenizeRequest(model=model, text=text, **more))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    yield made
    await made.scheduler.aclose()
    await made.vocabularies.aclose()
    made.service.close()


async def test_text_becomes_tokens_and_no_model_is_loaded(rig: Rig) -> None:
    made = await rig.tokenize("a <b> c")
    assert (made.tokens, made.pieces) == ([0, 1001, 2], None)
    assert made.total_ns >= made.load_ns > 0
    assert [spec.vocab_only for spec in rig.launcher.specs] == [True]
    assert rig.scheduler.running() == []


async def test_settings_reach_the_tokenizer(rig: Rig) -> None:
    assert (await rig.tokenize("a <b>", parse_special=False)).tokens == [0, 1]
    await rig.tokenize("a", add_special=True)
    assert [special for _, special in rig.launcher.engines[0].tokenized] == [False, True]


async def test_pieces_are_told_where_they_are_asked_for(rig: Rig) -> None:
    assert (await rig.tokenize("a b", with_pieces=True)).pieces == [b"0", b"1"]


async def test_tokens_become_text(rig: Rig) -> None:
    made = await rig.service.detokenize(DetokenizeRequest(model="hello", tokens=(5, 0)))
    assert made.text == "5 0"
    assert made.total_ns >= made.load_ns > 0


async def test_number_that_is_no_token_is_refused(rig: Rig) -> None:
    with pytest.raises(BadRequestError, match="token 2000 is not in the model's vocabulary"):
        await rig.service.detokenize(DetokenizeRequest(model="hello", tokens=(5, 2000)))


@pytest.mark.parametrize("text", ["x" * (MOST_TEXT_BYTES + 1), "ü" * (MOST_TEXT_BYTES // 2 + 1)])
async def test_text_that_would_take_too_long_is_refused_before_anything_is_read(rig: Rig, text: str) -> None:
    with pytest.raises(BadRequestError, match=rf"the text has \d+ bytes or more, and {MOST_TEXT_BYTES} are taken"):
        await rig.tokenize(text)
    assert not rig.launcher.specs


async def test_model_must_be_named_and_there(rig: Rig) -> None:
    with pytest.raises(BadRequestError, match=r"^model is required$"):
        await rig.tokenize("a", model="")
    with pytest.raises(ModelNotFoundError, match=r"^model 'nope' not found$"):
        await rig.tokenize("a", model="nope")
