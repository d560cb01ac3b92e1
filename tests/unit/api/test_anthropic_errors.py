"""Every error in Anthropic's shape, and its type for each status."""

import json
from collections.abc import Iterator

import pytest

import corral.core.settings
from corral.api.anthropic import ANTHROPIC
from corral.core.errors import (
    BadRequestError,
    CorralError,
    EngineCrashedError,
    ForbiddenError,
    ModelNotFoundError,
    NotSupportedError,
    QueueFullError,
    RequestTooLargeError,
    UnauthorizedError,
)
from corral.core.log import request_id

assert corral.core.settings  # its errors belong to the tree


@pytest.fixture(autouse=True)
def request_name() -> Iterator[None]:
    token = request_id.set("0123456789abcdef")
    yield
    request_id.reset(token)


def tree(kind: type[CorralError] = CorralError) -> Iterator[type[CorralError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


@pytest.mark.parametrize("kind", sorted(set(tree()), key=str))
def test_every_error_has_a_shape_and_an_event(kind: type[CorralError]) -> None:
    error = kind.__new__(kind)
    Exception.__init__(error, 'something "odd"\nhappened')
    said = json.loads(ANTHROPIC.body(error))
    assert list(said) == ["type", "error", "request_id"]
    assert (said["type"], said["error"]["message"]) == ("error", 'something "odd"\nhappened')
    assert ANTHROPIC.frame(error) == b"event: error\ndata: " + ANTHROPIC.body(error) + b"\n\n"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BadRequestError("x"), "invalid_request_error"),
        (UnauthorizedError("x"), "authentication_error"),
        (ForbiddenError("x"), "permission_error"),
        (ModelNotFoundError("x"), "not_found_error"),
        (RequestTooLargeError(9, 4), "request_too_large"),
        (QueueFullError(), "overloaded_error"),
        (EngineCrashedError(), "api_error"),
        (NotSupportedError("x"), "api_error"),
        (KeyError("/secret/path"), "api_error"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_types_follow_the_status(error: Exception, kind: str) -> None:
    said = json.loads(ANTHROPIC.body(error))
    assert said["error"]["type"] == kind
    assert "secret" not in said["error"]["message"]


def test_head_and_errors_name_the_request_as_the_log_does() -> None:
    assert json.loads(ANTHROPIC.body(BadRequestError("x")))["request_id"] == "req_0123456789abcdef"
    assert ANTHROPIC.headers() == [(b"request-id", b"req_0123456789abcdef")]
