"""The events of answers as items of a response: in which order they come, how each begins and ends, and what is kept."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from corral.api.exchange import Endpoint
from corral.api.openai import OPENAI
from corral.api.openai.responses import HeldResponses, responses
from corral.core.errors import CapabilityError, EngineCrashedError, QueueFullError
from corral.core.types import TokenLogprob, ToolCall
from corral.service.requests import CallPart, Delta, Done, Truncation
from tests.support.asgi import Call, ask
from tests.support.clock import FakeClock
from tests.support.scripted_inference import Scripted

DONE = Done(
    reason="stop",
    total_ns=9,
    load_ns=1,
    prompt_tokens=5,
    cached_tokens=2,
    prompt_ns=2,
    eval_tokens=3,
    thought_tokens=1,
    eval_ns=4,
)
CUT = replace(DONE, reason="length")
CALL = ToolCall(name="f", arguments={"b": 1}, call_id="call_1")
SPACE = {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f"}]}


async def responded(script: Scripted, held: HeldResponses | None = None, call: Call | None = None, **body: Any) -> Call:
    given = {"model": "m", "input": "hi"} | body
    endpoint = Endpoint(responses(script, held or HeldResponses(clock=FakeClock())), OPENAI)
    return await ask(endpoint, body=json.dumps(given).encode(), call=call)


def events(call: Call) -> list[Any]:
    """What the events carry. Their numbers rise, each says its name twice, and the last of them is an end."""
    *blocks, rest = call.data.decode().split("\n\n")
    assert rest == ""
    named = [block.removeprefix("event: ").split("\ndata: ") for block in blocks]
    said = [json.loads(data) for _, data in named]
    assert [one["type"] for one in said] == [name for name, _ in named]
    assert [one["sequence_number"] for one in said] == list(range(len(said)))
    assert said[-1]["type"] in ("response.completed", "response.incomplete", "response.failed")
    return said


def told(call: Call) -> list[str]:
    """The events between the first two and the last one, in a word or two."""
    return [one["type"].removeprefix("response.") for one in events(call)[2:-1]]


MESSAGE = ["output_item.added", "content_part.added"], ["output_text.done", "content_part.done", "output_item.done"]
THOUGHT = ["output_item.added"], ["reasoning_summary_text.done", "output_item.done"]
FUNCTION = ["output_item.added"], ["function_call_arguments.done", "output_item.done"]


def item(kind: tuple[list[str], list[str]], *deltas: str) -> list[str]:
    return [*kind[0], *deltas, *kind[1]]


async def test_items_come_one_after_another() -> None:
    script = Scripted(
        Delta(thinking="h"),
        Delta(thinking="m", content="I"),
        Delta(content=" look.", tool_calls=(CALL,)),
        Delta(content="So."),
        DONE,
    )
    call = await responded(script, stream=True)
    assert call.headers["content-type"] == "text/event-stream"
    assert told(call) == [
        *item(THOUGHT, *["reasoning_summary_text.delta"] * 2),
        *item(MESSAGE, *["output_text.delta"] * 2),
        *item(FUNCTION, "function_call_arguments.delta"),
        *item(MESSAGE, "output_text.delta"),
    ]
    said = events(call)
    assert [one["output_index"] for one in said if one["type"] == "response.output_item.done"] == [0, 1, 2, 3]
    last = said[-1]["response"]
    assert [made["type"] for made in last["output"]] == ["reasoning", "message", "function_call", "message"]
    assert last["output"] == [one["item"] for one in said if one["type"] == "response.output_item.done"]
    assert len({made["id"] for made in last["output"]}) == 4
    assert all(one["response"]["output"] == [] for one in said[:2])
    assert last["usage"] == {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 8,
    }


async def test_a_stream_and_one_object_say_the_same() -> None:
    parts = (
        Delta(thinking="hm"),
        Delta(content="I look.\n"),
        Delta(call_parts=(CallPart(index=0, call_id="call_1", name="f", text='{"b":'),)),
        Delta(call_parts=(CallPart(index=0, call_id="call_1", text="1}"),), tool_calls=(CALL,)),
        DONE,
    )
    streamed = events(await responded(Scripted(*parts), stream=True))[-1]["response"]
    whole = json.loads((await responded(Scripted(*parts))).data)
    for response in (streamed, whole):
        for name in ("id", "created_at", "completed_at"):
            del response[name]
        for made in response["output"]:
            del made["id"]
    assert streamed == whole
    assert whole["output"][-1]["arguments"] == '{"b":1}'


async def test_parts_of_a_call_are_told_as_they_come() -> None:
    script = Scripted(
        Delta(call_parts=(CallPart(index=0, call_id="call_1", name="f"),)),
        Delta(call_parts=(CallPart(index=0, call_id="call_1", text='{"b":'),)),
        Delta(call_parts=(CallPart(index=0, call_id="call_1", text="1}"),)),
        Delta(tool_calls=(CALL,)),
        DONE,
    )
    call = await responded(script, stream=True)
    assert told(call) == item(FUNCTION, *["function_call_arguments.delta"] * 2)
    said = events(call)
    added = said[2]["item"]
    assert (added["call_id"], added["name"], added["arguments"], added["status"]) == ("call_1", "f", "", "in_progress")
    assert [one["delta"] for one in said if one["type"].endswith("delta")] == ['{"b":', "1}"]


async def test_a_call_that_is_none_after_all_is_never_said_to_be_done() -> None:
    part = CallPart(index=0, call_id="call_1", name="f", text='{"b":')
    for script in ((Delta(call_parts=(part,)), Delta(content="none"), DONE), (Delta(call_parts=(part,)), CUT)):
        call = await responded(Scripted(*script), stream=True)
        assert "function_call_arguments.done" not in told(call)
        (made,) = [made for made in events(call)[-1]["response"]["output"] if made["type"] == "function_call"]
        assert (made["status"], made["arguments"]) == ("incomplete", '{"b":')


async def test_a_function_of_a_namespace_has_its_two_names_again() -> None:
    script = Scripted(Delta(tool_calls=(replace_name(CALL, "n__f"),)), DONE)
    whole = json.loads((await responded(script, tools=[SPACE])).data)
    assert (whole["output"][0]["name"], whole["output"][0]["namespace"]) == ("f", "n")
    assert whole["tools"] == [SPACE]


def replace_name(call: ToolCall, name: str) -> ToolCall:
    return ToolCall(name=name, arguments=call.arguments, call_id=call.call_id)


@pytest.mark.parametrize(
    ("script", "status", "kinds"),
    [
        ((DONE,), "completed", [("message", "completed")]),
        ((Delta(thinking="hm"), DONE), "completed", [("reasoning", None), ("message", "completed")]),
        ((Delta(tool_calls=(CALL,)), DONE), "completed", [("function_call", "completed")]),
        ((CUT,), "incomplete", []),
        ((Delta(thinking="hm"), CUT), "incomplete", [("reasoning", None)]),
        ((Delta(content="a"), CUT), "incomplete", [("message", "incomplete")]),
        (
            (Delta(content="a"), Delta(tool_calls=(CALL,)), CUT),
            "incomplete",
            [("message", "completed"), ("function_call", "completed")],
        ),
    ],
    ids=["nothing", "a thought", "a call", "nothing, cut", "a thought, cut", "text, cut", "a call, cut behind it"],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_how_an_answer_ends(script: tuple[Any, ...], status: str, kinds: list[Any], stream: bool) -> None:
    call = await responded(Scripted(*script), stream=stream)
    whole = events(call)[-1]["response"] if stream else json.loads(call.data)
    assert [(made["type"], made.get("status")) for made in whole["output"]] == kinds
    assert whole["status"] == status
    assert whole["incomplete_details"] == ({"reason": "max_output_tokens"} if status == "incomplete" else None)
    assert (whole["completed_at"] is None) == (status == "incomplete")
    if stream:
        assert events(call)[-1]["type"] == f"response.{status}"


async def test_logprobs_wait_for_their_text() -> None:
    a, b = TokenLogprob(b"a", -0.5), TokenLogprob(b"b", -0.25)
    script = Scripted(Delta(logprobs=(a,)), Delta(content="ab", logprobs=(b,)), Delta(content="c"), DONE)
    said = events(await responded(script, stream=True, top_logprobs=1))
    deltas = [one for one in said if one["type"].endswith("output_text.delta")]
    assert [[token["token"] for token in one["logprobs"]] for one in deltas] == [["a", "b"], []]
    (message,) = said[-1]["response"]["output"]
    assert [token["logprob"] for token in message["content"][0]["logprobs"]] == [-0.5, -0.25]


async def test_logprobs_of_thoughts_and_calls_are_left_out() -> None:
    a = TokenLogprob(b"a", -0.5)
    script = Scripted(Delta(logprobs=(a,)), Delta(thinking="hm", logprobs=(a,)), Delta(content="b"), DONE)
    said = events(await responded(script, stream=True, top_logprobs=1))
    assert [one["logprobs"] for one in said if one["type"].endswith("output_text.delta")] == [[]]


# Ends before the end


async def test_a_failure_in_mid_stream_is_its_last_event() -> None:
    script = Scripted(Delta(thinking="hm"), Delta(content="a"), EngineCrashedError(mid_answer=True))
    call = await responded(script, stream=True)
    assert (call.status, call.is_over) == (200, True)
    last = events(call)[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["error"] == {
        "code": "server_error",
        "message": "an error was encountered while running the model: unexpected EOF",
    }
    assert [(made["type"], made.get("status")) for made in last["response"]["output"]] == [
        ("reasoning", None),
        ("message", "incomplete"),
    ]


async def test_what_our_own_mistakes_are_is_not_told() -> None:
    call = await responded(Scripted(Delta(content="a"), KeyError("/secret")), stream=True)
    assert events(call)[-1]["response"]["status"] == "failed"
    assert b"secret" not in call.data


@pytest.mark.parametrize("stream", [True, False])
async def test_what_is_refused_before_the_first_event_has_its_status(stream: bool) -> None:
    call = await responded(Scripted(refusal=CapabilityError('"m" does not support tools')), stream=stream)
    assert (call.status, call.headers["content-type"]) == (400, "application/json")
    call = await responded(Scripted(refusal=QueueFullError()), stream=stream)
    assert (call.status, call.headers["retry-after"]) == (503, "1")


async def test_a_client_that_leaves_ends_the_answer_and_nothing_is_kept() -> None:
    script, call, held = Scripted(Delta(content="a"), asyncio.Event()), Call(), HeldResponses(clock=FakeClock())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(responded(script, held, call, stream=True))
        await call.has_answer.wait()
        call.leave()
    assert (script.open, held.size_bytes) == (0, 0)


# What is kept


@pytest.mark.parametrize("stream", [True, False])
async def test_a_response_is_kept_unless_the_request_says_otherwise(stream: bool) -> None:
    held = HeldResponses(clock=FakeClock())
    call = await responded(Scripted(Delta(content="a"), DONE), held, stream=stream)
    whole = events(call)[-1]["response"] if stream else json.loads(call.data)
    assert json.loads(held.body(whole["id"])) == whole
    user, assistant = held.conversation(whole["id"])
    assert (user.role, user.content, assistant.role, assistant.id) == ("user", "hi", "assistant", whole["output"][0]["id"])
    size_bytes = held.size_bytes
    await responded(Scripted(Delta(content="a"), DONE), held, stream=stream, store=False)
    await responded(Scripted(Delta(content="a"), EngineCrashedError(mid_answer=True)), held, stream=stream)
    assert held.size_bytes == size_bytes


async def test_a_conversation_goes_on() -> None:
    held, script = HeldResponses(clock=FakeClock()), Scripted(Delta(content="a"), DONE)
    first = json.loads((await responded(script, held, instructions="Old.")).data)
    second = json.loads((await responded(script, held, previous_response_id=first["id"], input="more")).data)
    await responded(script, held, previous_response_id=second["id"], input=None)
    said = [[(message.role, message.content) for message in request.messages] for request in script.requests]  # type: ignore[union-attr]  # chats alone
    turns = [("user", "hi"), ("assistant", "a"), ("user", "more"), ("assistant", "a")]
    assert said == [[("system", "Old."), turns[0]], turns[:3], turns]
    assert second["previous_response_id"] == first["id"]


async def test_a_cut_conversation_says_so() -> None:
    cut = Truncation(prompt_tokens_total=900, dropped_messages=3)
    script = Scripted(Delta(content="a", truncation=cut), replace(DONE, truncation=cut))
    call = await responded(script, truncation="auto")
    whole = json.loads(call.data)
    assert (whole["truncated"], whole["prompt_tokens_total"], whole["dropped_messages"]) == (True, 900, 3)
    assert call.headers["x-context-truncated"] == "dropped_messages=3, prompt_tokens_total=900"


async def test_no_input_is_refused() -> None:
    nothing: tuple[Any, ...] = (None, [])
    for given in nothing:
        call = await responded(Scripted(), input=given)
        assert (call.status, json.loads(call.data)["error"]["param"]) == (400, "input")
    assert json.loads((await responded(Scripted(DONE), input="")).data)["status"] == "completed"


async def test_what_a_request_says_is_told_again() -> None:
    said: dict[str, Any] = {
        "instructions": "Be brief.",
        "temperature": 0.5,
        "top_p": 0.25,
        "presence_penalty": 1,
        "max_output_tokens": 9,
        "max_tool_calls": 2,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "store": True,
        "text": {
            "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True},
            "verbosity": "low",
        },
        "tools": [{"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}],
        "tool_choice": {"type": "function", "name": "f"},
        "top_logprobs": 2,
        "truncation": "auto",
    }
    whole = json.loads((await responded(Scripted(DONE), **said, reasoning={"effort": "low"}, service_tier="flex")).data)
    assert {name: whole[name] for name in said} == said
    assert whole["reasoning"] == {"effort": "low", "summary": None}
    assert (whole["service_tier"], whole["background"]) == ("flex", False)
