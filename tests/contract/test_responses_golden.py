"""Golden answers of /v1/responses: the bytes of every kind of answer, streamed and in one piece.

Ids and times are masked; every other byte is as a client gets it.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

import pytest

from corral.core.errors import EngineError
from tests.contract.conftest import Rig
from tests.support.callers import CALLER_TEMPLATE, SAYS_CALL, SAYS_THOUGHT

PLAIN_JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
MASKS: Final = (
    (re.compile(r'"(resp|msg|rs|fc)_[0-9a-f]{32}"'), r'"<\1>"'),
    (re.compile(r'"(created_at|completed_at)":\d{10}\b'), r'"\1":<time>'),
    (re.compile(r'"call_id":"[A-Za-z0-9]{32}"'), '"call_id":"<call>"'),
)
FUNCTION: Final[dict[str, Any]] = {"type": "function", "name": "f", "parameters": {"type": "object"}}
USAGE: Final = (
    '{"input_tokens":%d,"input_tokens_details":{"cached_tokens":0,"cache_write_tokens":0},"output_tokens":%d,'
    '"output_tokens_details":{"reasoning_tokens":0},"total_tokens":%d}'
)
TOLD: Final = '{"description":null,"parameters":{"type":"object"},"strict":null,"type":"function","name":"f"}'


def masked(text: str) -> str:
    for pattern, name in MASKS:
        text = pattern.sub(name, text)
    return text


def response(
    status: str,
    output: str,
    used: tuple[int, int, int] | None = None,
    *,
    model: str = "hello",
    tools: str = "",
    details: str = "null",
    error: str = "null",
) -> str:
    usage = USAGE % used if used else "null"
    completed = "<time>" if status == "completed" else "null"
    return (
        f'{{"id":"<resp>","object":"response","created_at":<time>,"completed_at":{completed},"status":"{status}",'
        f'"incomplete_details":{details},"model":"{model}","previous_response_id":null,"instructions":null,'
        f'"output":[{output}],"error":{error},"tools":[{tools}],"tool_choice":"auto","truncation":"disabled",'
        '"parallel_tool_calls":true,"text":{"format":{"type":"text"}},"top_p":1,"presence_penalty":0,'
        '"frequency_penalty":0,"top_logprobs":0,"temperature":1,"reasoning":null,'
        f'"usage":{usage},"max_output_tokens":null,"max_tool_calls":null,"store":false,"background":false,'
        '"service_tier":"default","metadata":{},"safety_identifier":null,"prompt_cache_key":null}'
    )


def part(text: str, logprobs: str = "") -> str:
    return f'{{"type":"output_text","text":"{text}","annotations":[],"logprobs":[{logprobs}]}}'


def message(text: str, status: str = "completed", logprobs: str = "") -> str:
    return f'{{"type":"message","id":"<msg>","status":"{status}","role":"assistant","content":[{part(text, logprobs)}]}}'


def thought(text: str) -> str:
    summary = f'{{"type":"summary_text","text":"{text}"}}'
    return f'{{"type":"reasoning","id":"<rs>","summary":[{summary}],"encrypted_content":"{text}"}}'


def call(arguments: str, status: str = "completed") -> str:
    text = arguments.replace('"', '\\"')
    return f'{{"type":"function_call","id":"<fc>","status":"{status}","call_id":"<call>","name":"f","arguments":"{text}"}}'


def stream(*events: tuple[str, str]) -> str:
    """Each event's name and its fields behind the number."""
    return "".join(
        f'event: {name}\ndata: {{"type":"{name}","sequence_number":{number},{fields}}}\n\n'
        for number, (name, fields) in enumerate(events)
    )


def begun(**more: Any) -> list[tuple[str, str]]:
    said = f'"response":{response("in_progress", "", **more)}'
    return [("response.created", said), ("response.in_progress", said)]


def added(index: int, item: str) -> tuple[str, str]:
    return ("response.output_item.added", f'"output_index":{index},"item":{item}')


def done(index: int, item: str) -> tuple[str, str]:
    return ("response.output_item.done", f'"output_index":{index},"item":{item}')


def message_events(index: int, *texts: str, status: str = "completed") -> list[tuple[str, str]]:
    at = f'"item_id":"<msg>","output_index":{index},"content_index":0'
    whole = "".join(texts)
    return [
        added(index, '{"type":"message","id":"<msg>","status":"in_progress","role":"assistant","content":[]}'),
        ("response.content_part.added", f'{at},"part":{part("")}'),
        *(("response.output_text.delta", f'{at},"delta":"{text}","logprobs":[]') for text in texts),
        ("response.output_text.done", f'{at},"text":"{whole}","logprobs":[]'),
        ("response.content_part.done", f'{at},"part":{part(whole)}'),
        done(index, message(whole, status)),
    ]


