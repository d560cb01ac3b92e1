"""What followed the last time: an answer that repeats a part of its prompt, or of itself, is likely to go on as that did. Pure.

An index of all pairs of tokens of one generation, prompt and answer, that grows with it. Of the places where its last two came
up before, the one that shares most of what is before them counts, and of equals the latest. An answer that follows a place goes
on following it over a token that was changed, as an edit changes one, unless another place has more to say for itself; and what
it has changed once it is likely to change again.
"""

from array import array
from collections.abc import Sequence
from typing import Final, NamedTuple

_PAIR: Final = 2
_SLICE: Final = 2048  # tokens that are indexed in one go: a long prompt holds up no step
_LOOKS: Final = 8  # places that are looked at
WIDTHS: Final = (_PAIR, 3, 4, 6, 8, 12, 16, 24)  # shared tokens that are told from each other
_WIDEST: Final = WIDTHS[-1]
_CHANGE: Final = 4  # a changed token leaves so much less of what is said for a place
_NONE: Final = -1


class Guess(NamedTuple):
    """Tokens that may come next, because so many of the last ones came before them."""

    tokens: list[int]
    shared: int


class Lookup:
    """Of one generation. Its tokens only ever grow: where some are taken out, there has to be another index."""

    def __init__(self) -> None:
        self._latest: dict[int, int] = {}  # by pair: the place behind it
        self._earlier = array("q", (_NONE,) * _PAIR)  # by place: the one before it behind the same pair
        self._place = _NONE  # the one that the answer follows
        self._shared = 0  # what is said for it
        self._seen = 0  # tokens that were there when that was found
        self._changes: dict[int, int] = {}  # what it says instead of tokens of places that it followed
        self._change = (_NONE, _NONE)  # the last one, which counts when the answer is seen to go on as the place does

    def read(self, tokens: Sequence[int]) -> None:
        """Takes in what is new, or a part of it where that is much. What the last token comes before is not known yet."""
        latest, earlier = self._latest, self._earlier
        begin = len(earlier)
        end = min(len(tokens), begin + _SLICE)
        for place in range(begin, end):
            pair = tokens[place - 2] << 32 | tokens[place - 1]
            earlier.append(latest.get(pair, _NONE))
            latest[pair] = place

    def guess(self, tokens: list[int], most: int) -> Guess | None:
        """At most so many tokens that may come next; None where nothing like the end of the text came up before."""
        if len(tokens) < _PAIR:
            return None
        self._follow(tokens)
        place = self._latest.get(tokens[-2] << 32 | tokens[-1], _NONE)
        for _ in range(_LOOKS):
            if place == _NONE or self._shared >= _WIDEST:
                break
            if (width := _width(tokens, place)) > self._shared:
                self._place, self._shared = place, width
            place = self._earlier[place]
        if not self._shared:
            return None
        found = _after(tokens, self._place, most)
        if changes := self._changes:
            found = [changes.get(token, token) for token in found]
        return Guess(found, self._shared) if found else None

    def _follow(self, tokens: list[int]) -> None:
        """Goes on along the place that the answer followed, by what has been said since."""
        for said in tokens[self._seen :]:
            if not self._shared:
                break
            there = tokens[self._place]
            was, now = self._change
            if said == self._changes.get(there, there):
                self._shared = min(self._shared + 1, _WIDEST)
                if was != _NONE:
                    self._changes[was] = now
                    self._change = (_NONE, _NONE)
            else:
                self._changes.pop(there, None)
                self._change = (there, said) if was == _NONE and said != there else (_NONE, _NONE)
                self._shared = self._shared // _CHANGE if was == _NONE else 0
            self._place += 1
        if self._shared < _PAIR:
            self._place, self._shared, self._change = _NONE, 0, (_NONE, _NONE)
        self._seen = len(tokens)


def _width(tokens: list[int], place: int) -> int:
    """So many tokens before that place are those at the end, two at least."""
    shared = _PAIR
    for width in WIDTHS[1:]:
        if width > place or tokens[place - width : place] != tokens[-width:]:
            break
        shared = width
    return shared


def _after(tokens: list[int], place: int, most: int) -> list[int]:
    """What follows there, and where that is the end of the text, the same again; up to what stands for a part of an image."""
    found = tokens[place : place + most]
    if len(found) < most:
        found = (found * -(-most // len(found)))[:most]
    return found[: next((at for at, token in enumerate(found) if token < 0), most)]
