"""`printf`: Go's format verbs. A text that asks for the impossible gets Go's complaint in its place, never an error.

Source: Go 1.26 fmt/print.go, doPrintf, and format.go, written anew.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import copysign, isfinite
from typing import Any, Final

from corral.template.gotmpl.lexer import quoted
from corral.template.gotmpl.printing import Struct, float_text, shown, type_name

MAX_WIDTH: Final = 1_000_000  # of a directive, as in Go; a wider one is none
_DIRECTIVE: Final = re.compile(
    r"%(?P<flags>[+\-# 0]*)(?P<at1>\[[^\]]*\])?(?P<width>\*|\d+)?(?P<dot>\.(?P<at2>\[[^\]]*\])?(?P<precision>\*|\d+)?)?"
    r"(?P<at3>\[[^\]]*\])?(?P<verb>.)?",
    re.DOTALL,
)
_BASES: Final = {"b": ("b", "0b"), "o": ("o", "0"), "O": ("o", "0o"), "x": ("x", "0x"), "X": ("X", "0X"), "d": ("d", "")}


@dataclass(slots=True)
class _Directive:
    verb: str
    flags: str
    width: int | None = None
    precision: int | None = None

    def padded(self, text: str) -> str:
        if self.width is None or len(text) >= self.width:
            return text
        if "-" in self.flags:
            return text.ljust(self.width)
        return text.rjust(self.width, "0" if "0" in self.flags else " ")

    def numeric(self, sign: str, digits: str) -> str:
        """A number, with zeros between its sign and its digits where they are asked for."""
        if "0" in self.flags and "-" not in self.flags and self.width is not None:
            digits = digits.rjust(self.width - len(sign), "0")
        return self.padded(sign + digits)

    def sign(self, *, is_negative: bool) -> str:
        return "-" if is_negative else ("+" if "+" in self.flags else (" " if " " in self.flags else ""))


def formatted(form: str, values: Sequence[Any]) -> Iterator[str]:
    """What `printf` writes, piece by piece, so that a caller can stop it."""
    arguments = _Arguments(values)
    at = 0
    for found in _DIRECTIVE.finditer(form):
        if found.start() < at:
            continue
        yield form[at : found.start()]
        at = found.end()
        yield _directive(found, arguments)
    yield form[at:]
    yield arguments.extra()


class _Arguments:
    """What is left to be printed: each directive takes the next one, or the one that it names."""

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = values
        self._next = 0
        self._reordered = False

    def go_to(self, index: str | None) -> bool:
        """Makes `[3]` the next one; False where there is none of that number."""
        if not index:
            return True
        self._reordered = True
        inner = index[1:-1]
        wanted = int(inner) - 1 if inner.isdecimal() and len(inner) < 7 else -1
        if not 0 <= wanted < len(self._values):
            return False
        self._next = wanted
        return True

    @property
    def is_empty(self) -> bool:
        return self._next >= len(self._values)

    def take(self) -> Any:
        self._next += 1
        return self._values[self._next - 1]

    def extra(self) -> str:
        if self._reordered or self.is_empty:
            return ""
        listed = (
            f"{type_name(value)}={shown(value)}" if value is not None else "<nil>" for value in self._values[self._next :]
        )
        return f"%!(EXTRA {', '.join(listed)})"


def _directive(found: re.Match[str], arguments: _Arguments) -> str:
    """One directive, written out; or Go's complaint, which is a text too."""
    verb = found["verb"]
    directive = _Directive(verb or "", found["flags"])
    is_indexed = arguments.go_to(found["at1"])
    complaint = _measure(found["width"], arguments, directive, "width")
    if found["dot"]:
        is_indexed = arguments.go_to(found["at2"]) and is_indexed
        complaint += _measure(found["precision"] or "0", arguments, directive, "precision")
    is_indexed = arguments.go_to(found["at3"]) and is_indexed
    if verb is None:
        return complaint + "%!(NOVERB)"
    if verb == "%":
        return complaint + "%"
    if not is_indexed:
        return f"{complaint}%!{verb}(BADINDEX)"
    if arguments.is_empty:
        return f"{complaint}%!{verb}(MISSING)"
    return complaint + _written(arguments.take(), directive)


def _measure(given: str | None, arguments: _Arguments, directive: _Directive, what: str) -> str:
    """Sets the width or the precision; the complaint where it is none."""
    if given is None:
        return ""
    value: Any = None
    if given != "*":
        value = int(given) if len(given) < 8 else None
    elif not arguments.is_empty:
        value = arguments.take()
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > MAX_WIDTH:
        return "%!(BADWIDTH)" if what == "width" else "%!(BADPREC)"
    if what == "width":
        directive.width = abs(value)
        directive.flags += "-" if value < 0 else ""
    elif value >= 0:
        directive.precision = value
    return ""


