"""Values as models write them, read as they come: JSON, Python's literals, and Gemma's braces.

Lenient where a meaning is clear (a raw newline in a string, a comma too many, True for true), strict elsewhere: at the first
character that cannot be, NotACallError. Numbers are what JSON encoders can write again: integers of 64 bits,
and where no float is large enough, the largest.

Whoever reads a value may have an Echo of it: the value as compact JSON, as much of it as has been read. It means exactly what
is read, whatever it is written like.
"""

import json
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from corral.parse.source import Marks, NotACallError, Reading, Source, mark

_MAX_DEPTH: Final = 64
_MAX_WORD_CHARS: Final = 400
_WORD: Final = re.compile(r"[\w.+\-]*")
_BARE_KEY: Final = re.compile(r"[^\s:=,(){}\[\]<>\"']*")
_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_INTEGER: Final = re.compile(r"-?\d+", re.ASCII)
_HEX: Final = frozenset("0123456789abcdefABCDEF")
_HEX_DIGITS: Final = {"u": 4, "x": 2}
_REPLACEMENT: Final = "\ufffd"
_ESCAPED: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\\": "\\", "/": "/", '"': '"', "'": "'", "\n": ""}
_WORDS: Final = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How strings and keys are written."""

    quotes: Marks
    has_escapes: bool = True
    has_bare_keys: bool = False


JSON: Final = Dialect(Marks(('"',)))
PYTHON: Final = Dialect(Marks(('"', "'")), has_bare_keys=True)


def braces(quote: str) -> Dialect:
    """Gemma's: keys stand bare, strings between marks of its own, with no escapes in them."""
    return Dialect(Marks((quote,)), has_escapes=False, has_bare_keys=True)


class Echo:
    """Hears a value as it is read. This one does not listen."""

    def sign(self, text: str) -> None:
        """JSON as it stands: brackets, commas, colons, quotes."""

    def text(self, text: str) -> None:
        """A piece of a string, as it is meant."""

    def value(self, value: Any) -> None:
        """A whole value."""


_NO_ECHO: Final = Echo()
ReadValue: TypeAlias = Callable[[str, int], Reading[Any]]  # of a key and how deep its value stands, the value
json_text: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _ignore(_key: str) -> None:
    pass


def value(source: Source, dialect: Dialect, depth: int = 0, echo: Echo = _NO_ECHO) -> Reading[Any]:
    """The value that comes next, white space before it left out."""
    yield from source.space()
    quote = yield from source.match(dialect.quotes)
    if quote:
        return (yield from _string(source, dialect, quote, echo))
    char = yield from source.peek()
    if char == "{":
        return (yield from members(source, dialect, depth=depth + 1, echo=echo))
    if char == "[":
        return (yield from _items(source, dialect, depth + 1, echo))
    meant = word((yield from source.run(_WORD, _MAX_WORD_CHARS)))
    echo.value(meant)
    return meant


def members(
    source: Source,
    dialect: Dialect,
    around: str = "{}",
    between: str = ":",
    *,
    depth: int = 1,
    echo: Echo = _NO_ECHO,
    on_key: Callable[[str], None] = _ignore,
    read_value: ReadValue | None = None,
) -> Reading[dict[str, Any]]:
    """Keys with values, in order. What is told of a key, or reads its value, may raise NotACallError.

    The echo begins with the first key, or at the end: what is no object after all, code in brackets say, has none.
    """
    if depth > _MAX_DEPTH:
        raise NotACallError
    out: dict[str, Any] = {}
    before = "{"
    yield from source.expect(around[0])
    while True:
        yield from source.space()
        if (yield from source.literal(around[1])):
            break
        key = yield from _key(source, dialect)
        on_key(key)
        yield from source.space()
        yield from source.expect(between)
        echo.sign(before)
        echo.value(key)
        echo.sign(":")
        before = ","
        out[key] = yield from read_value(key, depth) if read_value else value(source, dialect, depth, echo)
        yield from source.space()
        if not (yield from source.literal(",")):
            yield from source.expect(around[1])
            break
    echo.sign("}" if out else "{}")
    return out


