"""llama.cpp's GBNF as llguidance's Lark. Pure; any thread may use it, for it may take a second."""

import re
from typing import Final

from llguidance.gbnf_to_lark import gbnf_to_lark

from corral.core.errors import BadRequestError

_MOST_BYTES: Final = 256 << 10
_MOST_RULES: Final = 1000  # the conversion takes time by the square of them
_ESCAPE: Final = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|.)", re.DOTALL)
_MOST_REASON: Final = 300
_RULE: Final = "::="
_LAST_CHARACTER: Final = 0x10FFFF
_SURROGATES: Final = range(0xD800, 0xE000)


def lark_of(text: str) -> str:
    """Raises BadRequestError with what is wrong with the text and where."""
    if len(text.encode("utf-8", "replace")) > _MOST_BYTES or text.count(_RULE) > _MOST_RULES:
        raise BadRequestError(f"the grammar is too large; GBNF may have {_MOST_RULES} rules in {_MOST_BYTES >> 10} KB")
    try:
        return gbnf_to_lark(_ESCAPE.sub(_character, text))
    except BadRequestError:
        raise
    except RecursionError as exc:
        raise BadRequestError("the grammar cannot be used: it is nested too deeply") from exc
    except Exception as exc:  # the converter raises bare ones, and an IndexError at an early end
        reason = str(exc) if not isinstance(exc, LookupError) else "it ends too early"
        raise BadRequestError(f"the grammar cannot be used: {reason[:_MOST_REASON]}") from exc


def _character(escape: re.Match[str]) -> str:
    """The character itself where no syntax has a use for it: the converter knows no others than those below 128 by number."""
    digits = escape[1] or escape[2] or escape[3]
    if not digits:
        return escape[0]
    number = int(digits, 16)
    if number < 0x80:
        return f"\\x{number:02x}"
    if number > _LAST_CHARACTER or number in _SURROGATES:
        raise BadRequestError(f"the grammar cannot be used: {escape[0]} is no character")
    return chr(number)
