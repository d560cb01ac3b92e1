import json
from collections.abc import Iterator

import pytest

import corral.core.errors
import corral.core.settings
from corral.api.errors import OLLAMA, Dialect, code_of, retry_after_s, status_of
from corral.core.errors import BadRequestError, CorralError, ModelNotFoundError, QueueFullError, RequestCanceledError

assert corral.core.settings  # its errors belong to the tree


def tree(kind: type[CorralError] = CorralError) -> Iterator[type[CorralError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


@pytest.mark.parametrize("dialect", [OLLAMA], ids=[OLLAMA.name])
@pytest.mark.parametrize("kind", sorted(set(tree()), key=str))
def test_every_error_has_an_answer_in_every_dialect(kind: type[CorralError], dialect: Dialect) -> None:
    error = kind.__new__(kind)
    Exception.__init__(error, 'something "odd"\nhappened')
    assert 400 <= status_of(error) < 600
    assert code_of(error)
    assert json.loads(dialect.body(error)) == {"error": 'something "odd"\nhappened'}
    assert dialect.frame(error) == dialect.body(error) + b"\n"


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
