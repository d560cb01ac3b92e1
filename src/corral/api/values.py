"""Values that several dialects take in the same form: how long a model stays, how it is to think, which tools it may call, and
bytes as text.

Errors are BadRequestError in Ollama's words. Source: ollama@v0.32 api/types.go, the UnmarshalJSON methods.
"""

import binascii
import io
import json
import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from corral.core.errors import BadRequestError
from corral.core.units import keep_alive_s
from corral.service.requests import Think, ToolChoice

_THINK_LEVELS: Final = ("high", "medium", "low", "max")
_THINK_WORDS: Final = '"high", "medium", "low", "max", true, or false'
_GO_TYPES: Final[dict[type, str]] = {bool: "bool", list: "[]interface {}", dict: "map[string]interface {}"}
_PIECE_CHARS: Final = 1 << 20  # of base64, decoded at a time: it takes some milliseconds, in which no other thread runs
_NOT_BASE64: Final = re.compile(r"[^A-Za-z0-9+/]")


def keep_alive(value: Any) -> float | None:
    """Seconds; None: the server's default."""
    match value:
        case None:
            return None
        case bool() | list() | dict():
            raise BadRequestError(f"Unsupported type: '{_GO_TYPES[type(value)]}'")
        case _:
            return keep_alive_s(value)


def think(value: Any) -> Think:
    match value:
        case None | bool():
            return value
        case str() if value in _THINK_LEVELS:
            return value
        case str():
            raise BadRequestError(f"invalid think value: {quoted(value)} (must be {_THINK_WORDS})")
        case _:
            raise BadRequestError(f"think must be a boolean or string ({_THINK_WORDS})")


def tool_choice(value: Any) -> ToolChoice:
    """OpenAI's form: a word, or a tool by its name."""
    match value:
        case None:
            return ToolChoice()
        case "none" | "auto" | "required":
            return ToolChoice(mode=value)
        case {"type": "function", "function": {"name": str(name)}} if name:
            return ToolChoice(mode="required", name=name)
        case _:
            shown = quoted(value) if isinstance(value, str) else msgspec.json.encode(value).decode()
            wanted = '"none", "auto", "required" or {"type": "function", "function": {"name": ...}}'
            raise BadRequestError(f"invalid tool_choice: {shown}; expected {wanted}")


def choice(given: Sequence[str] | None) -> tuple[str, ...]:
    """The texts that an answer is one of. None at all would be no answer: a list that came out empty is a mistake."""
    if given is not None and not given:
        raise BadRequestError("choice is empty; give the texts that the answer may be, or leave it out")
    return tuple(given or ())


def from_base64(text: str, *, begin: int = 0) -> bytes:
    """The bytes that are written in standard base64 from there on, line breaks in it ignored, as in Go."""
    out = io.BytesIO()
    rest, at = "", 0  # what is not decoded yet, and how much has been
    for start in range(begin, len(text), _PIECE_CHARS):
        packed = rest + text[start : start + _PIECE_CHARS].replace("\r", "").replace("\n", "")
        is_last = start + _PIECE_CHARS >= len(text)
        whole = len(packed) if is_last else max(0, len(packed) - 1) // 4 * 4  # nothing stands behind the last group
        out.write(_decoded(packed[:whole], at, is_last=is_last))
        rest, at = packed[whole:], at + whole
    return out.getvalue()


def _decoded(packed: str, at: int, *, is_last: bool) -> bytes:
    cause = None
    if is_last or "=" not in packed:  # else something stands behind the end
        try:
            return binascii.a2b_base64(packed, strict_mode=True)
        except ValueError as exc:  # binascii's own error is one
            cause = exc
    wrong = _NOT_BASE64.search(packed)
    at += wrong.start() if wrong else len(packed) - len(packed) % 4
    raise BadRequestError(f"illegal base64 data at input byte {at}") from cause


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
