"""What is kept of responses: for how long, how much of it, and what conversations share."""

import pytest

from corral.api.errors import FieldError
from corral.api.openai.responses.held import HeldResponses, PreviousResponseError
from corral.core.errors import NotFoundError
from corral.wire.responses import InputItem, InputPart
from tests.support.clock import FakeClock

BODY = b"{}"
ONE, TWO = (f"msg_{digit * 32}" for digit in "12")  # ids as the server makes them


def item(text: str, item_id: str = "") -> InputItem:
    return InputItem(type="message", role="user", content=text, id=item_id or None)


def test_a_conversation_is_kept_with_its_items() -> None:
    held = HeldResponses(clock=FakeClock())
    said = item("a", ONE)
    held.keep("r", BODY, [said])
    assert held.conversation("r") == (said,)
    assert held.body("r") == BODY
    assert held.item(ONE, "input[0]") is said


def test_what_is_not_there_is_said_in_the_words_of_its_place() -> None:
    held = HeldResponses(clock=FakeClock())
    with pytest.raises(PreviousResponseError, match="Previous response with id 'r' not found") as previous:
        held.conversation("r")
    assert (previous.value.field, previous.value.code) == ("previous_response_id", "previous_response_not_found")
    for look in (held.body, held.delete):
        with pytest.raises(NotFoundError, match="'r'"):
            look("r")
    with pytest.raises(FieldError, match=r"Item with id 'msg_1{32}' not found") as named:
        held.item(ONE, "input[3]")
    assert named.value.field == "input[3].id"


def test_a_response_expires_when_nobody_used_it_for_long() -> None:
    clock = FakeClock()
    held = HeldResponses(clock=clock, life_s=100)
    held.keep("a", BODY, [item("a", ONE)])
    clock.advance(60)
    held.keep("b", BODY, [item("b")])
    held.conversation("a")
    clock.advance(99)
    assert held.body("a") == BODY
    clock.advance(1)
    with pytest.raises(NotFoundError):
        held.body("b")
    assert held.conversation("a")
    clock.advance(100)
    assert held.size_bytes == 0
    with pytest.raises(FieldError):
        held.item(ONE, "input[0]")


def test_what_is_kept_has_a_bound_and_the_oldest_goes_first() -> None:
    held = HeldResponses(clock=FakeClock(), max_bytes=10_500)
    for name in "abcd":
        held.keep(name, BODY, [item(name * 1_000)])
    held.body("a")
    held.keep("e", BODY, [item("e" * 1_000)])
    assert held.size_bytes <= 10_500
    assert held.body("a") == BODY
    with pytest.raises(NotFoundError):
        held.body("b")
    before = held.size_bytes
    held.keep("huge", BODY, [item("x" * 10_500)])  # drives nobody out
    assert held.size_bytes == before
    with pytest.raises(NotFoundError):
        held.body("huge")


def test_items_are_found_by_ids_of_the_servers_making_alone() -> None:
    held = HeldResponses(clock=FakeClock())
    held.keep("r", BODY, [item("a", "msg_mine")])
    with pytest.raises(FieldError):
        held.item("msg_mine", "input[0]")


def test_an_item_that_was_sent_again_is_found_as_long_as_one_of_them_is_kept() -> None:
    held = HeldResponses(clock=FakeClock())
    first, again = item("a", ONE), item("a", ONE)
    held.keep("r", BODY, [first])
    held.keep("s", BODY, [again])
    held.delete("s")
    assert held.item(ONE, "input[0]") is first
    held.delete("r")
    with pytest.raises(FieldError):
        held.item(ONE, "input[0]")


def test_what_conversations_share_counts_once_and_outlives_the_first_of_them() -> None:
    held = HeldResponses(clock=FakeClock())
    first, second = item("a" * 1_000, ONE), item("b" * 1_000, TWO)
    held.keep("a", BODY, [first])
    alone_bytes = held.size_bytes
    held.keep("b", BODY, [first, second])
    assert held.size_bytes < 2 * alone_bytes + 50  # a pointer more
    held.delete("a")
    assert held.item(ONE, "input[0]") is first
    held.delete("b")
    assert held.size_bytes == 0


def test_an_item_that_came_twice_is_named_as_long_as_one_is_there() -> None:
    held = HeldResponses(clock=FakeClock())
    held.keep("a", BODY, [item("a", ONE)])
    held.keep("b", BODY, [item("a", ONE)])
    held.delete("a")
    assert held.item(ONE, "input[0]").content == "a"


def test_many_small_items_count_for_the_memory_that_they_take() -> None:
    held = HeldResponses(clock=FakeClock())
    held.keep("r", BODY, [item(str(number)) for number in range(1_000)])
    assert held.size_bytes > 300_000  # written as JSON they have 50,000


def test_conversations_that_share_all_their_items_count_for_naming_them() -> None:
    held = HeldResponses(clock=FakeClock())
    said = [item(str(number)) for number in range(1_000)]
    held.keep("a", BODY, said)
    before = held.size_bytes
    held.keep("b", BODY, said)
    assert held.size_bytes - before > 8_000
    held.delete("a")
    held.delete("b")
    assert held.size_bytes == 0


def test_what_an_item_is_made_of_counts() -> None:
    held = HeldResponses(clock=FakeClock())
    parts = [InputPart(type="input_text", text="x" * 100_000)]
    held.keep(
        "r", BODY, [InputItem(role="user", content=parts), InputItem(type="function_call", arguments={"a": "y" * 50_000})]
    )
    assert held.size_bytes > 150_000
