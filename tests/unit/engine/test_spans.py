"""Where images lie among the tokens of a prompt."""

import numpy as np
import pytest

from corral.engine.llamacpp.worker.media.spans import NO_SPANS, Piece, Spans, digest_of, laid_out, tagged


def piece(content: bytes = b"a", *, tokens: int = 4, positions: int | None = None, ordinal: int = 0) -> Piece:
    return Piece(
        digest=digest_of(content, ordinal, tokens),
        part=0,
        ordinal=ordinal,
        tokens=tokens,
        positions=tokens if positions is None else positions,
        is_causal=True,
        places=np.zeros((1, tokens), np.int32),
    )


@pytest.mark.parametrize(
    ("prompt", "count", "parts"),
    [
        pytest.param("[img-0]What?", 1, [0, "What?"], id="before-the-text"),
        pytest.param("a[img-1]b[img-0]c", 2, ["a", 1, "b", 0, "c"], id="in-any-order"),
        pytest.param("[img-0][img-1]", 2, [0, 1], id="side-by-side"),
        pytest.param("[img-0] and [img-0]", 1, [0, " and ", 0], id="shown-twice"),
        pytest.param("[img-0] not [img-1]", 1, [0, " not [img-1]"], id="number-that-is-not-there"),
        pytest.param("[img-9][img-0]!", 1, ["[img-9]", 0, "!"], id="unknown-then-known"),
        pytest.param("[img-] [img-x] [img-00000000000]", 1, ["[img-] [img-x] [img-00000000000]"], id="no-tags"),
        pytest.param("plain", 3, ["plain"], id="none"),
        pytest.param("", 1, [], id="empty"),
    ],
)
def test_tagged_takes_a_prompt_apart(prompt: str, count: int, parts: list[str | int]) -> None:
    assert tagged(prompt, count) == parts


def test_pieces_have_a_number_of_their_own_by_content_place_and_size() -> None:
    pieces = [piece(b"a"), piece(b"b"), piece(b"a", ordinal=1), piece(b"a", tokens=5)]
    assert len({one.token for one in pieces}) == 4
    assert all(one.token < 0 for one in pieces)
    assert piece(b"a").token == piece(b"a").token


def test_laid_out_puts_pieces_between_texts() -> None:
    one, two = piece(b"a"), piece(b"b", tokens=6, positions=3)
    tokens, spans = laid_out([1, 2], [[10, 11], one, [12], two, [13]])
    assert tokens == [1, 2, 10, 11, *[one.token] * 4, 12, *[two.token] * 6, 13]
    assert [(span.begin, span.end, span.position) for span in map(spans.at, (4, 9)) if span] == [(4, 8, 4), (9, 15, 9)]


@pytest.mark.parametrize(
    ("count", "position"),
    [(0, 0), (2, 2), (3, 3), (4, 4), (6, 6), (7, 7), (8, 10), (12, 10), (13, 10), (14, 11), (20, 17)],
)
def test_position_counts_spans_of_two_dimensions_by_what_they_take(count: int, position: int) -> None:
    """Text 0 to 2, a span in one dimension up to 6, text at 6, a span of six tokens and three positions, text from 13 on."""
    _, spans = laid_out([], [[1, 2], piece(b"a"), [3], piece(b"b", tokens=6, positions=3), [4]])
    assert spans.position(count) == position


def test_border_never_cuts_a_span() -> None:
    _, spans = laid_out([], [[1, 2], piece(), [3]])
    assert [spans.border(count) for count in range(9)] == [0, 1, 2, 2, 2, 2, 6, 7, 8]


def test_at_gives_the_span_around_a_token() -> None:
    _, spans = laid_out([], [[1, 2], piece(), [3]])
    assert [spans.at(count) is not None for count in range(8)] == [False, False, True, True, True, True, False, False]


def test_text_end_is_where_the_next_span_begins() -> None:
    _, spans = laid_out([], [[1, 2], piece(), [3, 4], piece(), [5]])
    assert [spans.text_end(count, 13) for count in (0, 2, 6, 7, 12)] == [2, 2, 8, 8, 13]
    assert spans.text_end(0, 1) == 1


def test_pieces_are_those_that_are_not_over() -> None:
    one, two = piece(b"a"), piece(b"b")
    _, spans = laid_out([], [[1], one, [2], two])
    assert spans.pieces(0) == [one, two]
    assert spans.pieces(4) == [one, two]
    assert spans.pieces(5) == [two]
    assert spans.pieces(10) == []
    assert spans.end == 10


def test_no_spans_change_nothing() -> None:
    assert not NO_SPANS
    assert (NO_SPANS.position(7), NO_SPANS.border(7), NO_SPANS.at(7), NO_SPANS.text_end(7, 9)) == (7, 7, None, 9)
    assert NO_SPANS.end == 0
    assert isinstance(NO_SPANS, Spans)
