"""Texts of templates cut into what a model writes as a whole: tags, runs of white space, words."""

import re
from typing import Final

_UNIT: Final = re.compile(r"<[^<>\s]*>|<[^<>\n]{0,80}>|<[^<>\s]*|\[[^\[\]\n\"{}]{2,40}\]|\s+|[^\s<>\[\]{}]+|.", re.DOTALL)
_NEXT_TAG: Final = re.compile(r"(?<=>)\s*(?=<)|^\s+|\s+$")
_TAG: Final = re.compile(r"<[^\s<>]{2,}|\[[A-Z/]")


def units(text: str) -> list[str]:
    """The text, cut.

    >>> units("\\n<tool_call>\\n[END OF IT] to x")
    ['\\n', '<tool_call>', '\\n', '[END OF IT]', ' ', 'to', ' ', 'x']
    """
    return _UNIT.findall(text)


def words(text: str) -> list[str]:
    """The same without white space."""
    return [unit for unit in units(text) if not unit.isspace()]


def tag_parts(text: str) -> list[str]:
    """The text cut where one tag ends and the next begins, without white space there and around it all.

    >>> tag_parts('</key>\\n<value> ')
    ['</key>', '<value>']
    >>> tag_parts('" string="true">')
    ['" string="true">']
    """
    return [part for part in _NEXT_TAG.split(text) if part]


def is_tag(unit: str) -> bool:
    """Whether this is nothing that a text would hold by chance."""
    return bool(_TAG.match(unit))


def cut_back(text: str, end: int) -> int:
    """The last place up to `end` that does not cut a tag or word apart."""
    at = 0
    for unit in units(text):
        if at + len(unit) > end:
            return end if unit.isspace() else at
        at += len(unit)
    return at


def common_start(one: str, other: str) -> int:
    """How many characters two texts begin with alike, whole units only."""
    size = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return min(cut_back(one, size), cut_back(other, size))


def common_end(one: str, other: str) -> int:
    """How many characters two texts end with alike, whole units only."""
    size = 0
    for a, b in zip(reversed(units(one)), reversed(units(other)), strict=False):
        if a != b:
            break
        size += len(a)
    return size
