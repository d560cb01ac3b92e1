"""A client is known by its address, and by what names it there; nothing of a name can be read from it."""

import pytest

from corral.api.clients import client_of, named, priority_of
from corral.api.errors import FieldError

KEY = (b"authorization", b"Bearer secret")


def test_client_without_a_name_is_its_address() -> None:
    assert client_of("127.0.0.1", [(b"accept", b"*/*"), (b"authorization", b"")]) == "127.0.0.1"


@pytest.mark.parametrize("header", [KEY, (b"x-api-key", b"secret"), (b"x-client-id", b"secret")], ids=lambda h: h[0].decode())
def test_header_names_a_client_and_shows_nothing_of_itself(header: tuple[bytes, bytes]) -> None:
    client = client_of("127.0.0.1", [header])
    assert client == client_of("127.0.0.1", [(b"accept", b"*/*"), header])
    assert client not in ("127.0.0.1", client_of("127.0.0.1", [(header[0], b"other")]), client_of("10.0.0.1", [header]))
    assert "secret" not in client
    assert "127" not in client


def test_own_header_goes_before_the_key() -> None:
    mine = (b"x-client-id", b"me")
    assert client_of("a", [KEY, mine]) == client_of("a", [mine, (b"authorization", b"Bearer other")])


def test_name_in_the_request_goes_before_all_else_and_the_first_one_counts() -> None:
    assert named("a") == named("a", None, "") == "a"
    assert named("a", "me", "you") == named("a", None, "me") != named("a", "you")
    assert named("a", "\ud800") != "a"


@pytest.mark.parametrize(("given", "priority"), [(None, 0), (0, 0), (-5, -5), (2**31 - 1, 2**31 - 1)])
def test_priority_is_any_number_of_32_bits(given: int | None, priority: int) -> None:
    assert priority_of(given) == priority


@pytest.mark.parametrize("given", [2**31, -(2**31) - 1, 10**30])
def test_priority_out_of_range_is_refused(given: int) -> None:
    with pytest.raises(FieldError, match=f"priority is {given}; it must be a number of 32 bits"):
        priority_of(given)
