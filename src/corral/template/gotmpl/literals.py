"""What the literals of a Go template mean: strings, characters, numbers."""

import re
from typing import Final

from corral.template.gotmpl.lexer import quoted

_ESCAPE: Final = re.compile(
    r"\\(?:([abfnrtv\\'\"])|([0-7]{3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.?))", re.DOTALL
)
_SIMPLE: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_MIN_INT, _MAX_INT, _MAX_UINT = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1
_LEGACY_OCTAL: Final = re.compile(r"[+-]?0[0-7_]+")
_FLOAT_MARKS: Final = frozenset(".eEpP")


def unquoted(literal: str) -> str | None:
    """The text of a string or character literal; None where an escape in it is none."""
    quote, inner = literal[0], literal[1:-1]
    if quote == "`":
        return inner.replace("\r", "")
    parts: list[bytes] = []
    at = 0
    for found in _ESCAPE.finditer(inner):
        parts.append(inner[at : found.start()].encode())
        piece = _escape(found, quote)
        if piece is None:
            return None
        parts.append(piece)
        at = found.end()
    parts.append(inner[at:].encode())
    return b"".join(parts).decode(errors="replace")


def _escape(found: re.Match[str], quote: str) -> bytes | None:
    simple, octal, byte, short, long, _ = found.groups()
    if simple:
        return None if simple in "'\"" and simple != quote else _SIMPLE.get(simple, simple).encode()
    if octal or byte:
        code = int(octal, 8) if octal else int(byte, 16)
        return bytes((code,)) if code <= 0xFF else None
    if short or long:
        code = int(short or long, 16)
        return None if code > 0x10FFFF or 0xD800 <= code < 0xE000 else chr(code).encode()
    return None


def number(literal: str) -> int | float:
    """The value of a number or a character literal. Raises ValueError in Go's words."""
    if literal[0] == "'":
        text = unquoted(literal)
        if text is None or len(text) != 1:
            raise ValueError(f"malformed character constant: {literal}")
        return ord(text)
    if literal[-1] == "i":
        raise ValueError(f"illegal number syntax: {quoted(literal)}: complex numbers are not known here")
    whole = _whole(literal)
    if whole is not None:
        if not _MIN_INT <= whole <= _MAX_UINT:
            raise ValueError(f"integer overflow: {quoted(literal)}")
        if whole > _MAX_INT:
            raise ValueError(f"{literal} overflows int")
        return whole
    fraction = _fraction(literal)
    if fraction is None:
        raise ValueError(f"illegal number syntax: {quoted(literal)}")
    if not _FLOAT_MARKS & set(literal):
        raise ValueError(f"integer overflow: {quoted(literal)}")
    return fraction


def _whole(literal: str) -> int | None:
    try:
        return int(literal, 8 if _LEGACY_OCTAL.fullmatch(literal) else 0)
    except ValueError:
        return None


def _fraction(literal: str) -> float | None:
    try:
        value = float.fromhex(literal) if "x" in literal.lower() else float(literal)
    except (ValueError, OverflowError):
        return None
    return value if abs(value) != float("inf") else None
