"""From an error to what the client reads, for each dialect: a status and a body before the first byte, a frame after it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from corral.api.stream import line
from corral.core.errors import CorralError
from corral.wire.ollama import ErrorResponse

_INTERNAL: Final = "internal error: the server's log says more"


def status_of(error: Exception) -> int:
    """The HTTP status. Anything that is no CorralError is our own mistake: 500."""
    return error.status if isinstance(error, CorralError) else 500


def code_of(error: Exception) -> str:
    """A short stable word for the kind of error, for logs."""
    return error.code if isinstance(error, CorralError) else CorralError.code


def retry_after_s(error: Exception) -> int:
    """When it is worth trying again, in seconds; 0: nobody knows."""
    return error.retry_after_s if isinstance(error, CorralError) else 0


def text_of(error: Exception) -> str:
    """What the user reads. Of our own mistakes nothing but their kind is shown."""
    return str(error) if isinstance(error, CorralError) else f"{_INTERNAL} ({type(error).__name__})"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How an API words its errors: the body of an answer, and the last frame of a stream that has begun."""

    name: str
    body: Callable[[Exception], bytes]
    frame: Callable[[Exception], bytes]


def _ollama_body(error: Exception) -> bytes:
    return msgspec.json.encode(ErrorResponse(error=text_of(error)))


def _ollama_frame(error: Exception) -> bytes:
    return line(ErrorResponse(error=text_of(error)))


OLLAMA: Final = Dialect("ollama", body=_ollama_body, frame=_ollama_frame)