def thought_events(index: int, *texts: str) -> list[tuple[str, str]]:
    at = f'"item_id":"<rs>","output_index":{index},"summary_index":0'
    return [
        added(index, '{"type":"reasoning","id":"<rs>","summary":[]}'),
        *(("response.reasoning_summary_text.delta", f'{at},"delta":"{text}"') for text in texts),
        ("response.reasoning_summary_text.done", f'{at},"text":"{"".join(texts)}"'),
        done(index, thought("".join(texts))),
    ]


def call_events(index: int, *pieces: str, is_complete: bool = True) -> list[tuple[str, str]]:
    at = f'"item_id":"<fc>","output_index":{index}'
    texts = [piece.replace('"', '\\"') for piece in pieces]
    ended = [("response.function_call_arguments.done", f'{at},"arguments":"{"".join(texts)}"')] if is_complete else []
    return [
        added(index, call("", "in_progress")),
        *(("response.function_call_arguments.delta", f'{at},"delta":"{text}"') for text in texts),
        *ended,
        done(index, call("".join(pieces), "completed" if is_complete else "incomplete")),
    ]


def ended(status: str, whole: str) -> tuple[str, str]:
    return (f"response.{status}", f'"response":{whole}')


@dataclass(frozen=True, slots=True)
class Golden:
    body: dict[str, Any]
    answer: str
    type: str = PLAIN_JSON
    status: int = 200
    script: tuple[str, ...] = ()
    script_more: tuple[tuple[str, Any], ...] = ()


ARGUMENTS: Final = '{"a":1,"b":"x"}'
CUT: Final = '{"reason":"max_output_tokens"}'
CRASHED: Final = "an error was encountered while running the model: unexpected EOF"
FAILURE: Final = '{"code":"server_error","message":"%s"}'
TOKEN: Final = (
    '{"token":"%s","logprob":-0.125,"bytes":[%d],"top_logprobs":[{"token":"%s","logprob":-0.125,"bytes":[%d]},'
    '{"token":"a","logprob":-2.5,"bytes":[97]}]}'
)

