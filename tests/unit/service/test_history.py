"""Calls and their results find each other, whichever of id and name a client gives."""

import time

from corral.core.types import Message, ToolCall
from corral.service.history import linked


def assistant(*calls: ToolCall) -> Message:
    return Message(role="assistant", tool_calls=calls)


def call(name: str, call_id: str = "") -> ToolCall:
    return ToolCall(name=name, arguments={}, call_id=call_id)


def result(text: str, name: str = "", call_id: str = "") -> Message:
    return Message(role="tool", content=text, tool_name=name, tool_call_id=call_id)


def test_conversations_without_calls_stay_as_they_are() -> None:
    messages = (Message(role="user", content="hi"), Message(role="assistant", content="ho"))
    assert linked(messages) == messages


def test_results_by_name_get_the_id_of_their_call() -> None:
    messages = linked([assistant(call("a"), call("b"), call("a")), result("1", "b"), result("2", "a"), result("3", "a")])
    assert [one.call_id for one in messages[0].tool_calls] == ["call00000", "call00001", "call00002"]
    assert [one.tool_call_id for one in messages[1:]] == ["call00001", "call00000", "call00002"]


def test_results_by_id_get_the_name_of_their_tool() -> None:
    messages = linked([assistant(call("a", "x"), call("b", "y")), result("1", call_id="y"), result("2", call_id="x")])
    assert [one.tool_name for one in messages[1:]] == ["b", "a"]


def test_results_without_either_come_in_the_order_of_their_calls() -> None:
    messages = linked([assistant(call("a", "x"), call("b")), result("1"), result("2")])
    assert [(one.tool_name, one.tool_call_id) for one in messages[1:]] == [("a", "x"), ("b", "call00001")]


def test_a_result_that_nobody_asked_for_stays_as_it_is() -> None:
    messages = (assistant(call("a", "x")), result("1", call_id="z"), result("2", "c"))
    assert linked(messages) == messages


def test_ids_do_not_change_when_the_conversation_goes_on() -> None:
    turns = [assistant(call("a")), result("1"), assistant(call("b")), result("2")]
    assert linked(turns)[:2] == linked(turns[:2])


def test_each_call_is_answered_once_whatever_it_is_found_by() -> None:
    calls = assistant(call("a", "x"), call("a", "y"), call("b", "z"))
    messages = linked([calls, result("1", call_id="y"), result("2", "a"), result("3"), result("4", "a"), result("5")])
    assert [one.tool_call_id for one in messages[1:]] == ["y", "x", "z", "", ""]


def test_very_many_calls_find_their_results_soon() -> None:
    calls = [call("f", f"c{number}") for number in range(50_000)]
    results = [result("r", call_id=one.call_id) for one in reversed(calls)]
    began = time.process_time()
    messages = linked([assistant(*calls), *results])
    assert time.process_time() - began < 5.0  # a tenth of a second where it was written
    assert all(one.tool_name == "f" for one in messages[1:])
