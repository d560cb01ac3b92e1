"""Numbers in JSON: how many digits more one may have, whatever stands around it."""

import pytest

from corral.engine.llamacpp.worker.grammar.numbers import MOST, Numbers, leading


def behind(text: str) -> Numbers:
    numbers = Numbers()
    numbers.take(text.encode())
    return numbers


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("", MOST),
        ('{"a": ', MOST),
        ("-", MOST),
        ("12", MOST - 2),
        ("[1, 23", MOST - 2),
        ("-12.", MOST),
        ("-12.345", MOST - 3),
        ("1e", 2),
        ("1.5E-", 2),
        ("1e+3", 1),
        ("1e30", 0),
        ("1e30, 4", MOST - 1),
        ("[true, 7", MOST - 1),
        ('{"n1234": 5', MOST - 1),
        ('{"a": "12345', MOST),
        (r'{"a": "\"123", "b": 9', MOST - 1),
        (r'{"a": "\\", "b": 9', MOST - 1),
        ("1" * MOST, 0),
        ("1" * (MOST + 5), 0),
    ],
)
def test_digits_that_are_left(text: str, left: int) -> None:
    assert behind(text).left == left


def test_too_many_digits_are_told_whatever_the_cuts() -> None:
    for size in (1, 3, 7, 100):
        numbers, text = Numbers(), b'{"a": "' + b"1" * 90 + b'", "b": 0.' + b"3" * MOST
        assert all(numbers.take(text[at : at + size]) for at in range(0, len(text), size))
        assert numbers.takes((b", ", b"1" * MOST))
        assert not numbers.takes((b"3",))
        assert not numbers.takes((b"}", b"1" * (MOST + 1), b"}"))
        assert numbers.left == 0


def test_what_stood_before_may_have_opened_quotes() -> None:
    numbers = Numbers('{"name": "get_')
    assert numbers.is_quoted
    assert numbers.takes((b"1" * 90 + b'", "arguments": {"n": 1',))
    assert not numbers.takes((b'", "arguments": {"n": ' + b"1" * 90,))


def test_leading_digits_of_a_token() -> None:
    assert [leading(text) for text in (b"", b"a1", b"12", b"007.5", b" 1")] == [0, 0, 2, 3, 0]
