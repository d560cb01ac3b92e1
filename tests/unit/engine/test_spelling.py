"""Texts as tokens that spell just these texts, whatever the model's own tokenizer adds to them."""

import pytest

from corral.core.errors import EngineError
from corral.engine.llamacpp.worker.grammar.spelling import Spelling

TEXTS = [b"<end>", b"<call>", b"a", b"b", b"ab", b" ", b" a", b"\n", b"\xc3", b"\xa9", b"\x02", b"\xe2\x96\x81"]


class Vocabulary:
    """Longest match, with `before` put before every text."""

    size = len(TEXTS)

    def __init__(self, before: str = "") -> None:
        self._before = before

    def tokenize(self, text: str, *, add_special: bool) -> list[int]:
        assert not add_special
        data, tokens = (self._before + text).encode(), list[int]()
        while data:
            found = max((text for text in TEXTS if data.startswith(text)), key=len, default=None)
            if found is None:
                raise EngineError("llama.cpp cannot tokenize it")
            tokens.append(TEXTS.index(found))
            data = data[len(found) :]
        return tokens

    def spelled(self, token: int) -> bytes:
        return TEXTS[token]

    def ends(self, token: int) -> bool:
        return token == 0

    def is_control(self, token: int) -> bool:
        return token < 2


def spelled(spelling: Spelling, text: bytes) -> list[bytes]:
    return [TEXTS[token] for token in spelling.exact(text)]


def test_text_has_the_models_own_tokens() -> None:
    assert spelled(Spelling(Vocabulary()), b"ab a<call>") == [b"ab", b" a", b"<call>"]
    assert Spelling(Vocabulary()).exact(b"") == []


def test_space_that_the_tokenizer_adds_is_left_out() -> None:
    assert spelled(Spelling(Vocabulary(" ")), b"ab") == [b"ab"]
    assert spelled(Spelling(Vocabulary(" ")), b" a") == [b" a"]


def test_part_of_a_character_is_spelled_with_what_there_is() -> None:
    assert spelled(Spelling(Vocabulary()), b"ab\xc3") == [b"ab", b"\xc3"]


def test_text_with_the_name_of_a_token_that_ends_answers_cannot_be_spelled_by_it() -> None:
    with pytest.raises(EngineError, match="<end>"):
        Spelling(Vocabulary()).exact(b"a<end>")


def test_text_without_tokens_is_an_error_that_names_it() -> None:
    with pytest.raises(EngineError, match="xyz"):
        Spelling(Vocabulary()).exact(b"axyz")


@pytest.mark.parametrize(("names", "tokens"), [((), set()), (("<call>", "ab", "<end>", "a<call>", "?"), {1, 4})])
def test_names_are_the_tokens_that_they_are(names: tuple[str, ...], tokens: set[int]) -> None:
    spelling = Spelling(Vocabulary())
    assert spelling.named(names) == tokens
    assert spelling.named(names) == tokens


def test_tokens_are_sorted_by_use() -> None:
    spelling = Spelling(Vocabulary())
    assert spelling.controls() == {1: b"<call>"}
    assert [TEXTS[token] for token in spelling.blanks()] == [b" ", b"\n"]
    assert spelling.all()[0] == b""
