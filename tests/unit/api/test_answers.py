import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from corral.api.exchange import Endpoint
from corral.api.ollama import OLLAMA, answers
from corral.core.errors import CapabilityError, EngineCrashedError
from corral.core.types import ToolCall
from corral.service.requests import Delta, Done, Event, Loaded, Rendered, Truncation
from tests.support.asgi import Call, ask
from tests.support.scripted_inference import Scripted

DONE = Done(
    reason="stop",
    total_ns=9,
    load_ns=1,
    prompt_tokens=5,
    cached_tokens=0,
    prompt_ns=2,
    eval_tokens=3,
    eval_ns=4,
    context=(7, 8),
)
FIGURES = {
    "total_duration": 9,
    "load_duration": 1,
    "prompt_eval_count": 5,
    "prompt_eval_cached_count": 0,
    "prompt_eval_duration": 2,
    "eval_count": 3,
    "eval_duration": 4,
}
CALL = ToolCall(name="f", arguments={"b": 1, "a": 2}, call_id="call_1")


def undated(lines: list[dict[str, object]]) -> list[dict[str, object]]:
    """The lines without their times, which must be there, in second place and in order."""
    times = [line.pop("created_at") for line in lines]
    assert times == sorted(times, key=lambda at: str(at).rstrip("Z").ljust(29, "0"))
    return lines


async def chat(script: Scripted, **body: object) -> Call:
    return await ask(Endpoint(answers.chat(script), OLLAMA), body=json.dumps({"model": "m"} | body).encode())


async def generate(script: Scripted, **body: object) -> Call:
    return await ask(Endpoint(answers.generate(script), OLLAMA), body=json.dumps({"model": "m"} | body).encode())


async def test_a_chat_streams_a_line_a_piece() -> None:
    call = await chat(Scripted(Delta(thinking="hm"), Delta(content="Hel"), Delta(content="lo"), DONE))
    assert call.headers["content-type"] == "application/x-ndjson"
    assert [list(line) for line in call.lines] == [["model", "created_at", "message", "done"]] * 3 + [
        ["model", "created_at", "message", "done", "done_reason", *FIGURES]
    ]
    assert undated(call.lines) == [
        {"model": "m", "message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": False},
        {"model": "m", "message": {"role": "assistant", "content": "Hel"}, "done": False},
        {"model": "m", "message": {"role": "assistant", "content": "lo"}, "done": False},
        {"model": "m", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop", **FIGURES},
    ]


async def test_a_chat_in_one_piece_joins_everything() -> None:
    script = Scripted(
        Delta(thinking="h"), Delta(thinking="m"), Delta(content="Hel"), Delta(content="lo", tool_calls=(CALL,)), DONE
    )
    call = await chat(script, stream=False)
    assert call.headers["content-type"] == "application/json; charset=utf-8"
    assert not call.data.endswith(b"\n")
    tool_call = {"id": "call_1", "function": {"index": 0, "name": "f", "arguments": {"b": 1, "a": 2}}}
    message = {"role": "assistant", "content": "Hello", "thinking": "hm", "tool_calls": [tool_call]}
    assert undated(call.lines) == [{"model": "m", "message": message, "done": True, "done_reason": "stop", **FIGURES}]


async def test_a_tool_call_is_a_line_of_its_own() -> None:
    call = await chat(Scripted(Delta(tool_calls=(CALL,)), DONE))
    assert call.lines[0]["message"] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "call_1", "function": {"index": 0, "name": "f", "arguments": {"b": 1, "a": 2}}}],
    }


async def test_generate_streams_a_line_a_piece_and_ends_with_the_context() -> None:
    call = await generate(Scripted(Delta(content="Hel"), Delta(content="lo"), DONE), prompt="hi")
    assert list(call.lines[-1]) == ["model", "created_at", "response", "done", "done_reason", "context", *FIGURES]
    assert undated(call.lines) == [
        {"model": "m", "response": "Hel", "done": False},
        {"model": "m", "response": "lo", "done": False},
        {"model": "m", "response": "", "done": True, "done_reason": "stop", "context": [7, 8], **FIGURES},
    ]


