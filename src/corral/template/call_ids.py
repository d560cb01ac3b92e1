"""Ids of tool calls, for templates that take only some: Mistral's want nine letters and digits. Pure."""

import re
from hashlib import sha256
from typing import Final

from msgspec.structs import replace

from corral.core.types import Message

_WANTED: Final = re.compile(r"\bid\b'?\]?\s*\|\s*length\s*!=\s*(\d{1,2})\b|_id'?\]?\s*\|\s*length\s*!=\s*(\d{1,2})\b")
_LETTERS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def wanted_chars(source: str) -> int:
    """How many characters the template insists on; 0 where it takes any id.

    >>> wanted_chars("{%- if tool_call.id is not string or tool_call.id|length != 9 %}")
    9
    """
    found = _WANTED.search(source)
    return int(found[1] or found[2]) if found else 0


def fitting(call_id: str, chars: int) -> str:
    """The id itself if it has that many letters and digits, else one made of it, always the same. An empty one stays empty."""
    if not call_id or (len(call_id) == chars and call_id.isascii() and call_id.isalnum()):
        return call_id
    number = int.from_bytes(sha256(call_id.encode()).digest(), "big")
    letters: list[str] = []
    for _ in range(chars):
        number, digit = divmod(number, len(_LETTERS))
        letters.append(_LETTERS[digit])
    return "".join(letters)


def with_fitting_ids(message: Message, chars: int) -> Message:
    """The message with ids that the template takes."""
    if not message.tool_calls and not message.tool_call_id:
        return message
    calls = tuple(replace(call, call_id=fitting(call.call_id, chars)) for call in message.tool_calls)
    return replace(message, tool_calls=calls, tool_call_id=fitting(message.tool_call_id, chars))
