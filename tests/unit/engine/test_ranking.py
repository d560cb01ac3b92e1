"""How a query and a text become one prompt, and what goes where they are too long."""

import pytest

from corral.engine.llamacpp.worker.embed.ranking import MarkedPair, TemplatedPair

BEGIN, BETWEEN, END = 1, 3, 2


class Words:
    """A token is a character, and "<x>" is one where special tokens are read."""

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> list[int]:
        assert not add_special, "the marks are the pair's own"
        return list((text.replace("<x>", "\t") if parse_special else text).encode())


MARKED = MarkedPair(Words(), before=(BEGIN,), between=(BETWEEN, BETWEEN), after=(END,))
TEMPLATED = TemplatedPair(Words(), "<x>Q: {query} D: {document}<x>")


@pytest.mark.parametrize("limit", [None, 8, 100])
def test_marks_stand_around_both(limit: int | None) -> None:
    assert MARKED.prompt("q", "<x>", limit=limit) == [BEGIN, *b"q", BETWEEN, BETWEEN, *b"<x>", END]


@pytest.mark.parametrize(("limit", "text"), [(7, "ab"), (6, "a"), (5, "abc"), (3, "abc")])
def test_text_between_marks_is_cut_and_the_query_is_not(limit: int, text: str) -> None:
    """Where there is no room for any of the text, it is too long as it is."""
    tokens = MARKED.prompt("q", "abc", limit=limit)
    assert tokens == [BEGIN, *b"q", BETWEEN, BETWEEN, *text.encode(), END]


def test_no_text_needs_no_room() -> None:
    assert MARKED.prompt("q", "", limit=5) == [BEGIN, *b"q", BETWEEN, BETWEEN, END]


@pytest.mark.parametrize("limit", [None, 100])
def test_template_has_both_in_their_places_once(limit: int | None) -> None:
    assert bytes(TEMPLATED.prompt("{document}?", "{query}!", limit=limit)) == b"\tQ: {document}? D: {query}!\t"


@pytest.mark.parametrize("limit", range(10, 30))
def test_text_in_a_template_is_cut_to_fit(limit: int) -> None:
    prompt = bytes(TEMPLATED.prompt("q", "abcdefghijklmnopqrstuvwxyz", limit=limit))
    around = len(b"\tQ: q D: \t")
    if limit <= around:
        assert len(prompt) > limit
    else:
        assert prompt == b"\tQ: q D: " + b"abcdefghijklmnopqrstuvwxyz"[: limit - around] + b"\t"


def test_special_tokens_in_a_text_that_is_cut() -> None:
    prompt = bytes(TEMPLATED.prompt("q", "<x>" * 50, limit=30))
    assert 15 < len(prompt) <= 30
    assert prompt.startswith(b"\tQ: q D: \t\t\t")


class CountingWords(Words):
    def __init__(self) -> None:
        self.longest = 0

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> list[int]:
        self.longest = max(self.longest, len(text))
        return super().tokenize(text, add_special=add_special, parse_special=parse_special)


@pytest.mark.parametrize("is_templated", [False, True])
def test_far_too_long_text_is_not_read_as_a_whole(is_templated: bool) -> None:
    words = CountingWords()
    pair = TemplatedPair(words, TEMPLATED.template) if is_templated else MarkedPair(words, (BEGIN,), (BETWEEN,), (END,))
    assert len(pair.prompt("q", "y" * 10_000_000, limit=64)) == 64
    assert words.longest < 20_000