def _items(source: Source, dialect: Dialect, depth: int, echo: Echo) -> Reading[list[Any]]:
    if depth > _MAX_DEPTH:
        raise NotACallError
    out: list[Any] = []
    yield from source.expect("[")
    echo.sign("[")
    while True:
        yield from source.space()
        if (yield from source.literal("]")):
            break
        if out:
            echo.sign(",")
        out.append((yield from value(source, dialect, depth, echo)))
        yield from source.space()
        if not (yield from source.literal(",")):
            yield from source.expect("]")
            break
    echo.sign("]")
    return out


def _key(source: Source, dialect: Dialect) -> Reading[str]:
    quote = yield from source.match(dialect.quotes)
    if quote:
        return (yield from _string(source, dialect, quote, _NO_ECHO))
    key = (yield from source.run(_BARE_KEY, _MAX_WORD_CHARS)) if dialect.has_bare_keys else ""
    if not key:
        raise NotACallError
    return key


def _string(source: Source, dialect: Dialect, quote: str, echo: Echo) -> Reading[str]:
    """What stands up to the closing quote, the opening one having been taken."""
    text = _Text(echo)
    marks = _ENDS[quote] if dialect.has_escapes else mark(quote)
    while found := (yield from source.find(marks, text.add)):
        if found == quote:
            return text.whole()
        text.add_meant((yield from _escaped(source)))
    raise NotACallError  # the text is over


_ENDS: Final = {quote: Marks((quote, "\\")) for quote in ('"', "'")}


def _escaped(source: Source) -> Reading[str]:
    """What an escape means, its backslash having been taken. One that means nothing stays as it is."""
    char = yield from source.char()
    if char not in _HEX_DIGITS:
        return _ESCAPED.get(char, "\\" + char)
    digits = ""
    while len(digits) < _HEX_DIGITS[char]:
        if (yield from source.peek()) not in _HEX:
            return "\\" + char + digits
        digits += yield from source.char()
    return chr(int(digits, 16))


class _Text:
    """A string as it is read. Half a surrogate pair becomes a replacement character."""

    def __init__(self, echo: Echo) -> None:
        self._echo = echo
        self._pieces: list[str] = []
        self._half = ""  # the first one of a pair, until it is clear whether the second one follows
        echo.sign('"')

    def add(self, text: str) -> None:
        """More of it."""
        if self._half:
            text, self._half = _REPLACEMENT + text, ""
        self._pieces.append(text)
        self._echo.text(text)

    def add_meant(self, text: str) -> None:
        """More of it: what an escape means."""
        if self._half and "\udc00" <= text <= "\udfff":
            pair, self._half = self._half + text, ""
            self.add(pair.encode("utf-16", "surrogatepass").decode("utf-16"))
        elif "\ud800" <= text <= "\udbff":
            if self._half:
                self.add("")
            self._half = text
        elif text:
            self.add(_REPLACEMENT if "\udc00" <= text <= "\udfff" else text)

    def whole(self) -> str:
        if self._half:
            self.add("")
        self._echo.sign('"')
        return "".join(self._pieces)


def word(text: str) -> Any:
    """A number, or one of the words that mean a value. Raises NotACallError for any other text."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > _MAX_WORD_CHARS or not _NUMBER.fullmatch(text):
        raise NotACallError
    if _INTEGER.fullmatch(text) and -(2**63) <= (number := int(text)) < 2**64:
        return number
    as_float = float(text)
    return math.copysign(sys.float_info.max, as_float) if math.isinf(as_float) else as_float


def whole(text: str) -> Any:
    """The JSON value that a text is. Raises NotACallError where it is none, or goes on after it."""
    source = Source()
    source.feed(text)
    source.is_closed = True
    reading = _whole(source)
    try:
        next(reading)
    except StopIteration as done:
        return done.value
    raise AssertionError("a closed source is never waited for")


def _whole(source: Source) -> Reading[Any]:
    found = yield from value(source, JSON)
    yield from source.space()
    if (yield from source.peek()):
        raise NotACallError
    return found
