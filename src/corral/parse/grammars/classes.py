"""Regexes taken apart: into sets of characters, and what is made of them. Of the one spelling that patterns.py writes.

What is not known to every program is not told: the classes of characters by their properties, `\\p{L}`.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeAlias

Set: TypeAlias = tuple[tuple[int, int], ...]  # ranges of code points, in order and apart
EVERY: Final[Set] = ((0, 0xD7FF), (0xE000, 0x10FFFF))  # half a surrogate pair is no character
_KEPT: Final = 256
_CHAR: Final = re.compile(r"\\x\{([0-9A-Fa-f]+)\}|\\([^\w\s])|([^\\])", re.DOTALL)
_TIMES: Final = re.compile(r"[*+?]|\{(\d+)(?:(,)(\d*))?\}")
_OPERATORS: Final = frozenset("^$.*+?(){}")
_ANY: Final = "(?s:."
_GROUP: Final = "(?:"


@dataclass(slots=True, eq=False)
class Parts:
    """A set of characters; or of its parts one, all one after the other, or the only one so often."""

    kind: Literal["chars", "or", "then", "times"]
    parts: "tuple[Parts, ...]" = ()
    chars: Set | None = None
    least: int = 0
    most: int | None = None
    _less: "Parts | None" = None

    def once_less(self) -> "Parts":
        """What is left of a repetition behind the first of them; the same each time."""
        if self.least == 0 and self.most is None:
            return self
        if self._less is None:
            most = None if self.most is None else self.most - 1
            self._less = Parts("times", self.parts, least=max(0, self.least - 1), most=most)
        return self._less


def common(one: Set, other: Set) -> Set:
    """What is in both."""
    if one is EVERY or other is EVERY:
        return other if one is EVERY else one
    found = [(max(low, low2), min(high, high2)) for low, high in one for low2, high2 in other]
    return tuple((low, high) for low, high in found if low <= high)


def has(chars: Set, code: int) -> bool:
    return any(low <= code <= high for low, high in chars)


@lru_cache(_KEPT)
def parsed(regex: str) -> Parts | None:
    """None for one with anything in it that is not known here."""
    reader = _Reader(regex)
    try:
        found = reader.either()
    except (ValueError, RecursionError):
        return None
    return found if reader.is_over else None


class _Reader:
    """Raises ValueError for what it does not know."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    @property
    def is_over(self) -> bool:
        return self._at == len(self._text)

    def either(self) -> Parts:
        options = [self._row()]
        while self._takes("|"):
            options.append(self._row())
        return options[0] if len(options) == 1 else Parts("or", tuple(options))

    def _takes(self, text: str) -> bool:
        is_next = self._text.startswith(text, self._at)
        self._at += len(text) if is_next else 0
        return is_next

    def _row(self) -> Parts:
        row: list[Parts] = []
        while not self.is_over and self._text[self._at] not in "|)":
            row.append(self._times(self._piece()))
        return row[0] if len(row) == 1 else Parts("then", tuple(row))

    def _piece(self) -> Parts:
        if self._takes(_ANY):
            return self._closed(self._times(Parts("chars", chars=EVERY)))
        if self._takes(_GROUP):
            return self._closed(self.either())
        if self._takes("["):
            return Parts("chars", chars=self._class())
        if self._text[self._at] in _OPERATORS:
            raise ValueError(self._text)
        code = self._code()
        return Parts("chars", chars=((code, code),))

    def _closed(self, part: Parts) -> Parts:
        if not self._takes(")"):
            raise ValueError(self._text)
        return part

    def _times(self, part: Parts) -> Parts:
        found = _TIMES.match(self._text, self._at)
        if found is None:
            return part
        self._at = found.end()
        least, comma, most = found.groups()
        if least is None:
            least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[found[0]]
        elif comma:
            least, most = int(least), int(most) if most else None
        else:
            least = most = int(least)
        return Parts("times", (part,), least=least, most=most)

    def _class(self) -> Set:
        is_not = self._takes("^")
        ranges: list[tuple[int, int]] = []
        while not self._takes("]"):
            low = high = self._code()
            if self._text[self._at : self._at + 1] == "-" and self._text[self._at + 1 : self._at + 2] != "]":
                self._at += 1
                high = self._code()
            ranges.append((low, high))
        return _without(ranges) if is_not else tuple(ranges)

    def _code(self) -> int:
        found = _CHAR.match(self._text, self._at)
        if found is None:
            raise ValueError(self._text)
        self._at = found.end()
        return int(found[1], 16) if found[1] else ord(found[2] or found[3])


def _without(ranges: list[tuple[int, int]]) -> Set:
    """All characters beside these."""
    found: list[tuple[int, int]] = []
    for begin, end in EVERY:
        at = begin
        for low, high in sorted(ranges):
            if low > at and at <= end:
                found.append((at, min(low - 1, end)))
            at = max(at, high + 1)
        if at <= end:
            found.append((at, end))
    return tuple(found)