ANSWERS: Final = {
    "text": Golden({"model": "hello", "input": "hi"}, response("completed", message("Hello, world"), (3, 4, 7))),
    "text, stream": Golden(
        {"model": "hello", "input": "hi", "stream": True},
        stream(
            *begun(),
            *message_events(0, "Hello", ", ", "world"),
            ended("completed", response("completed", message("Hello, world"), (3, 4, 7))),
        ),
        EVENTS,
    ),
    "cut": Golden(
        {"model": "hello", "input": "hi", "max_output_tokens": 1},
        response("incomplete", message("Hello", "incomplete"), (3, 1, 4), details=CUT).replace(
            '"max_output_tokens":null', '"max_output_tokens":1'
        ),
    ),
    "cut, stream": Golden(
        {"model": "hello", "input": "hi", "options": {"num_predict": 1}, "stream": True},
        stream(
            *begun(),
            *message_events(0, "Hello", status="incomplete"),
            ended("incomplete", response("incomplete", message("Hello", "incomplete"), (3, 1, 4), details=CUT)),
        ),
        EVENTS,
    ),
    "nothing": Golden({"model": "hello", "input": "hi"}, response("completed", message(""), (3, 2, 5)), script=("",)),
    "nothing, stream": Golden(
        {"model": "hello", "input": "hi", "stream": True},
        stream(*begun(), *message_events(0), ended("completed", response("completed", message(""), (3, 2, 5)))),
        EVENTS,
        script=("",),
    ),
    "odd characters, stream": Golden(
        {"model": "hello", "input": "hi", "stream": True},
        stream(
            *begun(),
            *message_events(0, '<b>&\\"\\\\\\u2028\\n\u4e16\U0001f44b'),
            ended("completed", response("completed", message('<b>&\\"\\\\\\u2028\\n\u4e16\U0001f44b'), (3, 2, 5))),
        ),
        EVENTS,
        script=('<b>&"\\\u2028\n\u4e16\U0001f44b',),
    ),
    "thought": Golden(
        {"model": "tooler", "input": "hi"},
        response("completed", thought("hm") + "," + message("Yes."), (3, 6, 9), model="tooler"),
        script=SAYS_THOUGHT,
    ),
    "thought, stream": Golden(
        {"model": "tooler", "input": "hi", "stream": True},
        stream(
            *begun(model="tooler"),
            *thought_events(0, "hm"),
            *message_events(1, "Yes", "."),
            ended("completed", response("completed", thought("hm") + "," + message("Yes."), (3, 6, 9), model="tooler")),
        ),
        EVENTS,
        script=SAYS_THOUGHT,
    ),
    "call": Golden(
        {"model": "tooler", "input": "hi", "tools": [FUNCTION]},
        response("completed", message("I look.\\n") + "," + call(ARGUMENTS), (4, 5, 9), model="tooler", tools=TOLD),
        script=SAYS_CALL,
    ),
    "call, stream": Golden(
        {"model": "tooler", "input": "hi", "tools": [FUNCTION], "stream": True},
        stream(
            *begun(model="tooler", tools=TOLD),
            *message_events(0, "I ", "look.\\n"),
            *call_events(1, ARGUMENTS),
            ended(
                "completed",
                response("completed", message("I look.\\n") + "," + call(ARGUMENTS), (4, 5, 9), model="tooler", tools=TOLD),
            ),
        ),
        EVENTS,
        script=SAYS_CALL,
    ),
    "calls in pieces, stream": Golden(
        {"model": "tooler", "input": "hi", "tools": [FUNCTION], "stream": True},
        stream(
            *begun(model="tooler", tools=TOLD),
            *call_events(0, '{"a":', "1}"),
            *call_events(1, "{}"),
            *message_events(2, "\\nSo."),
            ended(
                "completed",
                response(
                    "completed",
                    call('{"a":1}') + "," + call("{}") + "," + message("\\nSo."),
                    (4, 7, 11),
                    model="tooler",
                    tools=TOLD,
                ),
            ),
        ),
        EVENTS,
        script=(
            '<tool_call>\n{"name": "f", "arguments": {"a": ',
            "1}}\n</tool_call>",
            "\n",
            '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>',
            "\n",
            "So.",
        ),
    ),
    "a call that is cut, stream": Golden(
        {"model": "tooler", "input": "hi", "tools": [FUNCTION], "options": {"num_predict": 1}, "stream": True},
        stream(
            *begun(model="tooler", tools=TOLD),
            *call_events(0, '{"a":', is_complete=False),
            ended(
                "incomplete",
                response("incomplete", call('{"a":', "incomplete"), (4, 1, 5), model="tooler", tools=TOLD, details=CUT),
            ),
        ),
        EVENTS,
        script=('<tool_call>\n{"name": "f", "arguments": {"a": ', "1}}\n</tool_call>"),
    ),
    "a failure": Golden(
        {"model": "hello", "input": "hi"},
        '{"error":{"message":"prediction aborted","type":"api_error","param":null,"code":null}}',
        status=500,
        script=("a", "b"),
        script_more=(("failure", EngineError("prediction aborted")),),
    ),
    "a failure in mid-stream": Golden(
        {"model": "hello", "input": "hi", "stream": True},
        stream(
            *begun(),
            *message_events(0, "a")[:3],
            ended("failed", response("failed", message("a", "incomplete"), error=FAILURE % CRASHED)),
        ),
        EVENTS,
        script=("a", "b"),
        script_more=(("crash_after", 1),),
    ),
    "logprobs": Golden(
        {"model": "hello", "input": "hi", "include": ["message.output_text.logprobs"], "top_logprobs": 2},
        response(
            "completed", message("ab", logprobs=TOKEN % ("a", 97, "a", 97) + "," + TOKEN % ("b", 98, "b", 98)), (3, 3, 6)
        ).replace('"top_logprobs":0', '"top_logprobs":2'),
        script=("a", "b"),
    ),
}


@pytest.fixture
async def served(rig: Rig) -> Rig:
    """With a second model, `tooler`, that thinks and calls tools."""
    body = {"model": "tooler", "from": "hello", "template": CALLER_TEMPLATE, "stream": False}
    assert (await rig.http.post("/api/create", json=body)).json() == {"status": "success"}
    return rig


@pytest.mark.parametrize("golden", ANSWERS.values(), ids=ANSWERS.keys())
async def test_answer_is_the_same_byte_for_byte(served: Rig, golden: Golden) -> None:
    if golden.script:
        served.say(*golden.script, **dict(golden.script_more))
    reply = await served.http.post("/v1/responses", json=golden.body)
    assert masked(reply.text) == golden.answer
    assert (reply.status_code, reply.headers["content-type"]) == (golden.status, golden.type)
