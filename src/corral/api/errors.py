"""What every dialect needs to know of an error to word it: a status, a code, a text, and where the request is wrong."""

from typing import Final

from corral.core.errors import BadRequestError, CorralError

_INTERNAL: Final = "internal error: the server's log says more"


class FieldError(BadRequestError):
    """One value of a request is wrong. `field` is where it stands: "messages[0].content"; "" where that is not told."""

    code = "invalid_value"
    field: str = ""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


class UnsupportedFieldError(FieldError):
    """The request asks for what would change its answer, and cannot be had."""

    code = "unsupported_parameter"


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
