"""The events of answers as Anthropic's blocks: what is sent for each event, in what order, and what is told at the end."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from corral.api.anthropic import ANTHROPIC, answers, count
from corral.api.exchange import Endpoint
from corral.core.errors import CapabilityError, EngineCrashedError, QueueFullError
from corral.core.types import ToolCall
from corral.service.requests import CallPart, ChatRequest, Delta, Done, Event, Rendered, Started, Truncation
from corral.service.tokens import Detokenized, DetokenizeRequest, Tokenized, TokenizeRequest
from tests.support.asgi import Call, ask
from tests.support.scripted_inference import Scripted

START = Started(prompt_tokens=5, cached_tokens=2)
DONE = Done(reason="stop", total_ns=9, load_ns=1, prompt_tokens=5, cached_tokens=2, prompt_ns=2, eval_tokens=3, eval_ns=4)
USED = {"input_tokens": 5, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 3}
BEGUN = USED | {"output_tokens": 0}
HI = [{"role": "user", "content": "hi"}]
CALL = ToolCall(name="f", arguments={"b": 1, "a": [2]}, call_id="call_1")
OTHER = ToolCall(name="g", arguments={}, call_id="call_2", index=1)
TOOLS = [{"name": "f", "input_schema": {}}]


async def asked(script: Scripted, call: Call | None = None, **body: Any) -> Call:
    given = {"model": "m", "max_tokens": 9, "messages": HI} | body
    return await ask(Endpoint(answers.messages(script), ANTHROPIC), body=json.dumps(given).encode(), call=call)


async def streamed(*script: Event | Exception, **body: Any) -> list[Any]:
    return events(await asked(Scripted(START, *script), stream=True, **body))


async def whole(*script: Event, **body: Any) -> Any:
    call = await asked(Scripted(START, *script), **body)
    assert (call.status, call.headers["content-type"]) == (200, "application/json")
    return json.loads(call.data)


def events(call: Call) -> list[Any]:
    """What the events carry; each is named as what it carries says."""
    *said, rest = call.data.decode().split("\n\n")
    assert rest == ""
    out = []
    for one in said:
        name, data = one.split("\n")
        out.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {out[-1]['type']}"
    return out


def short(events: list[Any]) -> list[str]:
    """Events in a word each, with their blocks' numbers."""
    names = {"content_block_start": "start", "content_block_delta": "delta", "content_block_stop": "stop"}
    return [f"{names.get(one['type'], one['type'])} {one.get('index', '')}".strip() for one in events]


async def test_a_text_is_one_block() -> None:
    call = await asked(Scripted(START, Delta(content="Hel"), Delta(content="lo"), Delta(content="!"), DONE), stream=True)
    assert call.headers["content-type"] == "text/event-stream"
    start, *said = events(call)
    message_id = start["message"].pop("id")
    assert message_id.startswith("msg_")
    assert len(message_id) == 28
    assert start == {
        "type": "message_start",
        "message": {
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": BEGUN,
        },
    }
    assert said == [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
            for text in ("Hel", "lo", "!")
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": USED},
        {"type": "message_stop"},
    ]


async def test_a_thought_is_a_block_before_the_text() -> None:
    said = await streamed(Delta(thinking="h"), Delta(thinking="m"), Delta(content="A"), Delta(content="B"), DONE)
    assert said[1:8] == [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "h"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "m"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "A"}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "B"}},
    ]


