"""Looks at a Jinja template without parsing it: which names it uses. Takes time in proportion to its length, whatever it is.

A name that follows a dot is no name but an attribute; what stands in strings, comments and plain text is none either.
"""

import re
from typing import Final

_OPEN: Final = re.compile(r"\{[%{#]")
_PIECE: Final = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[%}]\}|(?P<name>(?:\.\s*)?[A-Za-z_]\w*)|\d\w*|.", re.DOTALL)
_CLOSE: Final = ("%}", "}}")


def names(source: str) -> frozenset[str]:
    """The names that stand in `{% %}` and `{{ }}`."""
    found: set[str] = set()
    at = 0
    while opening := _OPEN.search(source, at):
        if opening.group() == "{#":
            at = source.find("#}", opening.end()) + 2
            if at < 2:
                break
            continue
        at = len(source)
        for piece in _PIECE.finditer(source, opening.end()):
            if piece.group() in _CLOSE:
                at = piece.end()
                break
            if (name := piece["name"]) and name[0] != ".":
                found.add(name)
    return frozenset(found)
