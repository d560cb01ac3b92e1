"""An answer on its way to the screen: thinking apart from text, words wrapped on a terminal, timings at the end."""

import unicodedata
from collections.abc import Mapping
from typing import Final, TextIO

from corral.cli.client import Json
from corral.cli.render import go_duration

_GREY, _PLAIN = "\x1b[90m", "\x1b[0m"
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
    if unicodedata.combining(letter) or unicodedata.category(letter) in ("Cf", "Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


class AnswerWriter:
    """Writes the pieces of one answer. On a terminal thinking is grey; elsewhere it goes to `aside`: a pipe stays clean."""

    def __init__(self, out: TextIO, aside: TextIO, *, width: int = 0, hide_thinking: bool = False) -> None:
        """`width` 0: no wrapping."""
        self._out = out
        self._is_terminal = out.isatty()
        self._thinking_out = out if self._is_terminal else aside
        self._width, self._hide_thinking = width, hide_thinking
        self._wrap = WordWrap(width)
        self._is_thinking = False

    def thinking(self, text: str) -> None:
        if self._hide_thinking or not text:
            return
        if not self._is_thinking:
            self._is_thinking = True
            self._thinking_out.write("Thinking...\n")
            text = text.lstrip("\n")
        shown = self._wrapped(text)
        self._thinking_out.write(f"{_GREY}{shown}{_PLAIN}" if self._is_terminal else shown)
        self._thinking_out.flush()

    def text(self, text: str) -> None:
        if not text:
            return
        if self._is_thinking:
            self._end_thinking()
        self._out.write(self._wrapped(text))
        self._out.flush()

    def close(self) -> None:
        """Ends what was begun; to be called also where the answer broke off."""
        if self._is_thinking:
            self._end_thinking()

    def _end_thinking(self) -> None:
        self._is_thinking = False
        self._thinking_out.write("\n...done thinking.\n\n")
        self._thinking_out.flush()
        self._wrap = WordWrap(self._width)

    def _wrapped(self, text: str) -> str:
        return self._wrap.feed(text) if self._width else text


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


def show_piece(writer: AnswerWriter, item: Json) -> str:
    """Writes one line of a chat's or generate's stream; the text in it."""
    message = item.get("message") or {}
    writer.thinking(item.get("thinking") or message.get("thinking") or "")
    text: str = item.get("response") or message.get("content") or ""
    writer.text(text)
    return text
