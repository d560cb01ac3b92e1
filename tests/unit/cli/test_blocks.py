import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.cli.blocks import BlockSplitter, Closed, Event, Gap, Shown

MARKED = st.text("ab #*-1.`~> |\n\t", max_size=80)


def split(*pieces: str) -> list[Event]:
    splitter = BlockSplitter()
    return [event for piece in pieces for event in splitter.feed(piece)] + list(splitter.close())


def blocks(text: str) -> list[str]:
    return [event.source for event in split(text) if isinstance(event, Closed)]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("one\ntwo\n\nthree", ["one\ntwo\n", "three"], id="paragraphs"),
        pytest.param("# A\ntext\n## B\n", ["# A\n", "text\n", "## B\n"], id="headings-end-with-their-line"),
        pytest.param("#tag and #5", ["#tag and #5"], id="no-heading"),
        pytest.param("so:\n- a\n- b\n", ["so:\n", "- a\n", "- b\n"], id="items"),
        pytest.param("1. a\n2. b", ["1. a\n", "2. b"], id="numbered-items"),
        pytest.param("1. a\n   - b\n\n   c\n\n2. d", ["1. a\n   - b\n\n   c\n", "2. d"], id="item-with-all-below-it"),
        pytest.param("- a\n\nb", ["- a\n", "b"], id="text-after-a-list"),
        pytest.param("**b** c", ["**b** c"], id="bold-is-no-item"),
        pytest.param("a\n```py\nx\n\ny\n```\nb", ["a\n", "```py\nx\n\ny\n```\n", "b"], id="fence"),
        pytest.param("````\n```\n````\nb", ["````\n```\n````\n", "b"], id="fence-in-a-longer-fence"),
        pytest.param("```\nx", ["```\nx"], id="fence-without-end"),
        pytest.param(
            "- a\n  ```\n  x\n\n  # y\n  ```\n- b", ["- a\n  ```\n  x\n\n  # y\n  ```\n", "- b"], id="fence-in-an-item"
        ),
        pytest.param("| a |\n|---|\n| 1 |\n\nb", ["| a |\n|---|\n| 1 |\n", "b"], id="table"),
        pytest.param("\n\na", ["a"], id="blank-lines-first"),
        pytest.param("", [], id="nothing"),
    ],
)
def test_blocks_are_told_apart(text: str, want: list[str]) -> None:
    assert blocks(text) == want


@given(text=MARKED)
def test_all_text_comes_out_again(text: str) -> None:
    events = split(text)
    assert "".join(event.text for event in events if not isinstance(event, Closed)) == text
    shown = ""
    for event in events:
        match event:
            case Shown():
                shown += event.text
            case Closed():
                assert event.source == shown
                shown = ""
            case Gap():
                assert not shown
    assert not shown


@given(text=MARKED)
def test_blocks_do_not_depend_on_the_pieces(text: str) -> None:
    by_letters = [event for event in split(*text) if isinstance(event, Closed | Gap)]
    assert by_letters == [event for event in split(text) if isinstance(event, Closed | Gap)]


def test_text_is_shown_as_soon_as_it_is_no_mark() -> None:
    splitter = BlockSplitter()
    assert list(splitter.feed("1")) == []
    assert list(splitter.feed("0")) == []
    assert list(splitter.feed(" pm")) == [Shown("10 pm")]
