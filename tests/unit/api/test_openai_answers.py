"""The events of answers as OpenAI's chunks and objects: what is sent for each event, and how several answers come together."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from corral.api.exchange import Endpoint
from corral.api.openai import OPENAI, chat, completions
from corral.api.stream import EventStream
from corral.core.errors import CapabilityError, EngineCrashedError, QueueFullError
from corral.core.types import TokenChance, TokenLogprob, ToolCall
from corral.service.requests import CallPart, Delta, Done, Loaded, Truncation
from corral.service.tokens import Detokenized, DetokenizeRequest, Tokenized, TokenizeRequest
from tests.support.asgi import Call, ask
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
USAGE = {
    "prompt_tokens": 5,
    "completion_tokens": 3,
    "total_tokens": 8,
    "prompt_tokens_details": {"cached_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 1},
}
HI = [{"role": "user", "content": "hi"}]
CALL = ToolCall(name="f", arguments={"b": 1, "a": [2]}, call_id="call_1")
CALLED = {"id": "call_1", "index": 0, "type": "function", "function": {"name": "f", "arguments": '{"b":1,"a":[2]}'}}
TOKEN = TokenLogprob(b"\xc3", -0.5, (TokenChance(b"\xc3", -0.5), TokenChance(b"a", -2.0)))


class Vocabulary:
    """Every token is a text of its own number."""

    async def tokenize(self, request: TokenizeRequest) -> Tokenized:
        raise NotImplementedError

    async def detokenize(self, request: DetokenizeRequest) -> Detokenized:
        return Detokenized(text="".join(f"<{token}>" for token in request.tokens), total_ns=0, load_ns=0)


async def chatted(script: Scripted, **body: Any) -> Call:
    given = {"model": "m", "messages": HI} | body
    return await ask(Endpoint(chat.chat(script), OPENAI), body=json.dumps(given).encode())


async def completed(script: Scripted, **body: Any) -> Call:
    given = {"model": "m", "prompt": "hi"} | body
    return await ask(Endpoint(completions.completions(script, Vocabulary()), OPENAI), body=json.dumps(given).encode())


def events(call: Call) -> list[Any]:
    """What the events carry; the last of them must say that it is."""
    *said, done, rest = call.data.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    assert all(one.startswith("data: ") for one in said)
    return [json.loads(one.removeprefix("data: ")) for one in said]


def deltas(call: Call) -> list[Any]:
    return [choice["delta"] for one in events(call) for choice in one["choices"]]


async def test_the_role_comes_once_and_everything_has_one_head() -> None:
    call = await chatted(Scripted(Delta(content="H"), Delta(content="el"), Delta(content="lo"), DONE), stream=True)
    assert call.headers["content-type"] == "text/event-stream"
    said = events(call)
    assert [one.pop("choices") for one in said] == [
        [{"index": 0, "delta": {"role": "assistant", "content": "H"}, "finish_reason": None}],
        [{"index": 0, "delta": {"content": "el"}, "finish_reason": None}],
        [{"index": 0, "delta": {"content": "lo"}, "finish_reason": None}],
        [{"index": 0, "delta": {}, "finish_reason": "stop"}],
    ]
    assert all(one == said[0] for one in said)
    assert list(said[0]) == ["id", "object", "created", "model", "system_fingerprint"]
    assert said[0]["id"].startswith("chatcmpl-")
    assert len(said[0]["id"]) > 30


async def test_the_role_comes_with_the_first_text() -> None:
    assert deltas(await chatted(Scripted(Delta(content="Hel"), Delta(content="lo"), DONE), stream=True)) == [
        {"role": "assistant", "content": "Hel"},
        {"content": "lo"},
        {},
    ]


async def test_usage_is_one_more_event_where_it_is_wanted() -> None:
    call = await chatted(Scripted(Delta(content="a"), DONE), stream=True, stream_options={"include_usage": True})
    assert (events(call)[-1]["choices"], events(call)[-1]["usage"]) == ([], USAGE)
    call = await chatted(Scripted(Delta(content="a"), DONE), stream=True)
    assert not any("usage" in one for one in events(call))


async def test_thoughts_and_content_are_parted() -> None:
    thought = {"reasoning": "m", "reasoning_content": "m"}
    script = Scripted(Delta(thinking="h"), Delta(thinking="m"), Delta(thinking="m", content="a"), Delta(content="b"), DONE)
    assert deltas(await chatted(script, stream=True)) == [
        {"role": "assistant", "content": "", "reasoning": "h", "reasoning_content": "h"},
        {"content": "", **thought},
        {"content": "", **thought},
        {"content": "a"},
        {"content": "b"},
        {},
    ]


async def test_calls_are_deltas_of_their_own() -> None:
    other = ToolCall(name="g", arguments={}, index=1)
    call = await chatted(Scripted(Delta(content="I"), Delta(tool_calls=(CALL, other)), DONE), stream=True)
    _, first, second, _ = deltas(call)
    assert first == {"content": "", "tool_calls": [CALLED]}
    (made,) = second["tool_calls"]
    assert (made["index"], made["function"]) == (1, {"name": "g", "arguments": "{}"})
    assert made["id"].startswith("call_")
    assert events(call)[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_the_parts_of_a_call_are_deltas_of_its_index() -> None:
    script = Scripted(
        Delta(call_parts=(CallPart(index=0, call_id="call_1", name="f", text='{"b":'),)),
        Delta(call_parts=(CallPart(index=0, call_id="call_1", text='1,"a":[2]}'),), tool_calls=(CALL,)),
        Delta(call_parts=(CallPart(index=1, call_id="call_2", name="g"),)),
        Delta(call_parts=(CallPart(index=1, call_id="call_2", text="{}"),)),
        Delta(tool_calls=(ToolCall(name="g", arguments={}, call_id="call_2", index=1),)),
        DONE,
    )
    call = await chatted(script, stream=True)
    first = {"id": "call_1", "index": 0, "type": "function", "function": {"name": "f", "arguments": '{"b":'}}
    other = {"id": "call_2", "index": 1, "type": "function", "function": {"name": "g", "arguments": ""}}
    assert deltas(call) == [
        {"role": "assistant", "content": "", "tool_calls": [first]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '1,"a":[2]}'}}]},
        {"content": "", "tool_calls": [other]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
        {},
    ]
    assert events(call)[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert script.requests[0].call_parts


async def test_a_call_that_is_cut_is_told_as_far_as_it_came() -> None:
    part = CallPart(index=0, call_id="call_1", name="f", text='{"b":')
    call = await chatted(Scripted(Delta(call_parts=(part,)), replace(DONE, reason="length")), stream=True)
    assert events(call)[-1]["choices"][0]["finish_reason"] == "length"
    call = await chatted(Scripted(Delta(call_parts=(part,)), Delta(content="none after all"), DONE), stream=True)
    assert deltas(call)[1:] == [{"content": "none after all"}, {}]
    assert events(call)[-1]["choices"][0]["finish_reason"] == "stop"


async def test_logprobs_of_a_call_come_with_its_parts() -> None:
    part = CallPart(index=0, call_id="call_1", name="f", text='{"b":1,"a":[2]}')
    script = Scripted(
        Delta(content="I"),
        Delta(call_parts=(part,), logprobs=(TOKEN,)),
        Delta(tool_calls=(CALL,), logprobs=(TOKEN,)),
        DONE,
    )
    choices = [one["choices"][0] for one in events(await chatted(script, stream=True, logprobs=True))]
    assert ["logprobs" in choice for choice in choices] == [False, True, True, False]
    assert choices[2]["delta"] == {"content": ""}


async def test_a_call_alone_has_the_role() -> None:
    assert deltas(await chatted(Scripted(Delta(tool_calls=(CALL,)), DONE), stream=True)) == [
        {"role": "assistant", "content": "", "tool_calls": [CALLED]},
        {},
    ]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("reason", "calls", "said"), [("stop", (), "stop"), ("stop", (CALL,), "tool_calls"), ("length", (CALL,), "length")]
)
async def test_why_it_ended(reason: Any, calls: tuple[ToolCall, ...], said: str, stream: bool) -> None:
    call = await chatted(Scripted(Delta(content="a", tool_calls=calls), replace(DONE, reason=reason)), stream=stream)
    last = events(call)[-1] if stream else json.loads(call.data)
    assert last["choices"][0]["finish_reason"] == said


async def test_logprobs_come_with_the_first_chunk_of_a_delta() -> None:
    delta = Delta(thinking="t", content="\u00fc", logprobs=(TOKEN,))
    call = await chatted(Scripted(delta, Delta(logprobs=(TOKEN,)), DONE), stream=True, logprobs=True)
    told = {
        "token": "\ufffd",
        "logprob": -0.5,
        "bytes": [0xC3],
        "top_logprobs": [
            {"token": "\ufffd", "logprob": -0.5, "bytes": [0xC3]},
            {"token": "a", "logprob": -2.0, "bytes": [97]},
        ],
    }
    choices = [one["choices"][0] for one in events(call)]
    assert [choice.get("logprobs") for choice in choices] == [{"content": [told]}, None, {"content": [told]}, None]
    assert choices[2]["delta"] == {"content": ""}
    whole = json.loads((await chatted(Scripted(delta, DONE), logprobs=True)).data)
    assert whole["choices"][0]["logprobs"] == {"content": [told]}


async def test_an_answer_of_nothing_has_a_role_and_an_end() -> None:
    assert deltas(await chatted(Scripted(DONE), stream=True)) == [{"role": "assistant", "content": ""}, {}]


async def test_a_whole_answer() -> None:
    script = Scripted(Delta(thinking="hm"), Delta(content="Hel"), Delta(content="lo", tool_calls=(CALL,)), DONE)
    call = await chatted(script, stream=None)
    assert call.headers["content-type"] == "application/json"
    got = json.loads(call.data)
    assert list(got) == ["id", "object", "created", "model", "system_fingerprint", "choices", "usage"]
    message = {"role": "assistant", "content": "Hello", "reasoning": "hm", "reasoning_content": "hm", "tool_calls": [CALLED]}
    assert got["choices"] == [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
    assert got["usage"] == USAGE


@pytest.mark.parametrize("stream", [True, False])
async def test_a_cut_conversation_says_so(stream: bool) -> None:
    done = replace(DONE, truncation=Truncation(prompt_tokens_total=900, dropped_messages=3))
    call = await chatted(Scripted(Delta(content="a"), done), stream=stream)
    got = events(call)[-1] if stream else json.loads(call.data)
    assert (got["truncated"], got["prompt_tokens_total"], got["dropped_messages"]) == (True, 900, 3)


# Several answers


async def test_several_answers_share_a_stream_and_a_prompt() -> None:
    second, third = asyncio.Event(), asyncio.Event()
    script = Scripted()
    script.scripts = {
        0: [Delta(content="a"), second, Delta(content="b"), third, DONE],
        1: [Delta(content="c"), DONE],
        2: [Delta(content="d"), replace(DONE, reason="length")],
    }
    call = Call()
    body = json.dumps({"model": "m", "messages": HI, "n": 3, "stream": True, "stream_options": {"include_usage": True}})

    def counted(count: int) -> bool:
        return call.data.count(b"data: ") >= count

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ask(Endpoint(chat.chat(script), OPENAI), body=body.encode(), call=call))
        await until(call, partial(counted, 5))
        second.set()
        await until(call, partial(counted, 6))
        third.set()
    *said, used = events(call)
    by_index = {index: [one["choices"][0] for one in said if one["choices"][0]["index"] == index] for index in range(3)}
    assert [choice["delta"] for choice in by_index[0]] == [{"role": "assistant", "content": "a"}, {"content": "b"}, {}]
    assert [choice["delta"] for choice in by_index[1]] == [{"role": "assistant", "content": "c"}, {}]
    assert [choice["finish_reason"] for choice in by_index[2]] == [None, "length"]
    assert said[-1]["choices"][0]["index"] == 0
    assert (used["usage"]["prompt_tokens"], used["usage"]["completion_tokens"]) == (5, 9)
    assert len({one["id"] for one in said}) == 1


async def until(call: Call, is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not is_so():
            call.has_answer.clear()
            await call.has_answer.wait()


async def test_several_whole_answers_are_in_order() -> None:
    script = Scripted()
    script.scripts = {index: [Delta(content=str(index)), DONE] for index in range(40)}
    got = json.loads((await chatted(script, n=40)).data)
    assert [(choice["index"], choice["message"]["content"]) for choice in got["choices"]] == [(i, str(i)) for i in range(40)]
    assert (script.open, got["usage"]["prompt_tokens"]) == (0, 5)


async def test_the_others_wait_for_the_first() -> None:
    gate, call = asyncio.Event(), Call()
    script = Scripted(Delta(content="a"), DONE)
    script.scripts = {0: [gate, Delta(content="a"), DONE]}
    body = json.dumps({"model": "m", "messages": HI, "n": 3}).encode()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ask(Endpoint(chat.chat(script), OPENAI), body=body, call=call))
        await script.is_open.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(script.requests) == 1
        gate.set()
    assert len(script.requests) == 3


@pytest.mark.parametrize("stream", [True, False])
async def test_what_is_refused_has_its_status_however_many_are_wanted(stream: bool) -> None:
    script = Scripted(refusal=CapabilityError('"m" does not support thinking'))
    call = await chatted(script, n=5, stream=stream)
    assert (call.status, call.headers["content-type"]) == (400, "application/json")
    assert json.loads(call.data)["error"]["message"] == '"m" does not support thinking'


async def test_one_that_fails_ends_them_all() -> None:
    script = Scripted(Delta(content="a"), asyncio.Event())
    script.scripts = {1: [Delta(content="b"), EngineCrashedError(mid_answer=True)]}
    call = await chatted(script, n=3, stream=True)
    assert script.open == 0
    last = json.loads(call.data.decode().removesuffix("\n\n").split("\n\n")[-1].removeprefix("data: "))
    assert last["error"]["message"] == "an error was encountered while running the model: unexpected EOF"
    call = await chatted(Scripted(Delta(content="b"), EngineCrashedError(mid_answer=True)), n=2)
    assert (call.status, json.loads(call.data)["error"]["type"]) == (500, "api_error")


@pytest.mark.parametrize("count", [1, 3])
async def test_a_client_that_leaves_ends_them_all(count: int) -> None:
    script, call = Scripted(Delta(content="a"), asyncio.Event()), Call()
    body = json.dumps({"model": "m", "messages": HI, "n": count, "stream": True}).encode()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ask(Endpoint(chat.chat(script), OPENAI), body=body, call=call))
        await until(call, lambda: call.data.count(b"data: ") >= count)
        call.leave()
    assert script.open == 0


# Errors


async def test_an_error_in_mid_stream_is_its_last_event() -> None:
    call = await chatted(Scripted(Delta(content="a"), EngineCrashedError(mid_answer=True)), stream=True)
    assert (call.status, call.is_over) == (200, True)
    *_, last, rest = call.data.decode().split("\n\n")
    assert rest == ""
    assert json.loads(last.removeprefix("data: ")) == {
        "error": {
            "message": "an error was encountered while running the model: unexpected EOF",
            "type": "api_error",
            "param": None,
            "code": None,
        }
    }


async def test_a_full_queue_says_when_to_try_again() -> None:
    call = await chatted(Scripted(refusal=QueueFullError()), stream=True)
    assert (call.status, call.headers["retry-after"]) == (503, "1")


async def test_errors_of_form_and_errors_of_the_model_have_types_of_their_own() -> None:
    """As Ollama has them."""
    call = await chatted(Scripted(), messages=[])
    assert call.headers["content-type"] == "application/json; charset=utf-8"
    call = await chatted(Scripted(refusal=CapabilityError("x")))
    assert call.headers["content-type"] == "application/json"


async def test_a_field_that_is_wrong_is_named() -> None:
    call = await chatted(Scripted(), temperature=3)
    assert (call.status, json.loads(call.data)["error"]) == (
        400,
        {
            "message": "temperature is 3; it must be between 0 and 2",
            "type": "invalid_request_error",
            "param": "temperature",
            "code": "invalid_value",
        },
    )
    call = await chatted(Scripted(), functions=[{}])
    assert json.loads(call.data)["error"]["code"] == "unsupported_parameter"


# Completions


async def test_completions_stream() -> None:
    call = await completed(Scripted(Delta(content="He"), Delta(content="llo"), DONE), stream=True)
    said = events(call)
    assert [one["choices"] for one in said] == [
        [{"text": "He", "index": 0, "finish_reason": None}],
        [{"text": "llo", "index": 0, "finish_reason": None}],
        [{"text": "", "index": 0, "finish_reason": "stop"}],
    ]
    assert list(said[0]) == ["id", "object", "created", "choices", "model", "system_fingerprint"]
    assert said[0]["object"] == "text_completion"
    assert said[0]["id"].startswith("cmpl-")


async def test_completions_usage_is_in_the_last_chunk_alone() -> None:
    call = await completed(Scripted(Delta(content="a"), DONE), stream=True, stream_options={"include_usage": True})
    assert [one.get("usage") for one in events(call)] == [None, None, USAGE]


async def test_a_prompt_is_echoed_once() -> None:
    script = Scripted(Delta(content="a"), Delta(content="b"), DONE)
    texts = [one["choices"][0]["text"] for one in events(await completed(script, stream=True, echo=True))]
    assert texts == ["hia", "b", ""]
    assert json.loads((await completed(script, echo=True)).data)["choices"][0]["text"] == "hiab"
    several = json.loads((await completed(script, prompt=[[1, 2], [3]], n=2, echo=True)).data)
    assert [choice["text"] for choice in several["choices"]] == ["<1><2>ab", "<1><2>ab", "<3>ab", "<3>ab"]
    silent = events(await completed(Scripted(DONE), stream=True, echo=True))
    assert [one["choices"][0]["text"] for one in silent] == ["hi"]


async def test_several_prompts_count_once_each() -> None:
    script = Scripted()
    script.scripts = {index: [Delta(content=str(index)), DONE] for index in range(6)}
    got = json.loads((await completed(script, prompt=["a", "b", "c"], n=2)).data)
    assert [choice["text"] for choice in got["choices"]] == [str(index) for index in range(6)]
    assert (got["usage"]["prompt_tokens"], got["usage"]["completion_tokens"]) == (15, 18)


@pytest.mark.parametrize("stream", [True, False])
async def test_logprobs_in_the_older_form(stream: bool) -> None:
    tokens = (
        TokenLogprob(b"G", -0.25, (TokenChance(b"G", -0.25),)),
        TokenLogprob(b"\xc3", -0.5, (TokenChance(b"\xc3", -0.5),)),
        TokenLogprob(b"\xbcx", -0.75, ()),
    )
    script = Scripted(Delta(logprobs=tokens[:2], content="G"), Delta(logprobs=tokens[2:], content="\u00fcx"), DONE)
    call = await completed(script, logprobs=1, stream=stream)
    got = [one["choices"][0].get("logprobs") for one in events(call)] if stream else None
    told = json.loads(call.data)["choices"][0]["logprobs"] if got is None else joined(got)
    assert told == {
        "tokens": ["G", "bytes:\\xc3", "bytes:\\xbc\\x78"],
        "token_logprobs": [-0.25, -0.5, -0.75],
        "top_logprobs": [{"G": -0.25}, {"bytes:\\xc3": -0.5}, {}],
        "text_offset": [0, 1, 1],
    }


def joined(parts: list[Any]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for part in filter(None, parts):
        for name, values in part.items():
            told.setdefault(name, []).extend(values)
    return told


async def test_thoughts_are_told_apart_in_completions_too() -> None:
    script = Scripted(Delta(thinking="hm"), Delta(content="a"), DONE)
    (choice,) = json.loads((await completed(script)).data)["choices"]
    assert (choice["text"], choice["reasoning"], choice["reasoning_content"]) == ("a", "hm", "hm")


@pytest.mark.parametrize("stream", [True, False])
async def test_an_empty_prompt_loads_and_says_nothing(stream: bool) -> None:
    call = await completed(Scripted(Loaded("load")), prompt="", stream=stream)
    got = events(call)[-1] if stream else json.loads(call.data)
    assert got["choices"] == [{"text": "", "index": 0, "finish_reason": "stop"}]


# Signs of life


class Nights:
    """Sleeps that a test ends, one after another."""

    def __init__(self) -> None:
        self._begun: asyncio.Queue[asyncio.Event] = asyncio.Queue()
        self.seconds: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)
        over = asyncio.Event()
        await self._begun.put(over)
        await over.wait()

    async def next(self) -> asyncio.Event:
        """The next sleep has begun; this ends it."""
        async with asyncio.timeout(5):
            return await self._begun.get()


async def test_a_silent_stream_gives_signs_of_life_once_it_has_begun() -> None:
    written: list[bytes] = []
    nights = Nights()

    async def write(data: bytes) -> None:
        written.append(data)

    out = EventStream(write, sleep=nights.sleep)
    async with out.kept_alive(b": ping\n\n", silence_s=15):
        (await nights.next()).set()
        before = await nights.next()
        assert written == []
        await out.write(b"data: 1\n\n")
        before.set()
        silent = await nights.next()
        assert written == [b"data: 1\n\n"]
        silent.set()
        await nights.next()
        assert written == [b"data: 1\n\n", b": ping\n\n"]
    assert set(nights.seconds) == {15}
