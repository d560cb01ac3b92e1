"""How a schema is refused: with what the request calls it, the place in it, and what is wrong there."""

import reprlib
from typing import Any, Final

from corral.core.errors import BadRequestError

_MAX_CHARS: Final = 80  # of a value that is shown
_BRIEF: Final = reprlib.Repr()  # however deep or long a value is
_BRIEF.maxstring = _BRIEF.maxother = _BRIEF.maxlong = _MAX_CHARS


class UnenforceableError(BadRequestError):
    """The schema is a good one, but answers cannot be held to it."""

    code = "schema_not_supported"


def shown(value: Any) -> str:
    """A value for a message, cut where it is long."""
    text = f'"{value}"' if isinstance(value, str) else _BRIEF.repr(value)
    return text if len(text) <= _MAX_CHARS else text[: _MAX_CHARS - 1] + "…"
