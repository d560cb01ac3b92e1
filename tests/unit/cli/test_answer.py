import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.cli.answer import AnswerWriter, WordWrap, timings
from tests.support.terminal import Terminal, screen

WORDS = st.text("ab \n", max_size=60)


@given(text=WORDS, width=st.integers(4, 12))
def test_word_wrap_keeps_every_word_and_the_width(text: str, width: int) -> None:
    shown = screen(WordWrap(width).feed(text))
    assert all(len(line.rstrip()) <= width for line in shown)
    if all(len(word) <= width for word in text.split()):
        assert " ".join(shown).split() == text.split()
    else:
        assert "".join(shown).replace(" ", "") == text.replace(" ", "").replace("\n", "")


@given(text=WORDS, width=st.integers(4, 12))
def test_word_wrap_does_not_depend_on_the_pieces(text: str, width: int) -> None:
    wrap = WordWrap(width)
    assert "".join(map(wrap.feed, text)) == WordWrap(width).feed(text)


def test_word_wrap_takes_a_long_word_to_the_next_line() -> None:
    assert screen(WordWrap(10).feed("one two three four")) == ["one two ", "three four"]


def test_word_wrap_counts_wide_letters_twice_and_marks_not_at_all() -> None:
    assert screen(WordWrap(6).feed("日本語日本")) == ["日本語", "日本"]
    assert screen(WordWrap(4).feed("e\u0301" * 4)) == ["e\u0301" * 4]


def test_writer_in_a_pipe_keeps_thinking_out_of_the_text() -> None:
    out, aside = io.StringIO(), io.StringIO()
    writer = AnswerWriter(out, aside)
    writer.thinking("hm")
    writer.text("Hello!")
    writer.close()
    assert out.getvalue() == "Hello!"
    assert aside.getvalue() == "Thinking...\nhm\n...done thinking.\n\n"


@pytest.mark.parametrize("is_grey", [True, False])
def test_writer_on_a_terminal_shows_thinking_before_the_text(is_grey: bool) -> None:
    out = Terminal()
    writer = AnswerWriter(out, io.StringIO(), is_grey=is_grey)
    writer.thinking("hm")
    writer.text("Hello!")
    assert screen(out.getvalue()) == ["Thinking...", "hm", "...done thinking.", "", "Hello!"]
    assert ("\x1b[90mhm\x1b[0m" in out.getvalue()) is is_grey


def test_writer_adds_no_blank_line_after_a_thought_that_has_one() -> None:
    out = Terminal()
    writer = AnswerWriter(out, io.StringIO())
    writer.thinking("hm\n")
    writer.close()
    assert out.getvalue() == "Thinking...\nhm\n...done thinking.\n\n"


def test_writer_lets_no_control_character_of_the_model_reach_a_terminal() -> None:
    out, pipe = Terminal(), io.StringIO()
    for stream in (out, pipe):
        AnswerWriter(stream, io.StringIO()).text("a\x1b[2Jb\r\x07\x9b1A\tc\n")
    assert out.getvalue() == "a[2Jb1A\tc\n"
    assert pipe.getvalue() == "a\x1b[2Jb\r\x07\x9b1A\tc\n"


def test_writer_says_when_it_begins() -> None:
    begun: list[str] = []
    out = io.StringIO()
    writer = AnswerWriter(out, io.StringIO(), hide_thinking=True, begin=lambda: begun.append(out.getvalue()))
    writer.thinking("hm")
    assert begun == []
    writer.text("Hello!")
    assert begun == [""]


def test_writer_hides_thinking_when_asked() -> None:
    out, aside = io.StringIO(), io.StringIO()
    writer = AnswerWriter(out, aside, hide_thinking=True)
    writer.thinking("hm")
    writer.text("Hello!")
    assert (out.getvalue(), aside.getvalue()) == ("Hello!", "")


def test_writer_closes_a_thought_that_broke_off() -> None:
    aside = io.StringIO()
    writer = AnswerWriter(io.StringIO(), aside)
    writer.thinking("hm")
    writer.close()
    assert aside.getvalue().endswith("...done thinking.\n\n")


@pytest.mark.parametrize(
    ("done", "text"),
    [
        pytest.param({}, "", id="nothing-known"),
        pytest.param(
            {
                "total_duration": 7_820_133,
                "load_duration": 1_331_295,
                "prompt_eval_count": 2,
                "prompt_eval_duration": 722_000,
                "eval_count": 12,
                "eval_duration": 3_782_000,
            },
            "total duration:       7.820133ms\n"
            "load duration:        1.331295ms\n"
            "prompt eval count:    2 token(s)\n"
            "prompt eval duration: 722µs\n"
            "prompt eval rate:     2770.08 tokens/s\n"
            "eval count:           12 token(s)\n"
            "eval duration:        3.782ms\n"
            "eval rate:            3172.92 tokens/s\n",
            id="as-recorded",
        ),
        pytest.param(
            {"prompt_eval_count": 100, "prompt_eval_cached_count": 90, "prompt_eval_duration": 1_000_000_000},
            "prompt eval count:    100 token(s)\n"
            "prompt eval cached:   90 token(s)\n"
            "prompt eval duration: 1s\n"
            "prompt eval rate:     10.00 tokens/s\n",
            id="only-computed-tokens-count-for-the-rate",
        ),
    ],
)
def test_timings_have_a_row_for_each_known_figure(done: dict[str, int], text: str) -> None:
    assert timings(done) == text