def _written(value: Any, directive: _Directive) -> str:
    verb = directive.verb
    if verb == "T":
        return directive.padded(type_name(value))
    if verb == "v" and "#" in directive.flags:
        return directive.padded(_syntax(value))
    text = getattr(value, "text", None)
    if text is not None and verb in "vsqxX":
        value = text()
    if value is None:
        return directive.padded("<nil>") if verb == "v" else f"%!{verb}(<nil>)"
    if isinstance(value, bool):
        return directive.padded(shown(value)) if verb in "vt" else _bad(value, directive)
    if isinstance(value, int):
        return _integer(value, directive)
    if isinstance(value, float):
        return _float(value, directive)
    if isinstance(value, str | bytes):
        return _text(value, directive)
    return _each(value, directive)


def _each(value: Any, directive: _Directive) -> str:
    """Something that holds others, each of which is written so."""

    def inner(item: Any) -> str:
        return directive.padded("<nil>") if item is None else _written(item, directive)

    if isinstance(value, dict):
        return "map[" + " ".join(f"{inner(key)}:{inner(value[key])}" for key in sorted(value, key=str)) + "]"
    items = value.fields.values() if isinstance(value, Struct) else value
    opening, closing = "{}" if isinstance(value, Struct) else "[]"
    return opening + " ".join(map(inner, items)) + closing


def _bad(value: Any, directive: _Directive) -> str:
    return f"%!{directive.verb}({type_name(value)}={_written(value, replace(directive, verb='v'))})"


def _integer(value: int, directive: _Directive) -> str:
    verb = "d" if directive.verb == "v" else directive.verb
    if verb in _BASES:
        base, prefix = _BASES[verb]
        digits = format(abs(value), base).rjust(directive.precision or 0, "0")
        sign = directive.sign(is_negative=value < 0) + (prefix if "#" in directive.flags or verb == "O" else "")
        if directive.precision is None:
            return directive.numeric(sign, digits)
        return replace(directive, flags=directive.flags.replace("0", "")).padded(sign + digits)
    code = value if 0 <= value <= 0x10FFFF and not 0xD800 <= value < 0xE000 else 0xFFFD
    if verb == "c":
        return directive.padded(chr(code))
    if verb == "q":
        return directive.padded("'" + quoted(chr(code))[1:-1].replace('\\"', '"').replace("'", "\\'") + "'")
    if verb == "U":
        return directive.padded(f"U+{value:04X}" + (f" '{chr(code)}'" if "#" in directive.flags else ""))
    return _bad(value, directive)


def _float(value: float, directive: _Directive) -> str:
    verb = "g" if directive.verb == "v" else directive.verb
    if verb not in ("e", "E", "f", "F", "g", "G"):
        return _bad(value, directive)
    is_negative = copysign(1, value) < 0
    if not isfinite(value):
        return directive.padded(directive.sign(is_negative=is_negative).replace(" ", "") + float_text(abs(value)).lstrip("+"))
    if verb in "gG" and directive.precision is None:
        digits = float_text(abs(value))
    else:
        digits = f"{abs(value):.{6 if directive.precision is None else directive.precision}{verb}}"
    return directive.numeric(directive.sign(is_negative=is_negative), digits.upper() if verb in "EG" else digits)


def _text(value: str | bytes, directive: _Directive) -> str:
    verb = directive.verb
    text = value if isinstance(value, str) else value.decode(errors="replace")
    if verb in "xX":
        data = value.encode() if isinstance(value, str) else value
        prefix = f"0{verb}" if "#" in directive.flags and data else ""
        digits = data[: directive.precision].hex(*(" ",) if " " in directive.flags else ())
        return directive.padded(prefix + (digits.upper() if verb == "X" else digits))
    if verb == "v" and isinstance(value, bytes):
        return "[" + " ".join(_integer(item, directive) for item in value) + "]"
    if verb in "sv":
        return directive.padded(text[: directive.precision])
    if verb == "q":
        text = text[: directive.precision]
        is_raw = "#" in directive.flags and "`" not in text and text.replace("\t", "").isprintable()
        return directive.padded(f"`{text}`" if is_raw else quoted(text, ascii_only="+" in directive.flags))
    if isinstance(value, bytes) and verb in ("d", "b", "o", "O", "c", "U"):
        return "[" + " ".join(_integer(item, directive) for item in value) + "]"
    return _bad(value, directive)


def _syntax(value: Any) -> str:
    """`%#v`: as a Go program would write it."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, Struct):
        inner = ", ".join(f"{name}:{_syntax(item)}" for name, item in value.fields.items())
        return f"{value.type_name.replace('*', '&')}{{{inner}}}"
    if isinstance(value, dict):
        return (
            type_name(value) + "{" + ", ".join(f"{_syntax(key)}:{_syntax(value[key])}" for key in sorted(value, key=str)) + "}"
        )
    if isinstance(value, list | tuple):
        return type_name(value) + "{" + ", ".join(map(_syntax, value)) + "}"
    if isinstance(value, bytes):
        return "[]byte{" + ", ".join(f"0x{item:x}" for item in value) + "}"
    return shown(value)
