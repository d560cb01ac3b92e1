"""Golden answers of OpenAI's API: the bytes of every endpoint's answers, streamed and in one piece.

Ids and times are masked; every other byte is as a client gets it.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

import pytest

from corral.core.errors import EngineError
from tests.contract.conftest import Rig
from tests.support.callers import CALLER_TEMPLATE, SAYS_CALL, SAYS_THOUGHT, TOOL

JSON: Final = "application/json; charset=utf-8"
PLAIN_JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
MASKS: Final = (
    (re.compile(r'"id":"(chatcmpl-|cmpl-)[0-9a-f]{32}"'), r'"id":"\1<id>"'),
    (re.compile(r'"created":\d{10}\b'), '"created":<time>'),
    (re.compile(r'"id":"[A-Za-z0-9]{32}"'), '"id":"<call>"'),
    (re.compile(r'"embedding":\[-?0\.\d+(?:,-?0\.\d+)*\]'), '"embedding":<floats>'),
    (re.compile(r'"embedding":"[A-Za-z0-9+/]+=*"'), '"embedding":<base64>'),
)
HI: Final = [{"role": "user", "content": "hi"}]
HEAD: Final = '"created":<time>,"model":"%s","system_fingerprint":"fp_ollama"'
DONE: Final = "data: [DONE]\n\n"
USAGE: Final = (
    '"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,"prompt_tokens_details":{"cached_tokens":0},'
    '"completion_tokens_details":{"reasoning_tokens":0}}'
)


def masked(text: str) -> str:
    for pattern, name in MASKS:
        text = pattern.sub(name, text)
    return text


def chunk(choices: str, model: str = "hello") -> str:
    head = HEAD % model
    return f'data: {{"id":"chatcmpl-<id>","object":"chat.completion.chunk",{head},"choices":[{choices}]}}\n\n'


def delta(delta: str, reason: str = "null", index: int = 0, more: str = "") -> str:
    return f'{{"index":{index},"delta":{{{delta}}},"finish_reason":{reason}{more}}}'


def text_chunk(choices: str, more: str = "") -> str:
    return (
        f'data: {{"id":"cmpl-<id>","object":"text_completion","created":<time>,"choices":[{choices}],"model":"hello",'
        f'"system_fingerprint":"fp_ollama"{more}}}\n\n'
    )


def text(said: str, reason: str = "null", index: int = 0, more: str = "") -> str:
    return f'{{"text":"{said}","index":{index},"finish_reason":{reason}{more}}}'


def whole(choices: str, used: tuple[int, int, int], model: str = "hello", more: str = "") -> str:
    return f'{{{more}"id":"chatcmpl-<id>","object":"chat.completion",{HEAD % model},"choices":[{choices}],{USAGE % used}}}'


def completion(choices: str, used: tuple[int, int, int]) -> str:
    return f'{{"id":"cmpl-<id>","object":"text_completion",{HEAD % "hello"},"choices":[{choices}],{USAGE % used}}}'


def error(message: str, kind: str = "invalid_request_error", param: str = "null", code: str = "null") -> str:
    return f'{{"error":{{"message":"{message}","type":"{kind}","param":{param},"code":{code}}}}}'


@dataclass(frozen=True, slots=True)
class Golden:
    body: dict[str, Any] | str | None
    answer: str
    type: str = PLAIN_JSON
    path: str = "/v1/chat/completions"
    status: int = 200
    script: tuple[str, ...] = ()
    script_more: tuple[tuple[str, Any], ...] = ()


HELLO_CHUNKS: Final = (
    chunk(delta('"role":"assistant","content":"Hello"'))
    + chunk(delta('"content":", "'))
    + chunk(delta('"content":"world"'))
    + chunk(delta("", '"stop"'))
)
CALL: Final = (
    '"tool_calls":[{"id":"<call>","index":0,"type":"function",'
    '"function":{"name":"f","arguments":"{\\"a\\":1,\\"b\\":\\"x\\"}"}}]'
)
ONE: Final = (
    '{"token":"%s","logprob":-0.125,"bytes":[%s],"top_logprobs":[{"token":"%s","logprob":-0.125,"bytes":[%s]},'
    '{"token":"a","logprob":-2.5,"bytes":[97]}]}'
)
UE: Final = ONE % ("\u00fc", "195,188", "\u00fc", "195,188")

ANSWERS: Final = {
    "chat, stream": Golden({"model": "hello", "messages": HI, "stream": True}, HELLO_CHUNKS + DONE, EVENTS),
    "chat, stream, usage": Golden(
        {"model": "hello", "messages": HI, "stream": True, "stream_options": {"include_usage": True}},
        HELLO_CHUNKS + chunk("").replace("[]}", f"[],{USAGE % (3, 4, 7)}}}") + DONE,
        EVENTS,
    ),
    "chat, stream, cut": Golden(
        {"model": "hello", "messages": HI, "stream": True, "max_completion_tokens": 1},
        chunk(delta('"role":"assistant","content":"Hello"')) + chunk(delta("", '"length"')) + DONE,
        EVENTS,
    ),
    "chat, stream, nothing": Golden(
        {"model": "hello", "messages": HI, "stream": True},
        chunk(delta('"role":"assistant","content":""')) + chunk(delta("", '"stop"')) + DONE,
        EVENTS,
        script=("",),
    ),
    "chat, stream, odd characters": Golden(
        {"model": "hello", "messages": HI, "stream": True},
        chunk(delta('"role":"assistant","content":"<b>&\\"\\\\\\u2028\\n\u4e16\U0001f44b"'))
        + chunk(delta("", '"stop"'))
        + DONE,
        EVENTS,
        script=('<b>&"\\\u2028\n\u4e16\U0001f44b',),
    ),
    "chat, stream, logprobs": Golden(
        {"model": "hello", "messages": HI, "stream": True, "logprobs": True, "top_logprobs": 2},
        chunk(delta('"role":"assistant","content":"\u00fc"', more=f',"logprobs":{{"content":[{UE}]}}'))
        + chunk(delta("", '"stop"'))
        + DONE,
        EVENTS,
        script=("\u00fc",),
    ),
    "chat, stream, call": Golden(
        {"model": "tooler", "messages": HI, "tools": [TOOL], "stream": True},
        chunk(delta('"role":"assistant","content":"I "'), "tooler")
        + chunk(delta('"content":"look.\\n"'), "tooler")
        + chunk(delta('"content":"",' + CALL), "tooler")
        + chunk(delta("", '"tool_calls"'), "tooler")
        + DONE,
        EVENTS,
        script=SAYS_CALL,
    ),
    "chat, stream, thought": Golden(
        {"model": "tooler", "messages": HI, "stream": True},
        chunk(delta('"role":"assistant","content":"","reasoning":"hm","reasoning_content":"hm"'), "tooler")
        + chunk(delta('"content":"Yes"'), "tooler")
        + chunk(delta('"content":"."'), "tooler")
        + chunk(delta("", '"stop"'), "tooler")
        + DONE,
        EVENTS,
        script=SAYS_THOUGHT,
    ),
    "chat, stream, error": Golden(
        {"model": "hello", "messages": HI, "stream": True},
        chunk(delta('"role":"assistant","content":"a"'))
        + "data: "
        + error("an error was encountered while running the model: unexpected EOF", "api_error")
        + "\n\n",
        EVENTS,
        script=("a", "b"),
        script_more=(("crash_after", 1),),
    ),
    "chat, single": Golden(
        {"model": "hello", "messages": HI},
        whole('{"index":0,"message":{"role":"assistant","content":"Hello, world"},"finish_reason":"stop"}', (3, 4, 7)),
    ),
    "chat, single, two": Golden(
        {"model": "hello", "messages": HI, "n": 2},
        whole(
            '{"index":0,"message":{"role":"assistant","content":"Hello, world"},"finish_reason":"stop"},'
            '{"index":1,"message":{"role":"assistant","content":"Hello, world"},"finish_reason":"stop"}',
            (3, 8, 11),
        ),
    ),
    "chat, single, call": Golden(
        {"model": "tooler", "messages": HI, "tools": [TOOL]},
        whole(
            f'{{"index":0,"message":{{"role":"assistant","content":"I look.\\n",{CALL}}},"finish_reason":"tool_calls"}}',
            (4, 5, 9),
            "tooler",
        ),
        script=SAYS_CALL,
    ),
    "chat, single, error": Golden(
        {"model": "hello", "messages": HI},
        error("prediction aborted, token repeat limit reached", "api_error"),
        status=500,
        script=("a", "b"),
        script_more=(("failure", EngineError("prediction aborted, token repeat limit reached")),),
    ),
    "chat, single, shortened": Golden(
        {
            "model": "hello",
            "messages": [{"role": "user", "content": "w " * 300}, {"role": "assistant", "content": "x"}, *HI],
            "num_ctx": 256,
        },
        whole(
            '{"index":0,"message":{"role":"assistant","content":"Hello, world"},"finish_reason":"stop"}',
            (3, 4, 7),
            more='"truncated":true,"prompt_tokens_total":307,"dropped_messages":2,',
        ),
    ),
    "completions, stream": Golden(
        {"model": "hello", "prompt": "hi", "stream": True, "stream_options": {"include_usage": True}},
        text_chunk(text("Hello"))
        + text_chunk(text(", "))
        + text_chunk(text("world"))
        + text_chunk(text("", '"stop"'))
        + text_chunk("", "," + USAGE % (1, 4, 5))
        + DONE,
        EVENTS,
        "/v1/completions",
    ),
    "completions, stream, error": Golden(
        {"model": "hello", "prompt": "hi", "stream": True},
        text_chunk(text("a"))
        + "data: "
        + error("an error was encountered while running the model: unexpected EOF", "api_error")
        + "\n\n",
        EVENTS,
        "/v1/completions",
        script=("a", "b"),
        script_more=(("crash_after", 1),),
    ),
    "completions, single": Golden(
        {"model": "hello", "prompt": "hi", "echo": True},
        completion(text("hiHello, world", '"stop"'), (1, 4, 5)),
        path="/v1/completions",
    ),
    "completions, texts": Golden(
        {"model": "hello", "prompt": ["hi", "ho ho"]},
        completion(text("Hello, world", '"stop"') + "," + text("Hello, world", '"stop"', 1), (3, 8, 11)),
        path="/v1/completions",
    ),
    "completions, tokens": Golden(
        {"model": "hello", "prompt": [1, 2, 3]},
        completion(text("Hello, world", '"stop"'), (3, 4, 7)),
        path="/v1/completions",
    ),
    "completions, lists of tokens": Golden(
        {"model": "hello", "prompt": [[1, 2, 3], [4]]},
        completion(text("Hello, world", '"stop"') + "," + text("Hello, world", '"stop"', 1), (4, 8, 12)),
        path="/v1/completions",
    ),
    "completions, tokens, echoed": Golden(
        {"model": "hello", "prompt": [7, 8], "echo": True},
        completion(text("7 8Hello, world", '"stop"'), (2, 4, 6)),
        path="/v1/completions",
    ),
    "completions, logprobs": Golden(
        {"model": "hello", "prompt": "hi", "logprobs": 1},
        completion(
            text(
                "ab",
                '"stop"',
                more=',"logprobs":{"tokens":["a","b"],"token_logprobs":[-0.125,-0.125],'
                '"top_logprobs":[{"a":-0.125},{"b":-0.125}],"text_offset":[0,1]}',
            ),
            (1, 3, 4),
        ),
        path="/v1/completions",
        script=("a", "b"),
    ),
    "embeddings": Golden(
        {"model": "hello", "input": ["a", "b c"]},
        '{"object":"list","data":[{"object":"embedding","embedding":<floats>,"index":0},'
        '{"object":"embedding","embedding":<floats>,"index":1}],"model":"hello","usage":{"prompt_tokens":3,"total_tokens":3}}',
        path="/v1/embeddings",
    ),
    "embeddings, base64": Golden(
        {"model": "hello", "input": "a", "encoding_format": "base64"},
        '{"object":"list","data":[{"object":"embedding","embedding":<base64>,"index":0}],"model":"hello",'
        '"usage":{"prompt_tokens":1,"total_tokens":1}}',
        path="/v1/embeddings",
    ),
    "embeddings, tokens": Golden(
        {"model": "hello", "input": [[7, 8, 9], [7]]},
        '{"object":"list","data":[{"object":"embedding","embedding":<floats>,"index":0},'
        '{"object":"embedding","embedding":<floats>,"index":1}],"model":"hello","usage":{"prompt_tokens":4,"total_tokens":4}}',
        path="/v1/embeddings",
    ),
    "embeddings, no tokens": Golden(
        {"model": "hello", "input": [7, 2000]},
        error("token 2000 is not in the model's vocabulary, which has the tokens 0 to 1999"),
        path="/v1/embeddings",
        status=400,
    ),
    "models": Golden(
        None,
        '{"object":"list","data":[{"id":"tooler:latest","object":"model","created":<time>,"owned_by":"library"},'
        '{"id":"hello:latest","object":"model","created":<time>,"owned_by":"library"}]}',
        path="/v1/models",
    ),
    "model": Golden(None, '{"id":"hello","object":"model","created":<time>,"owned_by":"library"}', path="/v1/models/hello"),
    "model, its long name": Golden(
        None,
        '{"id":"registry.ollama.ai/library/hello:latest","object":"model","created":<time>,"owned_by":"library"}',
        path="/v1/models/registry.ollama.ai/library/hello:latest",
    ),
    "model, none": Golden(None, error("model 'nope:latest' not found", "not_found_error"), path="/v1/models/nope", status=404),
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
    reply = await served.http.request("POST" if golden.body else "GET", golden.path, json=golden.body)
    assert masked(reply.text) == golden.answer
    assert (reply.status_code, reply.headers["content-type"]) == (golden.status, golden.type)


async def test_no_models_are_a_list(empty: Rig) -> None:
    assert (await empty.http.get("/v1/models")).json() == {"object": "list", "data": []}