@pytest.mark.parametrize(
    "script",
    [
        (Delta(thinking="hm"), Delta(content="A"), Delta(tool_calls=(CALL,)), Delta(tool_calls=(OTHER,)), Delta(content="B")),
        (Delta(thinking="hm", content="A", tool_calls=(CALL, OTHER)), Delta(content="B")),
    ],
    ids=["one by one", "at once"],
)
async def test_blocks_come_in_the_order_of_the_answer(script: tuple[Delta, ...]) -> None:
    said = await streamed(*script, DONE, tools=TOOLS)
    signature = "delta 0"
    assert short(said) == [
        "message_start",
        *("start 0", "delta 0", signature, "stop 0"),
        *(f"{what} {index}" for index in (1, 2, 3, 4) for what in ("start", "delta", "stop")),
        "message_delta",
        "message_stop",
    ]
    assert said[3]["delta"] == {"type": "signature_delta", "signature": "Y29ycmFs"}
    assert said[8:11] == [
        {
            "type": "content_block_start",
            "index": 2,
            "content_block": {"type": "tool_use", "id": "call_1", "name": "f", "input": {}},
        },
        {
            "type": "content_block_delta",
            "index": 2,
            "delta": {"type": "input_json_delta", "partial_json": '{"b":1,"a":[2]}'},
        },
        {"type": "content_block_stop", "index": 2},
    ]
    assert said[-2]["delta"]["stop_reason"] == "tool_use"


def part(index: int, text: str, name: str = "") -> Delta:
    return Delta(call_parts=(CallPart(index=index, call_id=f"call_{index + 1}", name=name, text=text),))


async def test_a_call_is_sent_as_it_is_written() -> None:
    script = (part(0, "", "f"), part(0, '{"b":1,'), part(0, '"a":[2]}'), Delta(tool_calls=(CALL,)))
    said = await streamed(*script, part(1, "{}", "g"), Delta(tool_calls=(OTHER,)), DONE, tools=TOOLS)
    assert short(said[1:-2]) == [*("start 0", "delta 0", "delta 0", "stop 0"), *("start 1", "delta 1", "stop 1")]
    assert [said[1]["content_block"][key] for key in ("type", "id", "name", "input")] == ["tool_use", "call_1", "f", {}]
    assert [one["delta"]["partial_json"] for one in said[2:4]] == ['{"b":1,', '"a":[2]}']
    assert said[-2]["delta"]["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("script", "blocks", "reason"),
    [
        ((replace(DONE, reason="length"),), ["start 0", "delta 0", "stop 0"], "max_tokens"),
        (
            (Delta(content="none after all"), DONE),
            ["start 0", "delta 0", "stop 0", "start 1", "delta 1", "stop 1"],
            "end_turn",
        ),
    ],
    ids=["cut short", "none after all"],
)
async def test_a_call_that_does_not_come_to_its_end(script: tuple[Event, ...], blocks: list[str], reason: str) -> None:
    said = await streamed(part(0, '{"b":', "f"), *script, tools=TOOLS)
    assert short(said[1:-2]) == blocks
    assert said[-2]["delta"]["stop_reason"] == reason


async def test_parts_of_calls_are_asked_for_where_they_can_be_sent() -> None:
    script = Scripted(START, DONE)
    await asked(script, stream=True)
    await asked(script)
    assert [isinstance(one, ChatRequest) and one.call_parts for one in script.requests] == [True, False]


async def test_one_object_has_the_same_blocks() -> None:
    script = (
        *(Delta(thinking="h"), Delta(thinking="m"), Delta(content="A"), Delta(content="B")),
        *(Delta(tool_calls=(CALL, OTHER)), Delta(content="C"), replace(DONE, thought_tokens=2)),
    )
    reply = await whole(*script)
    assert reply.pop("id").startswith("msg_")
    assert reply == {
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "Y29ycmFs"},
            {"type": "text", "text": "AB"},
            {"type": "tool_use", "id": "call_1", "name": "f", "input": {"b": 1, "a": [2]}},
            {"type": "tool_use", "id": "call_2", "name": "g", "input": {}},
            {"type": "text", "text": "C"},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": USED | {"output_tokens_details": {"thinking_tokens": 2}},
    }


async def test_an_answer_of_nothing_has_no_blocks() -> None:
    assert short(await streamed(DONE)) == ["message_start", "message_delta", "message_stop"]
    assert (await whole(DONE))["content"] == []


