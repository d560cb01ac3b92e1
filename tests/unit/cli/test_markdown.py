import re

from hypothesis import given, settings
from hypothesis import strategies as st

from corral.cli.markdown import MarkdownBody
from tests.support.terminal import Terminal, screen

WORDS = st.lists(
    st.sampled_from(
        [
            "alpha",
            "beta",
            "**gamma**",
            "`delta`",
            "\n",
            "\n\n",
            "# ",
            "- ",
            "1. ",
            "```\n",
            "> ",
            "| a | b |\n|---|---|\n",
            "<b>",
        ]
    ),
    max_size=20,
)


def written(text: str, *, size: tuple[int, int] = (40, 24), has_colours: bool = True) -> str:
    out = Terminal()
    body = MarkdownBody(out, lambda: size, has_colours=has_colours)
    for letter in text:
        body.write(letter)
    body.close()
    return out.getvalue()


def shown(text: str, *, size: tuple[int, int] = (40, 24)) -> list[str]:
    return screen(written(text, size=size))


def test_marks_give_way_to_what_they_mean() -> None:
    assert shown("# Title\n\nHello **world**, `x`.\n\n- one\n- two **b**\n") == [
        "Title",
        "",
        "Hello world, x.",
        "",
        " • one",
        " • two b",
        "",
    ]
    assert "\x1b[1mworld" in written("Hello **world**")


def test_text_without_marks_is_written_once() -> None:
    assert written("Hello, world.\nBye") == "Hello, world.\nBye"


def test_a_block_streams_before_it_is_whole() -> None:
    out = Terminal()
    body = MarkdownBody(out, lambda: (40, 24), has_colours=True)
    body.write("Hello **wor")
    assert out.getvalue() == "Hello **wor"
    body.write("ld**\n\n")
    body.write("x")
    assert screen(out.getvalue()) == ["Hello world", "", "x"]


def test_wrapped_blocks_are_drawn_over_whole() -> None:
    assert shown("It is **important** to wrap long lines at words.\n\nEnd", size=(20, 24)) == [
        "It is important to",
        "wrap long lines at",
        "words.",
        "",
        "End",
    ]


def test_a_block_taller_than_the_screen_stays_as_it_was_written() -> None:
    text = "".join(f"**{number}**\n" for number in range(10))
    assert screen(written(text, size=(40, 5)))[:-1] == text.splitlines()
    assert shown(text)[:-1] == [str(number) for number in range(10)]


def test_a_block_stays_where_the_window_changed_meanwhile() -> None:
    out, size = Terminal(), [(40, 24)]
    body = MarkdownBody(out, lambda: size[0], has_colours=True)
    body.write("a **b")
    size[0] = (30, 24)
    body.write("**\n\n")
    body.write("**c**")
    body.close()
    assert screen(out.getvalue()) == ["a **b**", "", "c"]


def test_code_keeps_its_letters_and_its_fences() -> None:
    code = "```python\ndef f(x):\n    return [x] * 2  # **no bold**\n\nprint(f(1))\n```"
    assert shown(f"So:\n{code}\nDone") == ["So:", *code.splitlines(), "Done"]
    assert shown("```\nno end\n") == ["```", "no end", ""]
    long = "x = " + "'abc' + " * 20 + "''"
    assert long in re.sub(r"\x1b\[[\d;]*m", "", written(f"```py\n{long}\n```"))


def test_lines_of_a_poem_stay_lines() -> None:
    assert shown("Roses are *red*\nViolets are blue") == ["Roses are red", "Violets are blue"]


def test_nothing_is_lost_that_only_looks_like_markup() -> None:
    assert shown(r"Let \(x_1 \in \{a\}\) be *so*.") == [r"Let \(x_1 \in {a}\) be so."]
    assert shown("Use <b> and *c* in <think>") == ["Use <b> and c in <think>"]
    assert shown("See [this](http://x.y) *now*") == ["See this (http://x.y) now"]
    assert shown("![pic](http://x.y/p.png)") == ["!pic (http://x.y/p.png)"]
    assert shown("    indented *code*") == ["    indented *code*"]


def test_numbers_of_items_are_the_models() -> None:
    assert shown("3. three\n4. four\n") == [" 3. three", " 4. four", ""]


def test_without_colours_there_are_none() -> None:
    assert not re.search(r"\x1b\[(?:\d+;)*[349]\d", written("> `a` [b](c)\n\n```py\nx = 1\n```", has_colours=False))


@settings(max_examples=60, deadline=None)
@given(words=WORDS)
def test_no_word_is_lost_and_the_lines_before_stay(words: list[str]) -> None:
    out = Terminal()
    out.write("before\n")
    body = MarkdownBody(out, lambda: (30, 50), has_colours=True)
    for word in words:
        body.write(word)
    body.close()
    first, *rest = screen(out.getvalue())
    assert first == "before"
    for word in ("alpha", "beta", "gamma", "delta"):
        assert "".join(rest).replace(" ", "").count(word) == "".join(words).count(word)  # a wrapped item is indented