async def test_generate_in_one_piece() -> None:
    call = await generate(Scripted(Delta(thinking="hm"), Delta(content="Hello"), DONE), prompt="hi", stream=False)
    want = {
        "model": "m",
        "response": "Hello",
        "thinking": "hm",
        "done": True,
        "done_reason": "stop",
        "context": [7, 8],
        **FIGURES,
    }
    assert undated(call.lines) == [want]


async def test_figures_that_are_zero_are_left_out() -> None:
    done = replace(DONE, reason="length", cached_tokens=5, prompt_ns=0, eval_tokens=0, eval_ns=0, context=())
    call = await generate(Scripted(done), prompt="hi", stream=False)
    assert undated(call.lines) == [
        {
            "model": "m",
            "response": "",
            "done": True,
            "done_reason": "length",
            "total_duration": 9,
            "load_duration": 1,
            "prompt_eval_count": 5,
            "prompt_eval_cached_count": 5,
        }
    ]


@pytest.mark.parametrize("stream", [True, False, None])
async def test_a_load_is_one_object_even_when_streamed(stream: bool | None) -> None:
    call = await chat(Scripted(Loaded("load")), stream=stream)
    assert call.headers["content-type"] == "application/json; charset=utf-8"
    assert undated(call.lines) == [
        {"model": "m", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "load"}
    ]
    call = await generate(Scripted(Loaded("unload")), stream=stream)
    assert undated(call.lines) == [{"model": "m", "response": "", "done": True, "done_reason": "unload"}]


async def test_a_rendered_prompt_is_one_object() -> None:
    chatted = await chat(Scripted(Rendered("<s>hi")))
    assert undated(chatted.lines) == [
        {"model": "m", "message": {"role": "", "content": ""}, "done": False, "_debug_info": {"rendered_template": "<s>hi"}}
    ]
    generated = await generate(Scripted(Rendered("<s>hi", image_count=2)))
    assert undated(generated.lines) == [
        {"model": "m", "response": "", "done": False, "_debug_info": {"rendered_template": "<s>hi", "image_count": 2}}
    ]


async def test_a_cut_conversation_says_so() -> None:
    done = replace(DONE, truncation=Truncation(prompt_tokens_total=900, dropped_messages=3))
    call = await chat(Scripted(Delta(content="a"), done))
    assert list(call.lines[-1].items())[-3:] == [("truncated", True), ("prompt_tokens_total", 900), ("dropped_messages", 3)]


@pytest.mark.parametrize("asked", [chat, generate])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_refusal_has_its_own_status(asked: Callable[..., Awaitable[Call]], stream: bool) -> None:
    script = Scripted(refusal=CapabilityError('"m" does not support thinking'))
    call = await asked(script, stream=stream)
    assert (call.status, call.lines) == (400, [{"error": '"m" does not support thinking'}])
    call = await chat(Scripted(EngineCrashedError()), stream=stream)
    assert call.status == 500


async def test_a_crash_in_mid_answer_is_the_last_line() -> None:
    script = Scripted(Delta(content="a"), EngineCrashedError(mid_answer=True))
    call = await chat(script)
    assert (call.status, call.is_over) == (200, True)
    assert call.lines[-1] == {"error": "an error was encountered while running the model: unexpected EOF"}
    call = await chat(script, stream=False)
    assert (call.status, call.lines) == (500, [{"error": "an error was encountered while running the model: unexpected EOF"}])


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("before", [(), (Delta(content="a"),)], ids=["waiting", "in mid-answer"])
async def test_a_client_that_leaves_ends_the_use_case(stream: bool, before: tuple[Event, ...]) -> None:
    script, call = Scripted(*before, asyncio.Event()), Call()
    body = json.dumps({"model": "m", "stream": stream}).encode()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ask(Endpoint(answers.chat(script), OLLAMA), body=body, call=call))
        await script.is_open.wait()
        call.leave()
    assert script.open == 0


async def test_the_client_is_known_by_its_address() -> None:
    script = Scripted(Loaded("load"))
    await chat(script)
    assert script.requests[0].client == "127.0.0.1"
