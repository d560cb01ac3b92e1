"""Golden answers of Anthropic's API: the bytes of its endpoints' answers, streamed and in one piece.

Ids are masked; every other byte is as a client gets it.
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
    (re.compile(r'"id":"msg_[0-9a-f]{24}"'), '"id":"<message>"'),
    (re.compile(r'"id":"[A-Za-z0-9]{32}"'), '"id":"<call>"'),
    (re.compile(r'"request_id":"req_[0-9a-f]{16}"'), '"request_id":"<request>"'),
)
HI: Final = [{"role": "user", "content": "hi"}]
TOOL: Final = {"name": "f", "input_schema": {"type": "object"}}
THINKING: Final = {"type": "enabled", "budget_tokens": 1024}


def masked(text: str) -> str:
    for pattern, name in MASKS:
        text = pattern.sub(name, text)
    return text


def event(name: str, more: str = "") -> str:
    return f'event: {name}\ndata: {{"type":"{name}"{more and "," + more}}}\n\n'


def usage(prompt: int, said: int, cached: int = 0) -> str:
    return (
        f'"usage":{{"input_tokens":{prompt},"cache_creation_input_tokens":0,"cache_read_input_tokens":{cached},'
        f'"output_tokens":{said}}}'
    )


def start(prompt: int, model: str = "hello", cached: int = 0) -> str:
    message = message_of("", "null", usage(prompt, 0, cached), model)
    return event("message_start", f'"message":{message}')


def block(index: int, head: str, *pieces: str) -> str:
    deltas = (event("content_block_delta", f'"index":{index},"delta":{{{piece}}}') for piece in pieces)
    return (
        event("content_block_start", f'"index":{index},"content_block":{{{head}}}')
        + "".join(deltas)
        + event("content_block_stop", f'"index":{index}')
    )


def text(index: int, *pieces: str) -> str:
    return block(index, '"type":"text","text":""', *(f'"type":"text_delta","text":"{piece}"' for piece in pieces))


def end(prompt: int, said: int, reason: str = "end_turn", sequence: str = "null", cached: int = 0) -> str:
    delta = f'"delta":{{"stop_reason":"{reason}","stop_sequence":{sequence}}},{usage(prompt, said, cached)}'
    return event("message_delta", delta) + event("message_stop")


def message_of(content: str, reason: str, used: str, model: str = "hello", sequence: str = "null") -> str:
    return (
        f'{{"type":"message","id":"<message>","role":"assistant","model":"{model}","content":[{content}],'
        f'"stop_reason":{reason},"stop_sequence":{sequence},{used}}}'
    )


@dataclass(frozen=True, slots=True)
class Golden:
    body: dict[str, Any]
    answer: str
    type: str = EVENTS
    path: str = "/v1/messages"
    script: tuple[str, ...] = ()
    script_more: tuple[tuple[str, Any], ...] = ()


GOLDEN: Final = {
    "one piece": Golden(
        {},
        message_of('{"type":"text","text":"Hello, world"}', '"end_turn"', usage(3, 4)),
        type=PLAIN_JSON,
    ),
    "stream": Golden({"stream": True}, start(3) + text(0, "Hello", ", ", "world") + end(3, 4)),
    "length": Golden(
        {"max_tokens": 2}, message_of('{"type":"text","text":"Hello, "}', '"max_tokens"', usage(3, 2)), type=PLAIN_JSON
    ),
    "length, streamed": Golden({"max_tokens": 2, "stream": True}, start(3) + text(0, "Hello", ", ") + end(3, 2, "max_tokens")),
    "stop sequence": Golden(
        {"stop_sequences": ["END"]},
        message_of('{"type":"text","text":"So"}', '"stop_sequence"', usage(3, 2), sequence='"END"'),
        type=PLAIN_JSON,
        script=("So",),
        script_more=(("stop_text", "END"),),
    ),
    "stop sequence, streamed": Golden(
        {"stop_sequences": ["END"], "stream": True},
        start(3) + text(0, "So") + end(3, 2, "stop_sequence", '"END"'),
        script=("So",),
        script_more=(("stop_text", "END"),),
    ),
    "cached": Golden(
        {"stream": True, "cache_control": {"type": "ephemeral"}},
        start(1, cached=2) + text(0, "So") + end(1, 2, cached=2),
        script=("So",),
        script_more=(("cached_tokens", 2),),
    ),
    "tools": Golden(
        {"model": "tooler", "tools": [TOOL]},
        message_of(
            '{"type":"text","text":"I look.\\n"},{"type":"tool_use","id":"<call>","name":"f","input":{"a":1,"b":"x"}}',
            '"tool_use"',
            usage(4, 5),
            "tooler",
        ),
        type=PLAIN_JSON,
        script=SAYS_CALL,
    ),
    "tools, streamed": Golden(
        {"model": "tooler", "tools": [TOOL], "stream": True},
        start(4, "tooler")
        + text(0, "I ", "look.\\n")
        + block(
            1,
            '"type":"tool_use","id":"<call>","name":"f","input":{}',
            r'"type":"input_json_delta","partial_json":"{\"a\":1,\"b\":\"x\"}"',
        )
        + end(4, 5, "tool_use"),
        script=SAYS_CALL,
    ),
    "thinking": Golden(
        {"model": "tooler", "thinking": THINKING},
        message_of(
            '{"type":"thinking","thinking":"hm","signature":"Y29ycmFs"},{"type":"text","text":"Yes."}',
            '"end_turn"',
            usage(3, 6),
            "tooler",
        ),
        type=PLAIN_JSON,
        script=SAYS_THOUGHT,
    ),
    "thinking, streamed": Golden(
        {"model": "tooler", "thinking": THINKING, "stream": True},
        start(3, "tooler")
        + block(0, '"type":"thinking","thinking":""', '"type":"thinking_delta","thinking":"hm"')
        + text(1, "Yes", ".")
        + end(3, 6),
        script=SAYS_THOUGHT,
    ),
    "thinking is off": Golden(
        {"model": "tooler"},
        message_of('{"type":"text","text":"Yes."}', '"end_turn"', usage(3, 6), "tooler"),
        type=PLAIN_JSON,
        script=SAYS_THOUGHT,
    ),
    "failure in mid-stream": Golden(
        {"stream": True},
        start(3)
        + text(0, "So").removesuffix(event("content_block_stop", '"index":0'))
        + event("error", '"error":{"type":"api_error","message":"boom"},"request_id":"<request>"'),
        script=("So",),
        script_more=(("failure", EngineError("boom")),),
    ),
    "count": Golden({}, '{"input_tokens":3}', type=PLAIN_JSON, path="/v1/messages/count_tokens"),
}


@pytest.mark.parametrize("golden", GOLDEN.values(), ids=GOLDEN)
async def test_answer_is_the_same_byte_for_byte(rig: Rig, golden: Golden) -> None:
    body = {"model": "tooler", "from": "hello", "template": CALLER_TEMPLATE, "stream": False}
    assert (await rig.http.post("/api/create", json=body)).json() == {"status": "success"}
    if golden.script:
        rig.say(*golden.script, **dict(golden.script_more))
    reply = await rig.http.post(golden.path, json={"model": "hello", "max_tokens": 50, "messages": HI} | golden.body)
    assert (reply.status_code, reply.headers["content-type"]) == (200, golden.type)
    assert masked(reply.text) == golden.answer
