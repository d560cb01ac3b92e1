"""How OpenAI's API words its errors and streams: the texts are those of every dialect, around them stands more.

Source: ollama@v0.32 openai/openai.go, NewError; OpenAI's API reference, error codes.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from corral.api.dialect import Dialect
from corral.api.errors import FieldError, status_of, text_of
from corral.api.exchange import PLAIN_JSON
from corral.api.stream import event
from corral.core.errors import ContextOverflowError, UnauthorizedError
from corral.wire.openai import ErrorDetail, OpenAIError

_TYPES: Final[Mapping[int, str]] = {404: "not_found_error"}
_CODES: Final[Mapping[type[Exception], str]] = {
    ContextOverflowError: "context_length_exceeded",  # programs look for these two by their code
    UnauthorizedError: "invalid_api_key",
}


def _error(error: Exception) -> OpenAIError:
    status = status_of(error)
    field = error.field if isinstance(error, FieldError) else ""
    code = error.code if isinstance(error, FieldError) and field else _CODES.get(type(error))
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return OpenAIError(ErrorDetail(message=text_of(error), type=kind, param=field or None, code=code))


OPENAI: Final = Dialect(
    name="openai",
    package="openai",
    no_body="EOF",
    stream_type=b"text/event-stream",
    error=OpenAIError,
    body=lambda error: msgspec.json.encode(_error(error)),
    error_type=PLAIN_JSON,
    frame=lambda error: event(_error(error)),
)
