"""The course of an answer: thoughts, grammars, and whatever cut its text comes in."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.core.errors import BadRequestError
from corral.core.types import Thought
from corral.engine.llamacpp.worker.grammar.guide import Guide
from corral.engine.llamacpp.worker.grammar.matching import Part
from tests.support.guided import END, AnyTokens, Course, Texts, run

THOUGHT = Thought(open="<think>", close="</think>")
OPEN = Thought(open="<think>", close="</think>", is_open=True)


def whole(*wanted: str | int, texts: Sequence[str] = ("yes", "no"), thought: Thought | None = None) -> Course:
    """An answer that is to be one of these texts."""
    tokens = AnyTokens()
    return run(Guide(tokens, thought=thought, whole=Texts(tokens, *texts)), tokens, *wanted)


CALLS: Mapping[str, Sequence[str]] = {"CALL:": ("f(1)", "f(2)", "g()")}


def marked(
    *wanted: str | int, thought: Thought | None = None, grammars: Mapping[str, Sequence[str]] = CALLS, **more: bool
) -> Course:
    """A free answer in which these texts bind what follows them."""
    tokens = AnyTokens()
    parts = [Part(after.encode(), Texts(tokens, *texts), **more) for after, texts in grammars.items()]
    return run(Guide(tokens, thought=thought, parts=parts), tokens, *wanted)


def thinking(*wanted: str | int, thought: Thought = OPEN) -> Course:
    tokens = AnyTokens()
    return run(Guide(tokens, thought=thought), tokens, *wanted)


# A grammar of the whole answer


def test_answer_is_what_the_grammar_takes_and_ends_where_it_can_only_end() -> None:
    course = whole("y", "more")
    assert (course.text, course.bound, course.ended, course.replaced) == ("yes", "yes", True, 0)


def test_what_the_grammar_does_not_take_is_not_said() -> None:
    assert whole("maybe", "x").text == "no"  # the first token that is allowed


def test_what_has_no_alternative_is_said_without_being_drawn() -> None:
    course = whole(texts=["only this"])
    assert (course.text, course.ended) == ("only this", True)


@pytest.mark.parametrize(("wanted", "text"), [((END,), "a"), (("b",), "ab")])
def test_answer_may_end_only_where_the_grammar_accepts(wanted: tuple[str | int, ...], text: str) -> None:
    assert whole(*wanted, texts=["a", "ab"]).text == text
    assert whole(END, "x", texts=["ab", "cd"]).text == "ab"


def test_grammar_that_is_met_but_may_go_on_ends_with_the_model() -> None:
    course = whole("1", END, texts=["1", "12"])
    assert (course.text, course.ended) == ("1", True)


def test_grammar_that_nothing_meets_is_an_error() -> None:
    with pytest.raises(BadRequestError, match="nothing meets it"):
        whole("a", texts=[])


def test_grammar_that_dictates_much_does_so_in_runs() -> None:
    tokens = AnyTokens()
    guide = Guide(tokens, whole=Texts(tokens, "x" * 600))
    first = guide.start()
    assert 0 < len(first) < 600
    assert guide.has_more
    assert run(Guide(tokens, whole=Texts(tokens, "x" * 600)), tokens, "", "", "", "").text == "x" * 600


# Thoughts


def test_thought_that_is_open_ends_where_the_model_closes_it() -> None:
    course = thinking("one", " two", "</think>", "three")
    assert (course.text, course.thought_tokens) == ("one two</think>three", 3)


def test_thought_that_never_ends_is_counted() -> None:
    assert thinking("a", "b", END).thought_tokens == 2


def test_answer_may_open_a_thought_itself_after_white_space() -> None:
    course = thinking("\n", "<th", "ink>", "hm", "</think>", "x", thought=THOUGHT)
    assert (course.text, course.thought_tokens) == ("\n<think>hm</think>x", 5)


@pytest.mark.parametrize("wanted", [("Hello", " <think>", "x"), ("<th", "at", "</think>"), ("< think>", "x")])
def test_what_only_looks_like_a_thought_is_the_answer(wanted: tuple[str, ...]) -> None:
    course = thinking(*wanted, thought=THOUGHT)
    assert (course.text, course.thought_tokens) == ("".join(wanted), 0)


def test_thought_that_may_not_open_is_text() -> None:
    thought = Thought(open="<think>", close="</think>", may_open=False, budget=0)
    assert thinking("<think>", "x", "</think>", thought=thought).thought_tokens == 0


@pytest.mark.parametrize(("budget", "text"), [(0, "</think>abcd"), (1, "a</think>bcd"), (3, "abc</think>d"), (9, "abcd")])
def test_budget_closes_a_thought(budget: int, text: str) -> None:
    course = thinking(*"abcd", thought=Thought(open="<think>", close="</think>", is_open=True, budget=budget))
    assert course.text == text
    assert course.thought_tokens == (min(budget, 4) + 8 if budget < 9 else 4)


def test_budget_counts_from_behind_the_opener() -> None:
    thought = Thought(open="<think>", close="</think>", budget=1)
    assert thinking("<think>", "a", "b", thought=thought).text == "<think>a</think>b"
    thought = Thought(open="<think>", close="</think>", budget=0)
    assert thinking("<think>", "a", thought=thought).text == "<think></think>a"
    assert thinking("<think>x", "a", thought=thought).text == "<think>x</think>a"


def test_budget_does_not_cut_a_character() -> None:
    tokens = AnyTokens()
    halves = [tokens.token(bytes([byte])) for byte in "é".encode()]
    guide = Guide(tokens, thought=Thought(open="<t>", close="</t>", is_open=True, budget=1))
    assert run(guide, tokens, *halves, "x").text == "é</t>x"


def test_thought_of_a_free_answer_may_be_its_end() -> None:
    course = thinking("hm", END, "x")
    assert (course.text, course.ended) == ("hm", True)


def test_guide_is_done_when_the_rest_is_free() -> None:
    tokens = AnyTokens()
    guide = Guide(tokens, thought=OPEN)
    assert not guide.is_done
    guide.take(tokens.token(b"</think>"))
    assert guide.is_done


# A thought, then a grammar


def test_grammar_binds_behind_the_thought_only() -> None:
    course = whole("free text", "</think>", "\n\n", "maybe", thought=OPEN)
    assert (course.text, course.bound) == ("free text</think>\n\nno", "no")


def test_end_that_the_model_wants_in_its_thought_closes_it() -> None:
    course = whole("hm", END, "yes", thought=OPEN)
    assert (course.text, course.thought_tokens) == ("hm</think>yes", 9)


def test_budget_comes_before_the_grammar() -> None:
    thought = Thought(open="<think>", close="</think>\n", is_open=True, budget=2)
    assert whole("a", "b", "c", "yes", thought=thought).text == "ab</think>\nno"


def test_white_space_between_thought_and_answer_is_bounded() -> None:
    course = whole("</think>", *[" "] * 50, thought=OPEN)
    assert course.text == "</think>" + " " * 4 + "no"


def test_white_space_and_answer_may_share_a_token() -> None:
    course = whole("</think>", "\n\nye", thought=OPEN)
    assert (course.text, course.ended, course.replaced) == ("</think>\n\nyes", True, 0)


@pytest.mark.parametrize(
    ("last", "text"),
    [
        pytest.param("nk>\n", "</think>\nno", id="white space"),
        pytest.param("nk>\ny", "</think>\nyes", id="what the grammar takes"),
        pytest.param("nk>maybe", "</think>no", id="what it does not take is cut off"),
        pytest.param("nk>\nmaybe", "</think>no", id="with the white space before it"),
        pytest.param("nk>yes", "</think>yes", id="all of it"),
    ],
)
def test_text_behind_the_thought_in_the_same_token_is_the_answers(last: str, text: str) -> None:
    course = whole("hm", "</thi", last, "x", thought=OPEN)
    assert course.text == f"hm{text}"
    assert course.ended


def test_bound_answer_may_think_first_or_not() -> None:
    assert whole("<think>", "hm", "</think>", "yes", thought=THOUGHT).text == "<think>hm</think>yes"
    assert whole("y", thought=THOUGHT).text == "yes"
    assert whole(END, thought=THOUGHT).text[:1] in "<ny"


def test_opener_that_has_begun_is_dictated_to_its_end() -> None:
    course = whole("<th", "hm", "</think>", "yes", thought=THOUGHT)
    assert (course.text, course.replaced) == ("<think>hm</think>yes", 0)
    assert course.thought_tokens == 1 + 4 + 2


def test_opener_with_thought_in_the_same_token() -> None:
    course = whole("<think>hm</think>yes", thought=THOUGHT)
    assert (course.text, course.thought_tokens) == ("<think>hm</think>yes", 1)


def test_budget_of_nothing_closes_a_thought_as_soon_as_it_opens() -> None:
    thought = Thought(open="<think>", close="</think>", budget=0)
    assert whole("<", "yes", thought=thought).text == "<think></think>yes"


def test_grammar_that_begins_like_the_opener_is_followed_while_it_may_be_either() -> None:
    texts = ["<thing>", "<other>"]
    assert whole("<", "th", "ing>", texts=texts, thought=THOUGHT).text == "<thing>"
    assert whole("<", "thi", "nk>", "hm", "</think>", "<o", texts=texts, thought=THOUGHT).text == "<think>hm</think><other>"


# Grammars behind markers


def test_marker_binds_what_follows_until_the_grammar_ends() -> None:
    course = marked("Let me. ", "CALL:", "g", " and ", "that is ", "all", END)
    assert (course.text, course.bound, course.ended) == ("Let me. CALL:g() and that is all", "g()", True)


def test_markers_count_again_behind_a_grammar() -> None:
    assert marked("CALL:", "g", "; CALL:", "f(", "2", END).text == "CALL:g(); CALL:f(2)"


def test_bound_part_cannot_be_left_before_it_is_complete() -> None:
    course = marked("CALL:", "f", END, "x", "ok", END)
    assert course.text.startswith("CALL:f(1)")


def test_grammar_that_may_go_on_is_left_for_what_it_does_not_take() -> None:
    assert marked("N=", "2", " apples", END, grammars={"N=": ("1", "12", "123")}).text == "N=12 apples"
    course = marked("N=", END, grammars={"N=": ("1", "12")})
    assert (course.text, course.ended) == ("N=1", True)


def test_answer_may_end_with_a_grammar_behind_a_marker() -> None:
    course = marked("Let me. ", "CALL:", "g", "CALL:", "f", ends=True)
    assert (course.text, course.bound, course.ended) == ("Let me. CALL:g()", "g()", True)


def test_grammar_that_ends_the_answer_is_followed_by_nothing_else() -> None:
    for wanted in (" apples", END):
        course = marked("N=", "2", wanted, "x", grammars={"N=": ("1", "12", "123")}, ends=True)
        assert (course.text, course.ended) == ("N=12", True)
    assert marked("CALL:", "f", END, "x", ends=True).text == "CALL:f(1)"


@pytest.mark.parametrize(
    ("token", "text"),
    [
        pytest.param("CALL:g(", "CALL:g()", id="what the grammar takes"),
        pytest.param("CALL:what", "CALL:f(1)", id="what it does not take is cut off"),
        pytest.param("so CALL:g", "so CALL:g()", id="text before the marker"),
    ],
)
def test_text_behind_the_marker_in_the_same_token(token: str, text: str) -> None:
    assert marked(token, "x", "x").text.startswith(text)


def test_marker_in_a_thought_is_a_thought() -> None:
    course = marked("CALL:", "anything", "</think>", "CALL:", "x", "x", thought=OPEN)
    assert course.text == "CALL:anything</think>CALL:f(1)"


def test_marker_right_behind_the_thought_in_the_same_token() -> None:
    assert marked("hm</think>CALL:g", thought=OPEN).text == "hm</think>CALL:g()"


def test_marker_in_an_answer_that_might_have_been_a_thought() -> None:
    assert marked("<", "CALL:", "g", thought=THOUGHT).text == "<CALL:g()"


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        pytest.param(("{", "g"), "{g()", id="at the start"),
        pytest.param((" \n", "{", "g"), " \n{g()", id="after white space"),
        pytest.param(("so {", "what"), "so {what", id="later"),
    ],
)
def test_marker_that_counts_at_the_start_only(wanted: tuple[str, ...], text: str) -> None:
    assert marked(*wanted, at_start=True, grammars={"{": ("f()", "g()")}).text == text


def test_marker_at_the_start_behind_a_thought() -> None:
    grammars = {"{": ("f()", "g()")}
    assert marked("x</think>\n", "{", "g", thought=OPEN, at_start=True, grammars=grammars).text == "x</think>\n{g()"
    assert marked("x</think>a", "{", "what", thought=OPEN, at_start=True, grammars=grammars).text == "x</think>a{what"


def test_guide_is_done_where_no_marker_can_come_any_more() -> None:
    tokens = AnyTokens()
    guide = Guide(tokens, parts=[Part(b"{", Texts(tokens, "x"), at_start=True)])
    guide.take(tokens.token(b" "))
    assert not guide.is_done
    guide.take(tokens.token(b"text"))
    assert guide.is_done


def test_of_two_markers_that_end_at_one_place_the_longer_counts() -> None:
    grammars = {"L:": ("short",), "CALL:": ("long",)}
    assert marked("CALL:", grammars=grammars).text == "CALL:long"
    assert marked("L:", grammars=grammars).text == "L:short"


# However the text is cut into tokens

ANSWERS = [
    pytest.param("a</think>\n\nyes", "a</think>\n\nyes", id="thought and answer"),
    pytest.param("<</thi</think>no", "<</thi</think>no", id="beginnings of the end"),
    pytest.param("é🦙</think>no", "é🦙</think>no", id="characters of several bytes"),
]


def cut(text: str, places: list[int]) -> list[bytes]:
    data = text.encode()
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    return [data[begin:end] for begin, end in zip([0, *ends], ends, strict=False) if begin < end]


@pytest.mark.parametrize(("text", "expected"), ANSWERS)
@given(places=st.lists(st.integers(0, 40), max_size=20))
def test_bound_answer_is_the_same_however_it_is_cut(text: str, expected: str, places: list[int]) -> None:
    tokens = AnyTokens()
    guide = Guide(tokens, thought=OPEN, whole=Texts(tokens, "yes", "no"))
    course = run(guide, tokens, *map(tokens.token, cut(text, places)))
    assert (course.text, course.replaced, course.ended) == (expected, 0, True)


@given(sizes=st.lists(st.integers(1, 12), min_size=1))
def test_marked_answer_is_the_same_however_it_is_cut(sizes: list[int]) -> None:
    text = "<think>CALL:no</think> CCALL:g() é CALL:f(2)CALL:g() end"
    tokens = AnyTokens()
    guide = Guide(tokens, thought=THOUGHT, parts=[Part(b"CALL:", Texts(tokens, "f(1)", "f(2)", "g()"))])
    said, at = "", 0
    while said != text:  # a model does not say what it was made to say already
        token = tokens.token(text[len(said) : len(said) + sizes[at % len(sizes)]].encode())
        at += 1
        if guide.is_binding and not guide.allows(token):  # it runs on behind the grammar's end
            token = tokens.token(text[len(said)].encode())
            assert guide.allows(token)
        said += b"".join(tokens.of(part.token) for part in guide.take(token)).decode()
        assert text.startswith(said)


def test_part_that_does_not_dictate_leaves_it_to_the_model_to_draw_even_that() -> None:
    tokens = AnyTokens()
    part = Part(b"CALL:", Texts(tokens, "f(1)", "f(2)"), dictates=False)
    course = run(Guide(tokens, parts=[part]), tokens, "CALL:", "f(", "2", ")", " x", END)
    assert (course.text, course.replaced, course.ended) == ("CALL:f(2) x", 0, True)


@pytest.mark.parametrize("said", ["hm</think>", "hm\n</think>\n", "hm\n</think>\n\n", "hm </think>"])
def test_white_space_around_the_tags_is_up_to_the_model(said: str) -> None:
    spaced = Thought(open="<think>\n", close="\n</think>\n\n", is_open=True)
    assert whole(*said, "yes", thought=spaced).bound == "yes"
    course = thinking(*said, *"Hello there", thought=Thought(open="<think>\n", close="\n</think>\n\n", is_open=True, budget=20))
    assert course.text == said + "Hello there"


@pytest.mark.parametrize("said", ["<think>hm</think>", "<think>\nhm\n</think>\n\n"])
def test_white_space_behind_the_opener_is_up_to_the_model(said: str) -> None:
    spaced = Thought(open="<think>\n", close="\n</think>\n\n")
    assert whole(*said, "no", thought=spaced).bound == "no"


def test_engine_ends_a_thought_with_the_white_space_of_the_template() -> None:
    spaced = Thought(open="<think>\n", close="\n</think>\n\n", is_open=True, budget=2)
    assert thinking("a", "b", "c", thought=spaced).text == "ab\n</think>\n\nc"
