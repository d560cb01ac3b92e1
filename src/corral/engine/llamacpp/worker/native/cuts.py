"""Where a long text may be cut so that its parts have, one after the other, just the tokens of the whole. Pure.

llama.cpp first looks for the names of special tokens, the longest first, and walks along a list for each that it finds: that
takes time by the square of how many there are, minutes for a few megabytes of them. What it makes of the text between two of
them depends on nothing else, but that some vocabularies put a space behind one, as at a text's beginning. So a text may be cut
where a name begins that is read as one for certain, and nothing that is on both sides of the cut could have been read as one.

Source: llama.cpp src/llama-vocab.cpp, tokenizer_st_partition and llama_vocab::impl::tokenize.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_PART_BYTES: Final = 2 << 10  # in which a walk along a list of all names costs nothing yet
_SLICE_BYTES: Final = 1 << 16  # that are looked through in one go: other threads have their turn between them
_MOST_TRIED: Final = 64  # names in a row at which a text cannot be cut, before it is left alone for a while
_SPACE: Final = b" \t\n\v\f\r"  # C's isspace


@dataclass(frozen=True, slots=True)
class Special:
    """A token that is looked for by its name. Some take the white space before or behind it along."""

    name: bytes
    strips_left: bool = False
    strips_right: bool = False


class Cuts:
    """Knows the names that are special in a text."""

    def __init__(self, specials: Sequence[Special]) -> None:
        by_name = {special.name: special for special in specials if special.name}
        self._by_name = by_name
        self._longest = max(map(len, by_name), default=0)
        self._strips = any(special.strips_left or special.strips_right for special in specials)
        self._names = re.compile(_any_of(sorted(by_name)), re.DOTALL) if by_name else None

    def parts(self, data: bytes) -> Iterator[bytes]:
        """The text in parts of some size; all of it where it is short, or has no place to be cut at."""
        begin = 0
        while (cut := self._next(data, begin)) < len(data):
            yield data[begin:cut]
            begin = cut
        yield data[begin:]

    def count(self, data: bytes) -> int:
        """How many names a text has, or a few less."""
        return sum(1 for _ in self._names.finditer(data)) if self._names else 0

    def _next(self, data: bytes, begin: int) -> int:
        """The first place for a cut that leaves a part of some size; the text's end where there is none."""
        at = begin + _PART_BYTES
        tried = 0
        while self._names and at < len(data):
            end = min(at + _SLICE_BYTES, len(data))
            found = self._names.search(data, at, min(end + self._longest, len(data)))
            if found is None or found.start() >= end:
                at, tried = end, 0
                continue
            if self._is_clear(data, *found.span()):
                return found.start()
            tried += 1
            at = found.start() + (1 if tried % _MOST_TRIED else _PART_BYTES)
        return len(data)

    def _is_clear(self, data: bytes, begin: int, end: int) -> bool:
        """Is a name that stands there, the longest one, read as such, and nothing across its beginning?

        One that begins within it and ends behind it would be read first if it is longer; whether an equally long one would
        be, nobody knows.
        """
        assert self._names
        if self._strips and not self._keeps_spaces(data, begin, end):
            return False
        for at in range(max(0, begin - self._longest + 1), begin):
            before = self._names.match(data, at)
            if before and before.end() > begin:
                return False
        name = data[begin:end]
        for at in range(begin + 1, end):
            within = self._names.match(data, at)
            if within and within.end() > end and len(within[0]) >= len(name) and within[0] != name:
                return False
        return True

    def _keeps_spaces(self, data: bytes, begin: int, end: int) -> bool:
        """No white space is stripped at that place by a name on the other side of it."""
        if data[begin] in _SPACE:
            return False
        return not self._by_name[data[begin:end]].strips_left or data[begin - 1] not in _SPACE


def _any_of(names: Sequence[bytes]) -> bytes:
    """A regex that finds the longest of these names, which come in order. One branch for all that begin alike."""
    if len(names) == 1:
        return re.escape(names[0])
    same = _common(names[0], names[-1])
    rests = [name[len(same) :] for name in names]
    is_whole = rests[0] == b""
    groups: dict[int, list[bytes]] = {}
    for rest in rests[is_whole:]:
        groups.setdefault(rest[0], []).append(rest)
    inner = b"(?:" + b"|".join(map(_any_of, groups.values())) + b")" + (b"?" if is_whole else b"")
    return re.escape(same) + inner


def _common(first: bytes, last: bytes) -> bytes:
    size = next(
        (at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), min(len(first), len(last))
    )
    return first[:size]
