"""ECMAScript's regular expressions as Rust's, of whole strings."""

import json
import random
import re

import pytest

from corral.core.types import Grammar
from corral.parse.grammars import answer_grammar
from corral.parse.grammars.patterns import PatternError, beginning, whole, without
from corral.parse.grammars.text_formats import TEXTS
from tests.support.grammars import Walker, takes

# pattern: what it finds, what it does not
PATTERNS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "^a+$": (("a", "aa"), ("", "ab")),
    "b": (("abc", "b", "\nb\n"), ("a",)),
    "^(a|b)$": (("a", "b"), ("ab",)),
    "^a|b$": (("ax", "xb"), ("xa",)),
    "(^a$)|(^b$)": (("a", "b"), ("ab", "c")),
    "^(?:a$|bc)": (("a", "bcd"), ("ad",)),
    r"^\d{3}-\d{4}$": (("123-4567",), ("1234567", "١٢٣-٤٥٦٧")),
    r"^[\w.-]+@x\.y$": (("a.b-c_@x.y",), ("@x.y", "a@xzy", "é@x.y")),
    r"^\S+\s$": (("abc ", "é\u00a0"), ("a b", "")),
    r"^\w\W\D$": (("a-b",), ("a-1", "--b")),
    "^[^]$": (("a", "\n"), ("ab", "")),
    "^a[]$": ((), ("a", "a]")),
    r"^\u00e9\x41\u{1F600}\ud83d\ude00\cA\0$": (("éA😀😀\x01\x00",), ("eA",)),
    r"^\p{L}+$": (("aé東",), ("1",)),
    r"^[\p{Lu}\d_-]+$": (("A1-",), ("a",)),
    r"^[\b\-\]\\^]+$": (("-]\\^\x08",), ("b",)),
    r"^[a-c\d-x]+$": (("b5-x",), ("d",)),
    "^a{2,3}?b*?$": (("aa", "aaabb"), ("a",)),
    "^a{,3}{$": (("a{,3}{",), ("aa",)),
    "a/b": (("a/b",), ("a",)),
    "": (("", "x\n"), ()),
    "^$": (("",), ("x",)),
    "^.$": (("a", "é", "\x0b"), ("\n", "\r", "\u2028", "ab")),
    r"^\/\-\_\@\"$": (('/-_@"',), ("",)),
    "^(?<year>[0-9]{4})-x$": (("2024-x",), ("24-x",)),
    '^"[&~]"$': (('"&"', '"~"'), ('"a"',)),
}


def grammar_of(pattern: str) -> Grammar:
    grammar = answer_grammar({"type": "string", "pattern": pattern})
    assert grammar
    return grammar


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_pattern_finds_what_it_finds_in_ecmascript(pattern: str) -> None:
    good, bad = PATTERNS[pattern]
    if not good:
        return
    grammar = grammar_of(pattern)
    assert [text for text in good if not takes(grammar, quoted(text))] == []
    assert [text for text in bad if takes(grammar, quoted(text))] == []


@pytest.mark.parametrize(
    "pattern",
    [
        "(?=a)", "a(?!b)", "(?<=a)b", "(?i)a", r"\bfoo", r"a\B", r"(a)\1", r"(?<n>a)\k<n>", "a**", "a{2}{3}", "(a", "a)", "[a",
        "a^b", "$a", "(^a)b", "x{3,2}", r"\q", "*a", "(^a|b)+", "[z-a]", "\\", r"\ud83d", "a{100001}", "((^a))",
    ],
)  # fmt: skip
def test_what_no_automaton_can_do_is_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        whole(pattern)


@pytest.mark.parametrize("word", ["</p>", "<|x|>", "ab", "z"])
def test_text_without_a_word_is_all_that_does_not_have_it(word: str) -> None:
    rust = without(word)
    python = re.compile(re.sub(r"\\x\{([0-9A-F]+)\}", lambda code: f"\\x{int(code[1], 16):02x}", rust))
    draw = random.Random(word)
    for _ in range(20_000):
        text = "".join(draw.choice(word + "q") for _ in range(draw.randrange(10)))
        assert bool(python.fullmatch(text)) == (word not in text), text


@pytest.mark.parametrize(
    ("pattern", "begin"),
    [("^ab", "ab"), ("^ab*c", "a"), ("ab", ""), ("^a|b", ""), ("^(a)", ""), ("^a.", "a"), ("^x_", r"x\x{5F}"), ("(", "")],
)
def test_beginning_is_what_all_matches_begin_with(pattern: str, begin: str) -> None:
    assert beginning(pattern) == begin


@pytest.mark.parametrize("name", TEXTS)
def test_every_format_can_be_written(name: str) -> None:
    grammar = answer_grammar({"type": "string", "format": name})
    assert grammar
    walker = Walker(grammar, ("@", ".", ":", "/", "-", "T", "Z", "="))
    for seed in range(20):
        assert len(walker.text(seed)) < 6000