async def test_thoughts_that_are_not_to_be_shown_leave_a_signed_block() -> None:
    body = {"thinking": {"type": "adaptive", "display": "omitted"}}
    script = (Delta(thinking="h"), Delta(thinking="m"), Delta(content="A"), DONE)
    said = await streamed(*script, **body)
    assert [one["delta"]["type"] for one in said if one["type"] == "content_block_delta"] == ["signature_delta", "text_delta"]
    assert (await whole(*script, **body))["content"] == [
        {"type": "thinking", "thinking": "", "signature": "Y29ycmFs"},
        {"type": "text", "text": "A"},
    ]


@pytest.mark.parametrize(
    ("deltas", "done", "reason", "sequence"),
    [
        ((Delta(content="A"),), DONE, "end_turn", None),
        ((), DONE, "end_turn", None),
        ((Delta(content="A"),), replace(DONE, reason="length"), "max_tokens", None),
        ((Delta(content="A"),), replace(DONE, stop_text="END"), "stop_sequence", "END"),
        ((Delta(content="A"),), replace(DONE, stop_text="the model's own"), "end_turn", None),
        ((Delta(tool_calls=(CALL,)),), DONE, "tool_use", None),
        ((Delta(tool_calls=(CALL,)),), replace(DONE, reason="length"), "max_tokens", None),
        ((Delta(tool_calls=(CALL,)),), replace(DONE, stop_text="END"), "tool_use", None),
    ],
)
async def test_how_it_ended(deltas: tuple[Delta, ...], done: Done, reason: str, sequence: str | None) -> None:
    stops = ["END", "", "STOP"]
    reply = await whole(*deltas, done, stop_sequences=stops)
    assert (reply["stop_reason"], reply["stop_sequence"]) == (reason, sequence)
    *_, end, _stop = await streamed(*deltas, done, stop_sequences=stops)
    assert end["delta"] == {"stop_reason": reason, "stop_sequence": sequence}


async def test_cached_tokens_are_told_apart_where_caching_is_asked_for() -> None:
    marked = {"cache_control": {"type": "ephemeral"}}
    used = USED | {"input_tokens": 3, "cache_read_input_tokens": 2}
    assert (await whole(DONE, **marked))["usage"] == used
    start, end, _ = await streamed(DONE, **marked)
    assert start["message"]["usage"] == used | {"output_tokens": 0}
    assert end["usage"] == used


async def test_what_was_left_out_is_told() -> None:
    cut = Truncation(prompt_tokens_total=99, dropped_messages=4)
    facts = {"truncated": True, "prompt_tokens_total": 99, "dropped_messages": 4}
    script = Scripted(replace(START, truncation=cut), replace(DONE, truncation=cut))
    for stream in (True, False):
        call = await asked(script, stream=stream)
        assert call.headers["x-context-truncated"] == "dropped_messages=4, prompt_tokens_total=99"
        said = events(call)[-2] if stream else json.loads(call.data)
        assert facts.items() <= said.items()


async def test_line_breaks_of_python_do_not_cut_an_event() -> None:
    call = await asked(Scripted(START, Delta(content="a"), Delta(content="b\u2028c"), DONE), stream=True)
    assert len(call.data.decode().splitlines()) == len(call.data.decode().split("\n")) - 1
    assert events(call)[3]["delta"]["text"] == "b\u2028c"


# Failures


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (CapabilityError("it cannot"), 400, "invalid_request_error"),
        (QueueFullError(), 503, "overloaded_error"),
        (EngineCrashedError(), 500, "api_error"),
    ],
    ids=["400", "503", "500"],
)
async def test_a_refusal_has_a_status_and_the_shape(stream: bool, error: Exception, status: int, kind: str) -> None:
    call = await asked(Scripted(refusal=error), stream=stream)
    assert (call.status, call.headers["content-type"]) == (status, "application/json")
    said = json.loads(call.data)
    assert said.pop("request_id").startswith("req_")
    assert said == {"type": "error", "error": {"type": kind, "message": str(error)}}


