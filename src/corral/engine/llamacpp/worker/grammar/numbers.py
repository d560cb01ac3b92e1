"""Numbers in JSON while they are written: none is to go on for ever.

JSON sets numbers no limit, and some models, once in a row of digits, find no way out of it. No program keeps more digits than
these, so the next one is not let through where the grammar takes anything else. Pure.
"""

from collections.abc import Iterable
from typing import Final

MOST: Final = 20  # digits in a row: those of an integer of 64 bits; a double has 17
_MOST_IN_EXPONENT: Final = 2  # more of them, and few programs can read it
_DIGITS: Final = frozenset(b"0123456789")
_EXPONENTS: Final = frozenset(b"eE")
_SIGNS: Final = frozenset(b"+-")
_QUOTE: Final = ord('"')
_ESCAPE: Final = ord("\\")


class Numbers:
    """Follows a text of JSON, from behind what stands before it. What is in quotes is no number."""

    def __init__(self, before: str = "") -> None:
        self._is_quoted = False
        self._is_escaped = False
        self._run = 0
        self._most = MOST
        self.take(before.encode("utf-8", "replace"))

    @property
    def left(self) -> int:
        """Digits that may come next, one after the other."""
        return MOST if self._is_quoted else max(0, self._most - self._run)

    @property
    def is_quoted(self) -> bool:
        return self._is_quoted

    def take(self, text: bytes) -> bool:
        """Goes on with the text. Whether its numbers have no more digits than they may."""
        fits = True
        for byte in text:
            if self._is_quoted:
                self._quoted(byte)
            else:
                self._bare(byte)
                fits = fits and self._run <= self._most
        return fits

    def takes(self, texts: Iterable[bytes]) -> bool:
        """Whether it could go on with these."""
        ahead = self.copy()
        return all(ahead.take(text) for text in texts)

    def copy(self) -> "Numbers":
        made = Numbers()
        made._is_quoted, made._is_escaped, made._run, made._most = self._is_quoted, self._is_escaped, self._run, self._most
        return made

    def _quoted(self, byte: int) -> None:
        if self._is_escaped:
            self._is_escaped = False
        elif byte == _ESCAPE:
            self._is_escaped = True
        elif byte == _QUOTE:
            self._is_quoted = False

    def _bare(self, byte: int) -> None:
        if byte in _DIGITS:
            self._run += 1
            return
        if byte in _EXPONENTS and self._run:
            self._most = _MOST_IN_EXPONENT
        elif byte not in _SIGNS:
            self._most = MOST
            self._is_quoted = byte == _QUOTE
        self._run = 0


def leading(text: bytes) -> int:
    """The digits that a text begins with."""
    return len(text) - len(text.lstrip(b"0123456789"))
