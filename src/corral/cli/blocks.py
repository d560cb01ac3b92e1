"""Where a block of Markdown begins and ends, told while the text comes in pieces of any size. Pure.

A block is a paragraph, a heading, a fence, a table, a quote, or one item of a list with all that is indented under it: small
enough that it can usually be drawn again when it is whole. All text comes out again, in its order.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

_PIECES = re.compile(r"[^\n]*\n|[^\n]+")
_FENCE = re.compile(r"\s*(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}#{1,6}(?=\s|$)")
_ITEM = re.compile(r"( {0,3})(?:[-*+]|\d{1,9}[.)])\s")
_UNDECIDED = re.compile(r"\s*(?:#{1,6}|[-*+]|\d{1,9}[.)]?|`{1,2}|~{1,2})?$")
_INDENTED: Final = ("  ", "\t")


@dataclass(frozen=True, slots=True)
class Shown:
    """Text of the block that is open."""

    text: str


@dataclass(frozen=True, slots=True)
class Closed:
    """The block is whole: everything shown since the one before."""

    source: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Blank lines between blocks."""

    text: str


Event: TypeAlias = Shown | Closed | Gap


class BlockSplitter:
    """Takes the text of one answer. A line's first letters are held back until they tell whether a block begins there."""

    def __init__(self) -> None:
        self._line = ""
        self._is_begun = False  # whether the line's beginning is decided, and shown
        self._block: list[str] = []
        self._blanks = ""  # lines that belong to the block if it goes on
        self._item_indent = -1  # of the list item that is open
        self._is_heading = False
        self._fence = ""
        self._is_fence_line = False  # the line is the one that opens the fence

    def feed(self, text: str) -> Iterator[Event]:
        for piece in _PIECES.findall(text):
            yield from self._take(piece)

    def close(self) -> Iterator[Event]:
        """The end of the text."""
        if self._line and not self._is_begun:
            yield from self._decide()
        yield from self._close_block()
        yield from self._gap()

    def _take(self, piece: str) -> Iterator[Event]:
        self._line += piece
        if self._is_begun:
            yield from self._show(piece)
        elif not piece.endswith("\n") and not self._fence and _UNDECIDED.match(self._line):
            return
        else:
            yield from self._decide()
        if piece.endswith("\n"):
            yield from self._end_line()

    def _decide(self) -> Iterator[Event]:
        """The beginning of the line says where it belongs."""
        if not self._line.strip() and not self._fence:
            self._blanks += self._line
            self._line = ""
            return
        self._is_begun = True
        if not self._fence:
            yield from self._after_blanks()
            yield from self._begin_block()
        yield from self._show(self._line)

    def _after_blanks(self) -> Iterator[Event]:
        if not self._blanks:
            return
        if self._is_in_item():
            blanks, self._blanks = self._blanks, ""
            yield from self._show(blanks)
        else:
            yield from self._close_block()
            yield from self._gap()

    def _begin_block(self) -> Iterator[Event]:
        item, heading, fence = (kind.match(self._line) for kind in (_ITEM, _HEADING, _FENCE))
        begins = not self._is_in_item() and bool(item or heading or fence)
        if item and self._item_indent >= 0:
            begins = len(item[1]) <= self._item_indent + 1
        if begins:
            yield from self._close_block()
            self._item_indent = len(item[1]) if item else -1
            self._is_heading = bool(heading)
        if fence:
            self._fence, self._is_fence_line = fence[1], True

    def _is_in_item(self) -> bool:
        return self._item_indent >= 0 and self._line.startswith(_INDENTED)

    def _end_line(self) -> Iterator[Event]:
        line, self._line, self._is_begun = self._line.strip(), "", False
        if self._is_heading:
            yield from self._close_block()
        elif self._is_fence_line:
            self._is_fence_line = False
        elif self._fence and line.startswith(self._fence) and not line.strip(self._fence[0]):
            self._fence = ""
            if self._item_indent < 0:
                yield from self._close_block()

    def _show(self, text: str) -> Iterator[Event]:
        self._block.append(text)
        yield Shown(text)

    def _close_block(self) -> Iterator[Event]:
        source = "".join(self._block)
        self._block.clear()
        self._item_indent, self._is_heading = -1, False
        if source:
            yield Closed(source)

    def _gap(self) -> Iterator[Event]:
        if self._blanks:
            yield Gap(self._blanks)
            self._blanks = ""
