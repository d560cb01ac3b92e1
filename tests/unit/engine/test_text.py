from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from corral.engine.llamacpp.worker.batch.text import TextStream


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[begin:end] for begin, end in pairwise(edges)]


def shown(pieces: list[bytes], stops: tuple[str, ...] = ()) -> tuple[str, str]:
    """The text, and the stop string that ended it, or ""."""
    stream = TextStream(stops)
    text = ""
    for piece in pieces:
        text += stream.feed(piece)
        if stream.is_stopped:
            return text, stream.stopped_by
    return text + stream.close(), ""


stop_lists = st.lists(st.text("ab\u00e9🦙", min_size=1, max_size=4), max_size=3).map(tuple)


@given(st.text("abc\u00e9🦙", max_size=20), stop_lists, st.lists(st.integers(0, 100), max_size=12))
@example("xaabaaab", ("aaab",), [1, 2, 3, 4, 5, 6, 7])
def test_text_is_the_same_however_it_is_cut(text: str, stops: tuple[str, ...], cuts: list[int]) -> None:
    data = text.encode()
    whole = shown([data], stops)
    assert shown(pieces_of(data, cuts), stops) == whole
    ends = [text.index(stop) + len(stop) for stop in stops if stop in text]
    assert bool(whole[1]) == bool(ends)
    assert not ends or text.startswith(whole[0] + whole[1])
    assert text.startswith(whole[0])
    assert not any(stop in whole[0] for stop in stops)
    if not ends:
        assert whole[0] == text


@given(st.binary(max_size=24), st.lists(st.integers(0, 100), max_size=12))
def test_bytes_of_any_kind_are_the_same_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    assert shown(pieces_of(data, cuts)) == shown([data])


@given(st.text("ab", max_size=20), stop_lists)
def test_nothing_is_held_back_that_cannot_be_a_stop_string_any_more(text: str, stops: tuple[str, ...]) -> None:
    stream = TextStream(stops)
    out = "".join(stream.feed(letter.encode()) for letter in text)
    if not stream.is_stopped:
        held = text.removeprefix(out)
        assert not held or any(stop.startswith(held) for stop in stops)


def test_character_over_three_pieces_comes_whole_with_its_last_byte() -> None:
    stream = TextStream()
    first, *middle, last = (bytes([byte]) for byte in "🦙".encode())
    assert [stream.feed(piece) for piece in (first, *middle, last)] == ["", "", "", "🦙"]


def test_character_that_was_never_finished_is_left_out() -> None:
    stream = TextStream()
    assert stream.feed("ä🦙".encode()[:-1]) == "ä"
    assert stream.close() == ""


def test_bytes_that_are_no_utf8_become_replacement_characters() -> None:
    assert shown([b"a\xff", b"b"]) == ("a\ufffdb", "")


@pytest.mark.parametrize(
    ("stops", "pieces", "expected"),
    [
        pytest.param(("END",), [b"go on E", b"N", b"D and more"], ("go on ", "END"), id="over-borders"),
        pytest.param(("END",), [b"E", b"N", b"JOY"], ("ENJOY", ""), id="only-almost"),
        pytest.param(("END",), [b"so EN"], ("so EN", ""), id="almost-at-the-end"),
        pytest.param(("END",), [b"EEEND"], ("EE", "END"), id="begins-again"),
        pytest.param(("\n\n", "\nUser:"), [b"hi\n", b"User:"], ("hi", "\nUser:"), id="two-with-one-beginning"),
        pytest.param(("bc", "abcd"), [b"abcd"], ("a", "bc"), id="the-one-complete-first"),
        pytest.param(("d", "bcd"), [b"ab", b"cd"], ("a", "bcd"), id="the-longer-of-two-that-end-together"),
        pytest.param(("é",), [b"caf\xc3", b"\xa9!"], ("caf", "é"), id="inside-a-character"),
        pytest.param(("",), [b"abc"], ("abc", ""), id="empty"),
        pytest.param(("abc",), [b"abc"], ("", "abc"), id="everything"),
    ],
)
def test_stop_string_ends_the_text(stops: tuple[str, ...], pieces: list[bytes], expected: tuple[str, str]) -> None:
    assert shown(pieces, stops) == expected


def test_nothing_is_shown_after_a_stop_string() -> None:
    stream = TextStream(("x",))
    assert stream.feed(b"ax") == "a"
    assert stream.feed(b"more") == ""
    assert stream.close() == ""
