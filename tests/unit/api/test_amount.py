import time

import pytest

from corral.api.amount import MAX_VALUES, check_amount
from corral.api.decode import RequestDecoder
from corral.api.ollama import OLLAMA
from corral.core.errors import BadRequestError
from corral.wire.ollama import EmbedRequest

LONG = b"a" * (1 << 20)


def listing(item: bytes, count: int) -> bytes:
    return b'{"model":"x","keep_alive":"' + LONG + b'","input":[' + b",".join([item] * count) + b"]}"


@pytest.mark.parametrize("item", [b'"a"', b'"\\\\"', b'"\\""', b'"\\\\\\","', b"1", b"[]", b"{}", b' "a" '])
def test_too_many_values_are_refused(item: bytes) -> None:
    with pytest.raises(BadRequestError, match=f"more than {MAX_VALUES} values"):
        check_amount(listing(item, MAX_VALUES))


@pytest.mark.parametrize("item", [b'"a"', b'"\\\\"', b'"\\\\\\",[{"', b'",,,"', b"1", b"[]"])
def test_as_many_as_are_taken_pass(item: bytes) -> None:
    check_amount(listing(item, MAX_VALUES // 2 - 10))


@pytest.mark.parametrize("text", [b",[{" * 4_000_000, b'\\",' * 4_000_000, b"\\\\," * 4_000_000])
def test_what_stands_in_texts_does_not_count(text: bytes) -> None:
    check_amount(b'{"model":"x","input":["' + text + b'"]}')


def test_a_body_of_tiny_texts_costs_no_time() -> None:
    body = b'{"model":"x","input":["a"' + b',"a"' * 20_000_000 + b"]}"
    began = time.process_time()
    with pytest.raises(BadRequestError, match="in several requests"):
        RequestDecoder(EmbedRequest, OLLAMA).decode(body)
    assert time.process_time() - began < 2.0  # a tenth of a second where it was written


@pytest.mark.parametrize("shift", range(4))
@pytest.mark.parametrize("text", [b"\\\\", b'\\"', b"\\\\,"], ids=["backslashes", "quotes", "backslashes and commas"])
def test_escapes_are_not_cut_wherever_they_stand(text: bytes, shift: int) -> None:
    whole = text * 1_500_000
    check_amount(b'{"model":"' + b"x" * shift + b'","input":["' + whole + b'"]}')
    with pytest.raises(BadRequestError, match="more than"):
        check_amount(b'{"model":"' + b"x" * shift + b'","input":["' + whole + b'"' + b",1" * MAX_VALUES + b"]}")
