"""Values as models write them, read as they come: JSON, Python's literals, and Gemma's braces.

Lenient where a meaning is clear (a raw newline in a string, a comma too many, True for true), strict elsewhere: at the first
character that cannot be, NotACallError. Numbers are what JSON encoders can write again: no infinities, integers of 64 bits.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from corral.parse.source import Marks, NotACallError, Reading, Source

_MAX_DEPTH: Final = 64
_MAX_WORD_CHARS: Final = 400
_WORD: Final = re.compile(r"[\w.+\-]*")
_BARE_KEY: Final = re.compile(r"[^\s:=,(){}\[\]<>\"']*")
_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_INTEGER: Final = re.compile(r"-?\d+", re.ASCII)
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
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


def _ignore(_key: str, _value: Any = None) -> None:
    pass


def value(source: Source, dialect: Dialect, depth: int = 0) -> Reading[Any]:
    """The value that comes next, white space before it left out."""
    yield from source.space()
    quote = yield from source.match(dialect.quotes)
    if quote:
        return (yield from _string(source, dialect, quote))
    char = yield from source.peek()
    if char == "{":
        return (yield from members(source, dialect, depth=depth + 1))
    if char == "[":
        return (yield from _items(source, dialect, depth + 1))
    return word((yield from source.run(_WORD, _MAX_WORD_CHARS)))


def members(
    source: Source,
    dialect: Dialect,
    around: str = "{}",
    between: str = ":",
    *,
    depth: int = 1,
    on_key: Callable[[str], None] = _ignore,
    on_value: Callable[[str, Any], None] = _ignore,
) -> Reading[dict[str, Any]]:
    """Keys with values, in order. What is told of each as it is read may raise NotACallError."""
    if depth > _MAX_DEPTH:
        raise NotACallError
    out: dict[str, Any] = {}
    yield from source.expect(around[0])
    while True:
        yield from source.space()
        if (yield from source.literal(around[1])):
            return out
        key = yield from _key(source, dialect)
        on_key(key)
        yield from source.space()
        yield from source.expect(between)
        out[key] = yield from value(source, dialect, depth)
        on_value(key, out[key])
        yield from source.space()
        if not (yield from source.literal(",")):
            yield from source.expect(around[1])
            return out


def _items(source: Source, dialect: Dialect, depth: int) -> Reading[list[Any]]:
    if depth > _MAX_DEPTH:
        raise NotACallError
    out: list[Any] = []
    yield from source.expect("[")
    while True:
        yield from source.space()
        if (yield from source.literal("]")):
            return out
        out.append((yield from value(source, dialect, depth)))
        yield from source.space()
        if not (yield from source.literal(",")):
            yield from source.expect("]")
            return out


def _key(source: Source, dialect: Dialect) -> Reading[str]:
    quote = yield from source.match(dialect.quotes)
    if quote:
        return (yield from _string(source, dialect, quote))
    key = (yield from source.run(_BARE_KEY, _MAX_WORD_CHARS)) if dialect.has_bare_keys else ""
    if not key:
        raise NotACallError
    return key


def _string(source: Source, dialect: Dialect, quote: str) -> Reading[str]:
    """What stands up to the closing quote, the opening one having been taken."""
    pieces: list[str] = []
    marks = _ENDS.get(quote) or Marks((quote,))
    has_escapes = False
    while True:
        found = yield from source.find(marks, pieces.append)
        if found == quote:
            text = "".join(pieces)
            return _unescaped(text) if has_escapes else text
        if found != "\\":
            raise NotACallError  # the text is over
        if not dialect.has_escapes:
            pieces.append(found)
            continue
        has_escapes = True
        pieces.append(found + (yield from source.char()))


_ENDS: Final = {quote: Marks((quote, "\\")) for quote in ('"', "'")}


def _unescaped(text: str) -> str:
    """An escape that means nothing stays as it is; half a surrogate pair becomes a replacement character."""
    out = _ESCAPE.sub(_meant, text)
    return out if out.isascii() else out.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _meant(escape: re.Match[str]) -> str:
    number = escape[1] or escape[2]
    return chr(int(number, 16)) if number else _ESCAPED.get(escape[3], escape[0])


def word(text: str) -> Any:
    """A number, or one of the words that mean a value. Raises NotACallError for any other text."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > _MAX_WORD_CHARS or not _NUMBER.fullmatch(text):
        raise NotACallError
    if _INTEGER.fullmatch(text) and -(2**63) <= (number := int(text)) < 2**64:
        return number
    as_float = float(text)
    if math.isinf(as_float):
        raise NotACallError
    return as_float


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
