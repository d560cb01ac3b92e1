"""An answer's text as it comes in, read by generators that stop where it ends for now.

A reader yields to wait for more text, and goes on when there is some or when there will be none. It decides nothing before
what it has seen can mean one thing only, so the same text gives the same result however it is cut. What a reader takes is
kept until `commit`; it never goes back. Each character is looked at a bounded number of times: `scanned_chars` counts.
"""

import re
from collections.abc import Callable, Generator, Iterable
from functools import lru_cache
from typing import Final, TypeAlias, TypeVar

T = TypeVar("T")
Reading: TypeAlias = Generator[None, None, T]

_SPACE: Final = re.compile(r"\s*")


class NotACallError(Exception):
    """What began like a call is none, or not a whole one."""


class Marks:
    """Texts that are looked for. Where one begins with another, the longer one counts."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = tuple(sorted({text for text in texts if text}, key=len, reverse=True))
        self.pattern = re.compile("|".join(map(re.escape, self.texts)) if self.texts else r"(?!)")
        self.longest = len(self.texts[0]) if self.texts else 0
        first_chars = "".join(re.escape(char) for char in sorted({text[0] for text in self.texts}))
        self._first_char = re.compile(f"[{first_chars}]" if first_chars else r"(?!)")

    def __bool__(self) -> bool:
        return bool(self.texts)

    def is_begun_by(self, tail: str) -> bool:
        """Whether more text could make one of them out of it."""
        return any(len(tail) < len(text) and text.startswith(tail) for text in self.texts)

    def unfinished(self, text: str, at: int) -> int:
        """Where at the end of the text one of them may have begun; the text's length where none has."""
        for first in self._first_char.finditer(text, max(at, len(text) - self.longest + 1)):
            if self.is_begun_by(text[first.start() :]):
                return first.start()
        return len(text)


@lru_cache(maxsize=256)
def mark(text: str) -> Marks:
    """The one text to look for."""
    return Marks((text,))


class Source:
    """The text and how far it has been read."""

    def __init__(self) -> None:
        self.is_closed = False
        self.scanned_chars = 0
        self._text = ""
        self._at = 0
        self._taken: list[str] = []

    def feed(self, text: str) -> None:
        self.scanned_chars += len(self._text) - self._at + len(text)
        self._text = self._text[self._at :] + text
        self._at = 0

    def commit(self) -> str:
        """What was taken since the last time."""
        taken = "".join(self._taken)
        self._taken.clear()
        return taken

    def peek(self) -> Reading[str]:
        """The next character, not taken; "" at the end."""
        while self._at == len(self._text) and not self.is_closed:
            yield
        return self._text[self._at : self._at + 1]

    def char(self) -> Reading[str]:
        """The next character, taken; "" at the end."""
        char = yield from self.peek()
        self._take(self._at + len(char))
        return char

    def space(self) -> Reading[None]:
        """Takes the white space that comes next."""
        yield from self.run(_SPACE)

    def run(self, pattern: re.Pattern[str], max_chars: int | None = None) -> Reading[str]:
        """Takes all that comes next of a kind of characters. Raises NotACallError where it is more than that."""
        pieces: list[str] = []
        size = 0
        while True:
            found = pattern.match(self._text, self._at)
            assert found  # a pattern for a run matches nothing too
            pieces.append(self._take(found.end()))
            size += len(pieces[-1])
            if max_chars is not None and size > max_chars:
                raise NotACallError
            if self._at < len(self._text) or self.is_closed:
                return "".join(pieces)
            yield

    def rest(self) -> None:
        """Takes all that is there."""
        self._take(len(self._text))

    def match(self, marks: Marks) -> Reading[str]:
        """Takes the mark that comes next; "" where none does."""
        while not self.is_closed and len(self._text) - self._at < marks.longest and marks.is_begun_by(self._text[self._at :]):
            yield
        self.scanned_chars += min(marks.longest, len(self._text) - self._at)
        found = marks.pattern.match(self._text, self._at)
        return self._take(found.end()) if found else ""

    def literal(self, text: str) -> Reading[bool]:
        """Takes this text if it comes next."""
        return bool((yield from self.match(mark(text))))

    def expect(self, text: str) -> Reading[None]:
        """Takes this text. Raises NotACallError where another comes."""
        if not (yield from self.literal(text)):
            raise NotACallError

    def find(self, marks: Marks, on_text: Callable[[str], None]) -> Reading[str]:
        """Takes what comes before the next mark, piece by piece, and the mark itself; "" where there is none to the end."""
        while True:
            found = marks.pattern.search(self._text, self._at)
            self.scanned_chars += (found.end() if found else len(self._text)) - self._at
            undecided = len(self._text) if self.is_closed else marks.unfinished(self._text, self._at)
            is_found = found is not None and (self.is_closed or found.start() < undecided)
            end = found.start() if found and is_found else undecided
            if end > self._at:
                on_text(self._take(end))
            if found and is_found:
                return self._take(found.end())
            if self.is_closed:
                return ""
            yield

    def _take(self, end: int) -> str:
        taken = self._text[self._at : end]
        if taken:
            self._taken.append(taken)
            self.scanned_chars += len(taken)
            self._at = end
        return taken
