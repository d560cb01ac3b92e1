"""How Anthropic's API words its errors and streams: the texts are those of every dialect, around them stands more.

Source: ollama@v0.32 anthropic/anthropic.go, NewError; Anthropic's API reference, Errors.
"""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import uuid4

import msgspec

from corral.api.dialect import Dialect
from corral.api.errors import status_of, text_of
from corral.api.exchange import PLAIN_JSON
from corral.api.stream import named_event
from corral.core.log import request_id
from corral.wire.anthropic import AnthropicError, AnthropicErrorDetail

_TYPES: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


def _name() -> str:
    """What this request is called: in its answer's head, in its errors, and without the first letters in the log."""
    return f"req_{request_id.get() or uuid4().hex[:16]}"


def _error(error: Exception) -> AnthropicError:
    kind = _TYPES.get(status_of(error), "api_error")
    return AnthropicError(error=AnthropicErrorDetail(type=kind, message=text_of(error)), request_id=_name())


def _headers() -> Sequence[tuple[bytes, bytes]]:
    return [(b"request-id", _name().encode())]


ANTHROPIC: Final = Dialect(
    name="anthropic",
    package="anthropic",
    no_body="EOF",
    stream_type=b"text/event-stream",
    error=AnthropicError,
    body=lambda error: msgspec.json.encode(_error(error)),
    error_type=PLAIN_JSON,
    frame=lambda error: named_event("error", _error(error)),
    headers=_headers,
)
