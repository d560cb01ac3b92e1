"""How Ollama's own API words its errors and streams."""

from typing import Final

import msgspec

from corral.api.dialect import Dialect
from corral.api.errors import text_of
from corral.api.exchange import JSON
from corral.api.stream import line
from corral.wire.ollama import ErrorResponse


def _body(error: Exception) -> bytes:
    return msgspec.json.encode(ErrorResponse(error=text_of(error)))


def _frame(error: Exception) -> bytes:
    return line(ErrorResponse(error=text_of(error)))


OLLAMA: Final = Dialect(
    name="ollama",
    package="api",
    no_body="missing request body",
    stream_type=b"application/x-ndjson",
    error=ErrorResponse,
    body=_body,
    error_type=JSON,
    frame=_frame,
)
