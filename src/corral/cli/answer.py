"""An answer on its way to the screen: thinking apart from text, words wrapped on a terminal, timings at the end."""

import unicodedata
from collections.abc import Callable, Mapping
from typing import Final, Protocol, TextIO

from corral.cli.client import Json
from corral.cli.render import go_duration

_GREY, _PLAIN = "\x1b[90m", "\x1b[0m"
_HARMLESS: Final = dict.fromkeys([*range(32), *range(0x7F, 0xA0)]) | {ord(letter): letter for letter in "\n\t"}
_NS_PER_S: Final = 1_000_000_000


class WordWrap:
    """Breaks lines between words, as the text comes: a word that turns out too long for its line is taken back to the next.

    Takes text only; escape sequences go around it.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._column = 0
        self._word = ""
        self._word_width = 0

    def feed(self, text: str) -> str:
        """What to write for this piece of text."""
        return "".join(map(self._place, text))

    def _place(self, letter: str) -> str:
        if letter == "\n":
            self._begin_line()
            return letter
        size = 8 - self._column % 8 if letter == "\t" else _cells(letter)
        if self._column + size <= self._width:
            self._advance(letter, size)
            return letter
        word, word_width = self._word, self._word_width
        self._begin_line()
        if letter.isspace():
            return "\n"
        if not word or word_width + size > self._width:
            self._advance(letter, size)
            return f"\n{letter}"
        self._word, self._word_width, self._column = word, word_width, word_width
        self._advance(letter, size)
        return f"\x1b[{word_width}D\x1b[K\n{word}{letter}"

    def _begin_line(self) -> None:
        self._column, self._word, self._word_width = 0, "", 0

    def _advance(self, letter: str, size: int) -> None:
        self._column += size
        if letter.isspace() or size > 1:  # scripts with wide letters break anywhere
            self._word, self._word_width = "", 0
        else:
            self._word += letter
            self._word_width += size


def _cells(letter: str) -> int:
    if letter == "\ufe0f":  # makes a picture of the letter before it, which may be wider then; too much does no harm
        return 1
    if unicodedata.combining(letter) or unicodedata.category(letter) in ("Cf", "Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def harmless(text: str) -> str:
    """The text for a terminal, without control characters: a model's escape sequence could rewrite what was shown."""
    return text.translate(_HARMLESS)


class Body(Protocol):
    """Where the text of an answer goes."""

    def write(self, text: str) -> None: ...

    def close(self) -> None: ...


class PlainBody:
    """The text as it comes; words are wrapped where there is a width."""

    def __init__(self, out: TextIO, *, width: int = 0) -> None:
        self._out = out
        self._wrap = WordWrap(width) if width else None

    def write(self, text: str) -> None:
        self._out.write(self._wrap.feed(text) if self._wrap else text)
        self._out.flush()

    def close(self) -> None:
        """Nothing is held back."""


class AnswerWriter:
    """Writes the pieces of one answer. On a terminal thinking stands above the text; elsewhere it goes to `aside`: a pipe stays
    clean.
    """

    def __init__(
        self,
        out: TextIO,
        aside: TextIO,
        *,
        body: Body | None = None,
        width: int = 0,
        is_grey: bool = False,
        hide_thinking: bool = False,
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        """`width` 0: no wrapping. `is_grey`: for thinking. `begin` is called before anything is written."""
        self._is_terminal = out.isatty()
        self._body = body or PlainBody(out, width=width)
        self._thinking_out = out if self._is_terminal else aside
        self._thinking_body = PlainBody(self._thinking_out, width=width)
        self._is_grey, self._hide_thinking, self._begin = is_grey, hide_thinking, begin
        self._is_thinking = False
        self._thought_ends_line = True

    def thinking(self, text: str) -> None:
        if self._hide_thinking or not text:
            return
        self._begin()
        if not self._is_thinking:
            self._is_thinking = True
            self._thinking_out.write("Thinking...\n")
            text = text.lstrip("\n")
        self._thinking_out.write(_GREY if self._is_grey else "")
        self._thinking_body.write(self._tame(text))
        self._thinking_out.write(_PLAIN if self._is_grey else "")
        self._thought_ends_line = text.endswith("\n") if text else self._thought_ends_line
        self._thinking_out.flush()

    def text(self, text: str) -> None:
        if not text:
            return
        self._begin()
        if self._is_thinking:
            self._end_thinking()
        self._body.write(self._tame(text))

    def close(self) -> None:
        """Ends what was begun; to be called also where the answer broke off."""
        if self._is_thinking:
            self._end_thinking()
        self._body.close()

    def _end_thinking(self) -> None:
        self._is_thinking = False
        self._thinking_out.write(("" if self._thought_ends_line else "\n") + "...done thinking.\n\n")
        self._thinking_out.flush()

    def _tame(self, text: str) -> str:
        return harmless(text) if self._is_terminal else text


def timings(done: Mapping[str, int]) -> str:
    """The table that `--verbose` shows, from the last line of an answer. Absent counts have no row."""
    whole = ((title, done.get(f"{title}_duration", 0)) for title in ("total", "load"))
    rows = [(f"{title} duration", go_duration(ns)) for title, ns in whole if ns]
    for title in ("prompt eval", "eval"):
        key = title.replace(" ", "_")
        count, ns = done.get(f"{key}_count", 0), done.get(f"{key}_duration", 0)
        cached = done.get(f"{key}_cached_count", 0)
        rows += [(f"{title} count", f"{count} token(s)")] if count else []
        rows += [(f"{title} cached", f"{cached} token(s)")] if cached else []
        if ns:
            rows.append((f"{title} duration", go_duration(ns)))
            rows.append((f"{title} rate", f"{(count - cached) / ns * _NS_PER_S:.2f} tokens/s"))
    return "".join(f"{title + ':':<21} {value}\n" for title, value in rows)


def text_of(item: Json) -> str:
    """The text in one line of a chat's or generate's stream."""
    text: str = item.get("response") or (item.get("message") or {}).get("content") or ""
    return text


def show_piece(writer: AnswerWriter, item: Json) -> None:
    """Writes what is in one line of a chat's or generate's stream."""
    writer.thinking(item.get("thinking") or (item.get("message") or {}).get("thinking") or "")
    writer.text(text_of(item))
