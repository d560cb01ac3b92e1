"""llguidance: grammars to matchers, and its refusals in words. With `grammars` and `trying` the only module that knows it.

Its limits are counts, not times: what one unit of them costs grows with the grammar. So they bound what a small grammar of no
odd kind can cost, and no other; those are tried in a process of their own first (trials.py).
"""

import math
import re
from collections.abc import Sequence
from typing import Any, Final

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from corral.core.errors import BadRequestError
from corral.core.types import Grammar
from corral.engine.llamacpp.worker.grammar.gbnf import lark_of

MOST_CHARS: Final = 2 << 20  # of a grammar: a hundred thousand values to choose from
_PLAIN_CHARS: Final = 16 << 10
_PLAIN_TOGETHER: Final = 5  # regexes that a terminal is to meet; the time for ten of them has no bound
_PLAIN_PATTERNS: Final = 5  # in a schema in which some are to be met together
_PLAIN_REFERENCES: Final = 16  # to other parts: each may double what it says
_PLAIN_DICTATED: Final = 128 << 10  # characters that it may dictate, if all that is said several times is one within the other
_REPEATED: Final = re.compile(r"[^\]](?<!\\x)\{(\d+)[,}]")  # but for sets of characters, and for characters by number
_ITEMS_AT_LEAST: Final = re.compile(r'"minItems":\s*(\d+)')
_ROW: Final = 10_000  # items of a parser's row: some 2,500 optional properties of an object; llguidance's own limit is for 500
_ITEMS: Final = 20_000  # of all rows of a step
_STATES: Final = 50_000  # of a grammar's lexer, some KB each
_FUEL: Final = (
    1_000_000  # of a step's lexer, some 100 ms: multiples of 3,600 take half of it, and llguidance's own limit a fifth
)
_REASON_CHARS: Final = 400
_SLICE: Final = r'[^"\\\x00-\x1F\x7F]{1,30}'  # tokens that strings are made of: looked at together
_PLACE: Final = re.compile(r"^(?:at )?\d+\(\d+\): ")
_SNIPPET: Final = re.compile(r"^\s*(?:\d+ \||\^+\s*$|<non-verbose/>)")
_EMPTY: Final = "Regex is empty"
_UNDECIDED: Final = "Unable to determine if regex is empty"


def tokenizer_of(tokens: Any, ends: Sequence[int]) -> LLTokenizer:
    """`tokens` is what TokenizerWrapper takes, `ends` are the tokens that end a text."""
    return LLTokenizer(TokenizerWrapper(tokens), eos_token=list(ends) or None, slices=[_SLICE])


def limits() -> LLParserLimits:
    return LLParserLimits(
        verbose_errors=False,
        max_lexer_states=_STATES,
        max_items_in_row=_ROW,
        step_max_items=_ITEMS,
        step_lexer_fuel=_FUEL,
    )


def is_plain(grammar: Grammar) -> bool:
    """Is it sure to be compiled in a fraction of a second, and to dictate no more than it has text, or a few times that?"""
    text = grammar.text
    if grammar.kind != "lark" or len(text) > _PLAIN_CHARS:
        return False
    if max(line.count(" & ") for line in text.split("\n")) >= _PLAIN_TOGETHER:
        return False
    if '"allOf"' in text and text.count('"pattern"') > _PLAIN_PATTERNS:
        return False
    if text.count('"$ref"') > _PLAIN_REFERENCES:
        return False
    times = (*_REPEATED.findall(text), *_ITEMS_AT_LEAST.findall(text))
    return math.prod(max(1, int(count)) for count in times) * len(text) <= _PLAIN_DICTATED


def lark_text(grammar: Grammar) -> str:
    """The grammar as llguidance takes it. Raises BadRequestError for one that is too large or wrong."""
    if (size := len(grammar.text)) > MOST_CHARS:
        raise BadRequestError(f"the answer's grammar cannot be used: it has {size} characters, and may have {MOST_CHARS}")
    return lark_of(grammar.text) if grammar.kind == "gbnf" else grammar.text


def compiled(tokenizer: LLTokenizer, lark: str, bounds: LLParserLimits) -> LLMatcher:
    """At the grammar's beginning. Raises BadRequestError."""
    matcher = LLMatcher(tokenizer, lark, limits=bounds, log_level=0)
    if matcher.is_error():
        raise BadRequestError(f"the answer's grammar cannot be used: {readable(matcher.get_error())}")
    return matcher


def readable(error: str) -> str:
    """llguidance's reason in one line, without the text that it points at."""
    if _UNDECIDED in error:
        return "it cannot be told whether any text meets all of a string's patterns and lengths; use fewer or simpler ones"
    if _EMPTY in error:
        return "no text meets all of a string's patterns, formats and lengths"
    lines = [line.strip() for line in error.splitlines() if not _SNIPPET.match(line)]
    return _PLACE.sub("", " ".join(filter(None, lines)))[:_REASON_CHARS] or "llguidance gives no reason"
