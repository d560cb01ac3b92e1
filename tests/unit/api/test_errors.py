import json
from collections.abc import Iterator

import pytest

import corral.core.errors
import corral.core.settings
from corral.api.dialect import Dialect
from corral.api.errors import FieldError, UnsupportedFieldError, code_of, retry_after_s, status_of
from corral.api.ollama import OLLAMA
from corral.api.openai import OPENAI
from corral.core.errors import (
    BadRequestError,
    ContextOverflowError,
    CorralError,
    ModelNotFoundError,
    QueueFullError,
    RequestCanceledError,
    UnauthorizedError,
)

assert corral.core.settings  # its errors belong to the tree


def tree(kind: type[CorralError] = CorralError) -> Iterator[type[CorralError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


@pytest.mark.parametrize("dialect", [OLLAMA, OPENAI], ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("kind", sorted(set(tree()), key=str))
def test_every_error_has_an_answer_in_every_dialect(kind: type[CorralError], dialect: Dialect) -> None:
    error = kind.__new__(kind)
    Exception.__init__(error, 'something "odd"\nhappened')
    assert 400 <= status_of(error) < 600
    assert code_of(error)
    said = json.loads(dialect.body(error))["error"]
    assert (said if dialect is OLLAMA else said["message"]) == 'something "odd"\nhappened'
    head, tail = (b"", b"\n") if dialect is OLLAMA else (b"data: ", b"\n\n")
    assert dialect.frame(error) == head + dialect.body(error) + tail


@pytest.mark.parametrize(
    ("error", "kind", "param", "code"),
    [
        (BadRequestError("x"), "invalid_request_error", None, None),
        (FieldError("a.b", "x"), "invalid_request_error", "a.b", "invalid_value"),
        (FieldError("", "x"), "invalid_request_error", None, None),
        (UnsupportedFieldError("a", "x"), "invalid_request_error", "a", "unsupported_parameter"),
        (ContextOverflowError(9, 4), "invalid_request_error", None, "context_length_exceeded"),
        (UnauthorizedError("x"), "invalid_request_error", None, "invalid_api_key"),
        (ModelNotFoundError("x"), "not_found_error", None, None),
        (QueueFullError(), "api_error", None, None),
        (KeyError("/secret/path"), "api_error", None, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_openai_says_what_kind_of_error_it_is(error: Exception, kind: str, param: str | None, code: str | None) -> None:
    said = json.loads(OPENAI.body(error))["error"]
    assert list(said) == ["message", "type", "param", "code"]
    assert (said["type"], said["param"], said["code"]) == (kind, param, code)
    assert "secret" not in said["message"]


def test_our_own_mistakes_show_nothing_of_the_inside() -> None:
    error = KeyError("/secret/path")
    assert status_of(error) == 500
    assert b"secret" not in OLLAMA.body(error)
    assert b"internal error" in OLLAMA.body(error)


def test_texts_are_ollamas() -> None:
    assert OLLAMA.body(ModelNotFoundError("nope")) == b"""{"error":"model 'nope' not found"}"""
    assert OLLAMA.body(BadRequestError('x "y"')) == rb'{"error":"x \"y\""}'


def test_only_a_full_queue_says_when_to_try_again() -> None:
    assert retry_after_s(QueueFullError()) == 1
    assert retry_after_s(RequestCanceledError()) == 0
    assert retry_after_s(ValueError()) == 0