async def test_a_failure_in_mid_stream_is_its_last_event() -> None:
    said = await streamed(Delta(content="A"), EngineCrashedError(mid_answer=True))
    assert short(said) == ["message_start", "start 0", "delta 0", "error"]
    message = "an error was encountered while running the model: unexpected EOF"
    assert said[-1]["error"] == {"type": "api_error", "message": message}


async def test_the_start_is_sent_before_there_is_any_text() -> None:
    gate = asyncio.Event()
    call = Call()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(asked(Scripted(START, gate, Delta(content="A"), DONE), call, stream=True), name="ask")
        await call.has_answer.wait()
        assert short(events(call)) == ["message_start"]
        gate.set()
    assert short(events(call))[-1] == "message_stop"


async def test_a_silent_stream_has_pings() -> None:
    gate = asyncio.Event()
    call = Call()
    endpoint = Endpoint(answers.messages(Scripted(START, gate, DONE), silence_s=0), ANTHROPIC)
    body = json.dumps({"model": "m", "max_tokens": 9, "messages": HI, "stream": True}).encode()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ask(endpoint, body=body, call=call), name="ask")
        while len(call.parts) < 3:
            call.has_answer.clear()
            await call.has_answer.wait()
        gate.set()
    kinds = short(events(call))
    assert kinds[:3] == ["message_start", "ping", "ping"]
    assert kinds[-2:] == ["message_delta", "message_stop"]
    assert set(kinds[1:-2]) == {"ping"}


async def test_a_client_that_leaves_ends_the_answer() -> None:
    script = Scripted(START, asyncio.Event())
    call = Call()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(asked(script, call, stream=True), name="ask")
        await call.has_answer.wait()
        call.leave()
    assert script.open == 0


# Counting


class Tokens:
    """Every word is a token."""

    def __init__(self) -> None:
        self.asked: list[TokenizeRequest] = []

    async def tokenize(self, request: TokenizeRequest) -> Tokenized:
        self.asked.append(request)
        return Tokenized(tokens=list(range(len(request.text.split()))), pieces=None, total_ns=1, load_ns=0)

    async def detokenize(self, request: DetokenizeRequest) -> Detokenized:
        raise NotImplementedError


class Reading(Scripted):
    """Renders where it is asked to, else answers."""

    async def _events(self, script: Any) -> AsyncIterator[Event]:
        request = self.requests[-1]
        if request.debug_render_only:
            yield Rendered("a prompt of words", image_count=1)
        else:
            async for event in super()._events(script):
                yield event


async def counted(inference: Scripted, tokens: Tokens) -> Call:
    endpoint = Endpoint(count.count_tokens(inference, tokens), ANTHROPIC)
    return await ask(endpoint, body=json.dumps({"model": "m", "messages": HI}).encode())


async def test_counting_takes_the_rendered_prompt_apart_as_a_job_does() -> None:
    tokens = Tokens()
    call = await counted(Scripted(Rendered("a prompt of words")), tokens)
    assert (call.headers["content-type"], json.loads(call.data)) == ("application/json", {"input_tokens": 4})
    (asked,) = tokens.asked
    assert (asked.model, asked.add_special, asked.parse_special) == ("m", True, True)


async def test_counting_with_images_reads_the_prompt() -> None:
    tokens = Tokens()
    inference = Reading(Started(prompt_tokens=77, cached_tokens=0), Delta(content="never taken"))
    assert json.loads((await counted(inference, tokens)).data) == {"input_tokens": 77}
    rendering, reading = inference.requests
    assert isinstance(reading, ChatRequest)
    assert replace(reading, debug_render_only=True, needs_start=False, truncate=True, options={}) == rendering
    assert (reading.options, reading.truncate, tokens.asked, inference.open) == ({"num_predict": 1}, False, [], 0)
