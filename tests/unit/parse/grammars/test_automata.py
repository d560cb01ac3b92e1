"""Regexes followed by hand: held against Python's engine, for patterns that both understand."""

import random
import re

import pytest

from corral.parse.grammars.automata import UndecidedError, Work, is_any_text, is_met
from corral.parse.grammars.classes import parsed
from corral.parse.grammars.patterns import whole, without
from corral.parse.grammars.text_formats import TEXTS

MUCH = 20_000


def random_pattern(draw: random.Random, depth: int = 0) -> str:
    def inner() -> str:
        return random_pattern(draw, depth + 1)

    match draw.randrange(5 if depth < 3 else 1):
        case 0 | 1:
            return draw.choice(("a", "b", "c", "[ab]", "[^a]", "[^b-c]", ".", r"\d", "[a-b]"))
        case 2:
            return f"(?:{inner()}|{inner()})"
        case 3:
            return inner() + inner()
        case _:
            return f"(?:{inner()})" + draw.choice(("*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}", "{0}"))


@pytest.mark.parametrize("seed", range(20))
def test_texts_meet_what_they_meet_in_python(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(50):
        pattern = draw.choice(("^(?:{})$", "^(?:{})", "(?:{})$", "(?:{})")).format(random_pattern(draw))
        regex = whole(pattern)
        for _ in range(5):
            text = "".join(draw.choice("abc1") for _ in range(draw.randrange(6)))
            is_found = re.search(pattern.replace("$", r"\Z"), text) is not None
            assert is_met([regex], text, Work(MUCH)) == is_found, (pattern, text)
            if is_found:
                assert is_any_text([regex], len(text), len(text), Work(MUCH)), (pattern, text)


@pytest.mark.parametrize(
    ("patterns", "least", "most", "is_any"),
    [
        (["^a", "^b"], 0, None, False),
        (["^a", "z$"], 0, 1, False),
        (["^a", "z$"], 0, 2, True),
        (["^[a-z]{5}$"], 0, 3, False),
        (["^[a-z]{5}$"], 6, None, False),
        (["^(aa)*$"], 3, 3, False),
        (["^(aa)*$"], 4, 4, True),
        (["[]"], 0, None, False),
        (["^[a-z]+$"], 1000, None, True),
        (["^\\d+$", "^[^0-9]"], 0, None, False),
        (["^[^a-z]$", "^[^A-Z]$", "^[A-Za-z]$"], 0, None, False),
        (["^.{0,3}$", "^.{4,9}$"], 0, None, False),
        (["^(a?)*$", "^(b?)*$"], 0, None, True),
        (["^(a?)*$", "^(b?)*$"], 1, None, False),
        (["^(.*a.{10}){10}$"], 0, 50, False),
    ],
    ids=str,
)
def test_what_several_leave_is_told(patterns: list[str], least: int, most: int | None, is_any: bool) -> None:
    assert is_any_text([whole(one) for one in patterns], least, most, Work(MUCH)) == is_any


@pytest.mark.parametrize("name", TEXTS)
def test_formats_are_read(name: str) -> None:
    assert is_any_text([f"(?:{TEXTS[name]})"], 0, None, Work(MUCH))


@pytest.mark.parametrize(
    ("name", "text", "is_one"),
    [
        ("date", "2024-02-29", True),
        ("date", "2023-02-29", False),
        ("uuid", "2eb8aa08-aa98-11ea-b4aa-73b441d16380", True),
        ("ipv6", "::ffff:1.2.3.4", True),
        ("ipv6", ":::", False),
        ("email", "ada@example.com", True),
        ("email", "ada@", False),
        ("json-pointer", "/a~0/b", True),
        ("json-pointer", "/a~2", False),
    ],
)
def test_texts_of_formats_are_told(name: str, text: str, is_one: bool) -> None:
    assert is_met([TEXTS[name]], text, Work(MUCH)) == is_one


def test_text_without_a_word_is_told() -> None:
    regex = without("</end>")
    assert is_met([regex], "a < b </ <end", Work(MUCH))
    assert not is_met([regex], "a </end> b", Work(MUCH))


@pytest.mark.parametrize(
    "pattern", ["(.*a){200}", "^(a?){1000}$", "^" + "x" * 15_000 + "$", "^([a-z]{1,50}){50}$"], ids=lambda text: text[:20]
)
def test_what_takes_too_much_work_is_left_open(pattern: str) -> None:
    work = Work(2_000)
    with pytest.raises(UndecidedError):
        is_any_text([whole(pattern)], 1990, 1991, work)
    assert work.steps == 0


@pytest.mark.parametrize("regex", [r"\p{L}", "a(", "[a", r"\d", "(?i:a)"])
def test_what_is_not_known_is_left_open(regex: str) -> None:
    assert parsed(regex) is None
    with pytest.raises(UndecidedError):
        is_met([regex], "a", Work(MUCH))
