"""Golden answers: the bytes of every native endpoint's answers, streamed and in one piece.

Times, durations, digests and sizes of files are masked; every other byte is as a client gets it.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

import httpx
import pytest

from corral import __version__
from corral.core.errors import EngineError
from tests.contract.conftest import Rig, Upload
from tests.support.fake_registry import FakeRegistry

JSON: Final = "application/json; charset=utf-8"
PLAIN_JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
TEXT: Final = "text/plain; charset=utf-8"
MASKS: Final = (
    (
        re.compile(r'"(created_at|modified_at|expires_at)":"\d{4,}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)"'),
        r'"\1":<time>',
    ),
    (re.compile(r'"(total_duration|load_duration)":\d+'), r'"\1":<ns>'),
    (re.compile(r"[0-9a-f]{64}"), "<hex>"),
    (re.compile(r"pulling [0-9a-f]{12}\b"), "pulling <hex>"),
    (re.compile(r"FROM /\S*/blobs/sha256-<hex>"), "FROM <blob>"),
    (re.compile(r'"size":\d{3,}'), '"size":<bytes>'),
    (re.compile(r"\[-?0\.\d+(?:,-?0\.\d+)*\]"), "<floats>"),
)
ENDING: Final = (
    '"total_duration":<ns>,"load_duration":<ns>,"prompt_eval_count":%d,"prompt_eval_cached_count":0,'
    '"prompt_eval_duration":1000000,"eval_count":%d,"eval_duration":2000000'
)
DETAILS: Final = (
    '"parent_model":"","format":"gguf","family":"llama","families":["llama"],"parameter_size":"425K","quantization_level":"F16"'
)
HELLO: Final = '"name":"hello:latest","model":"hello:latest"'
HI: Final = [{"role": "user", "content": "hi"}]


def masked(text: str) -> str:
    for pattern, name in MASKS:
        text = pattern.sub(name, text)
    return text


@dataclass(frozen=True, slots=True)
class Golden:
    path: str
    body: dict[str, Any] | None
    answer: str
    type: str = JSON
    method: str = "POST"
    status: int = 200
    script: tuple[str, ...] = ()
    script_more: tuple[tuple[str, Any], ...] = ()
    is_loaded: bool = False  # the model, before it is asked


async def ask(rig: Rig, golden: Golden) -> httpx.Response:
    if golden.is_loaded:
        await rig.http.post("/api/generate", json={"model": "hello"})
    if golden.script:
        rig.say(*golden.script, **dict(golden.script_more))
    return await rig.http.request(golden.method, golden.path, json=golden.body)


def chat_line(content: str, more: str = '"done":false') -> str:
    return f'{{"model":"hello","created_at":<time>,"message":{{"role":"assistant","content":"{content}"}},{more}}}'


def generate_line(response: str, more: str = '"done":false') -> str:
    return f'{{"model":"hello","created_at":<time>,"response":"{response}",{more}}}'


def lines(*texts: str) -> str:
    return "".join(f"{text}\n" for text in texts)


def status(text: str) -> str:
    return f'{{"status":"{text}"}}'


def error(text: str) -> str:
    return f'{{"error":"{text}"}}'


CHAT_END: Final = '"done":true,"done_reason":"stop",' + ENDING % (3, 4)
GENERATE_END: Final = '"done":true,"done_reason":"stop","context":[0,1],' + ENDING % (1, 4)
ODD: Final = 'Gr\u00fc\u00dfe <b>&</b> "q" \\ \u2028\n\t\u4e16\U0001f44b'
ODD_LINE: Final = 'Gr\u00fc\u00dfe <b>&</b> \\"q\\" \\\\ \\u2028\\n\\t\u4e16\U0001f44b'
ODD_WHOLE: Final = 'Gr\u00fc\u00dfe <b>&</b> \\"q\\" \\\\ \u2028\\n\\t\u4e16\U0001f44b'

ONE: Final = (
    '{"token":"%s","logprob":-0.125,"bytes":[%s],'
    '"top_logprobs":[{"token":"%s","logprob":-0.125,"bytes":[%s]},{"token":"a","logprob":-2.5,"bytes":[97]}]}'
)
GRUESS: Final = ONE % ("Gr\u00fc\u00df", "71,114,195,188,195,159", "Gr\u00fc\u00df", "71,114,195,188,195,159")
DOT: Final = '{"token":".","logprob":-0.125,"bytes":[46],"top_logprobs":[{"token":".","logprob":-0.125,"bytes":[46]}]}'

ANSWERS: Final = {
    "chat, stream, logprobs": Golden(
        "/api/chat",
        {"model": "hello", "messages": HI, "logprobs": True, "top_logprobs": 2},
        lines(
            chat_line("Gr\u00fc\u00df", f'"done":false,"logprobs":[{GRUESS}]'),
            chat_line("", CHAT_END.replace('count":4', 'count":2')),
        ),
        NDJSON,
        script=("Gr\u00fc\u00df",),
    ),
    "chat, single, logprobs without others": Golden(
        "/api/chat",
        {"model": "hello", "messages": HI, "logprobs": True, "stream": False},
        chat_line(
            "..",
            '"done":true,"done_reason":"stop","logprobs":['
            + ",".join(['{"token":".","logprob":-0.125,"bytes":[46]}'] * 2)
            + "],"
            + (ENDING % (3, 3)),
        ),
        script=(".", "."),
    ),
    "generate, stream, logprobs": Golden(
        "/api/generate",
        {"model": "hello", "prompt": "hi", "logprobs": True, "top_logprobs": 1},
        lines(
            generate_line(".", f'"done":false,"logprobs":[{DOT}]'),
            generate_line("", GENERATE_END.replace('count":4', 'count":2').replace("[0,1]", "[0]")),
        ),
        NDJSON,
        script=(".",),
    ),
    "chat, top_logprobs alone": Golden(
        "/api/chat",
        {"model": "hello", "messages": HI, "top_logprobs": 3, "stream": False},
        chat_line("Hello, world", CHAT_END),
    ),
    "chat, stream": Golden(
        "/api/chat",
        {"model": "hello", "messages": HI},
        lines(chat_line("Hello"), chat_line(", "), chat_line("world"), chat_line("", CHAT_END)),
        NDJSON,
    ),
    "chat, single": Golden(
        "/api/chat", {"model": "hello", "messages": HI, "stream": False}, chat_line("Hello, world", CHAT_END)
    ),
    "chat, stream, cut at num_predict": Golden(
        "/api/chat",
        {"model": "hello", "messages": HI, "options": {"num_predict": 1}},
        lines(chat_line("Hello"), chat_line("", CHAT_END.replace("stop", "length").replace('count":4', 'count":1'))),
        NDJSON,
    ),
    "chat, stream, odd characters": Golden(
        "/api/chat",
        {"model": "hello", "messages": HI},
        lines(chat_line(ODD_LINE), chat_line("", CHAT_END.replace('count":4', 'count":2'))),
        NDJSON,
        script=(ODD,),
    ),
    "chat, single, odd characters": Golden(
        "/api/chat",
        {"model": "hello", "messages": HI, "stream": False},
        chat_line(ODD_WHOLE, CHAT_END.replace('count":4', 'count":2')),
        script=(ODD,),
    ),
    "chat, load": Golden("/api/chat", {"model": "hello"}, chat_line("", '"done":true,"done_reason":"load"')),
    "chat, load, single": Golden(
        "/api/chat", {"model": "hello", "stream": False}, chat_line("", '"done":true,"done_reason":"load"')
    ),
    "chat, unload": Golden(
        "/api/chat", {"model": "hello", "messages": [], "keep_alive": 0}, chat_line("", '"done":true,"done_reason":"unload"')
    ),
    "chat, render": Golden(
        "/api/chat",
        {"model": "hello", "messages": HI, "_debug_render_only": True},
        '{"model":"hello","created_at":<time>,"message":{"role":"","content":""},"done":false,'
        '"_debug_info":{"rendered_template":"<|im_start|>user\\nhi<|im_end|>\\n<|im_start|>assistant\\n"}}',
    ),
    "chat, stream, error": Golden(
        "/api/chat",
        {"model": "hello", "messages": HI},
        lines(chat_line("a"), error("an error was encountered while running the model: unexpected EOF")),
        NDJSON,
        script=("a", "b"),
        script_more=(("crash_after", 1),),
    ),
    "chat, single, error": Golden(
        "/api/chat",
        {"model": "hello", "messages": HI, "stream": False},
        error("prediction aborted, token repeat limit reached"),
        status=500,
        script=("a", "b"),
        script_more=(("failure", EngineError("prediction aborted, token repeat limit reached")),),
    ),
    "chat, shortened": Golden(
        "/api/chat",
        {
            "model": "hello",
            "messages": [{"role": "user", "content": "w " * 300}, {"role": "assistant", "content": "x"}, *HI],
            "options": {"num_ctx": 256},
            "stream": False,
        },
        chat_line("Hello, world", CHAT_END + ',"truncated":true,"prompt_tokens_total":307,"dropped_messages":2'),
    ),
    "generate, stream": Golden(
        "/api/generate",
        {"model": "hello", "prompt": "hi"},
        lines(generate_line("Hello"), generate_line(", "), generate_line("world"), generate_line("", GENERATE_END)),
        NDJSON,
    ),
    "generate, single": Golden(
        "/api/generate", {"model": "hello", "prompt": "hi", "stream": False}, generate_line("Hello, world", GENERATE_END)
    ),
    "generate, raw": Golden(
        "/api/generate",
        {"model": "hello", "prompt": "1 2 3", "raw": True, "stream": False},
        generate_line("Hello, world", '"done":true,"done_reason":"stop",' + ENDING % (3, 4)),
    ),
    "generate, context": Golden(
        "/api/generate",
        {"model": "hello", "prompt": "hi", "context": [7, 8], "stream": False},
        generate_line("Hello, world", '"done":true,"done_reason":"stop","context":[7,8,0,1],' + ENDING % (3, 4)),
    ),
    "generate, context cut": Golden(
        "/api/generate",
        {
            "model": "hello",
            "prompt": "hi",
            "context": list(range(300)),
            "options": {"num_ctx": 256, "num_keep": 0},
            "stream": False,
        },
        generate_line(
            "Hello, world",
            f'"done":true,"done_reason":"stop","context":[{",".join(map(str, [*range(173, 300), 0, 1]))}],'
            + ENDING % (128, 4)
            + ',"truncated":true,"prompt_tokens_total":301',
        ),
    ),
    "generate, load": Golden("/api/generate", {"model": "hello"}, generate_line("", '"done":true,"done_reason":"load"')),
    "generate, unload": Golden(
        "/api/generate", {"model": "hello", "keep_alive": 0}, generate_line("", '"done":true,"done_reason":"unload"')
    ),
    "generate, render": Golden(
        "/api/generate",
        {"model": "hello", "prompt": "hi", "template": "<{{ .Prompt }}>", "_debug_render_only": True},
        '{"model":"hello","created_at":<time>,"response":"","done":false,"_debug_info":{"rendered_template":"<hi>"}}',
    ),
    "generate, stream, error": Golden(
        "/api/generate",
        {"model": "hello", "prompt": "hi"},
        lines(generate_line("a"), error("an error was encountered while running the model: unexpected EOF")),
        NDJSON,
        script=("a", "b"),
        script_more=(("crash_after", 1),),
    ),
    "embed, list": Golden(
        "/api/embed",
        {"model": "hello", "input": ["a", "b"]},
        '{"model":"hello","embeddings":[<floats>,<floats>],"total_duration":<ns>,"load_duration":<ns>,"prompt_eval_count":2}',
    ),
    "embed, nothing": Golden("/api/embed", {"model": "hello", "input": []}, '{"model":"hello","embeddings":[]}'),
    "embeddings": Golden("/api/embeddings", {"model": "hello", "prompt": "a"}, '{"embedding":<floats>}'),
    "embeddings, nothing": Golden("/api/embeddings", {"model": "hello"}, '{"embedding":[]}'),
    "tags": Golden(
        "/api/tags",
        None,
        f'{{"models":[{{{HELLO},"modified_at":<time>,"size":<bytes>,"digest":"<hex>",'
        f'"details":{{{DETAILS},"context_length":4096,"embedding_length":256}},"capabilities":["completion"]}}]}}',
        method="GET",
    ),
    "ps": Golden(
        "/api/ps",
        None,
        f'{{"models":[{{{HELLO},"size":<bytes>,"digest":"<hex>","details":{{{DETAILS}}},"expires_at":<time>,"size_vram":0,'
        '"context_length":4096}]}',
        method="GET",
        is_loaded=True,
    ),
    "ps, nothing": Golden("/api/ps", None, '{"models":[]}', method="GET"),
    "show": Golden(
        "/api/show",
        {"model": "hello", "system": "Be brief."},
        '{"modelfile":"# Modelfile generated by \\"ollama show\\"\\n# To build a new Modelfile based on this, replace FROM '
        'with:\\n# FROM hello:latest\\n\\nFROM <blob>\\nTEMPLATE {{ .Prompt }}\\nSYSTEM Be brief.\\n",'
        '"template":"{{ .Prompt }}",'
        f'"system":"Be brief.","details":{{{DETAILS}}},"model_info":{{"general.architecture":"llama","general.file_type":1,'
        '"general.parameter_count":425216,"general.quantization_version":2,"llama.attention.head_count":4,'
        '"llama.attention.head_count_kv":4,"llama.attention.layer_norm_rms_epsilon":0.00001,"llama.block_count":1,'
        '"llama.context_length":4096,"llama.embedding_length":256,"llama.feed_forward_length":32,'
        '"llama.rope.dimension_count":64,"llama.vocab_size":269,"tokenizer.ggml.add_bos_token":false,'
        '"tokenizer.ggml.bos_token_id":257,"tokenizer.ggml.eos_token_id":257,"tokenizer.ggml.merges":null,'
        '"tokenizer.ggml.model":"gpt2","tokenizer.ggml.padding_token_id":257,"tokenizer.ggml.pre":"gpt-2",'
        '"tokenizer.ggml.token_type":null,"tokenizer.ggml.tokens":null},"tensors":['
        '{"name":"token_embd.weight","type":"F16","shape":[256,269]},{"name":"output_norm.weight","type":"F32","shape":[256]},'
        '{"name":"output.weight","type":"F16","shape":[256,269]},{"name":"blk.0.attn_norm.weight","type":"F32","shape":[256]},'
        '{"name":"blk.0.attn_q.weight","type":"F16","shape":[256,256]},{"name":"blk.0.attn_k.weight","type":"F16",'
        '"shape":[256,256]},{"name":"blk.0.attn_v.weight","type":"F16","shape":[256,256]},{"name":"blk.0.attn_output.weight",'
        '"type":"F16","shape":[256,256]},{"name":"blk.0.ffn_norm.weight","type":"F32","shape":[256]},'
        '{"name":"blk.0.ffn_gate.weight","type":"F16","shape":[256,32]},{"name":"blk.0.ffn_up.weight","type":"F16",'
        '"shape":[256,32]},{"name":"blk.0.ffn_down.weight","type":"F16","shape":[32,256]}],"capabilities":["completion"],'
        '"modified_at":<time>}',
    ),
    "copy": Golden("/api/copy", {"source": "hello", "destination": "bye"}, "", type=""),
    "delete": Golden("/api/delete", {"model": "hello"}, "", type="", method="DELETE"),
    "create, stream": Golden(
        "/api/create",
        {"model": "mario", "from": "hello", "system": "It's me."},
        lines(
            status("using existing layer sha256:<hex>"),
            status("creating new layer sha256:<hex>"),
            status("writing manifest"),
            status("success"),
        ),
        NDJSON,
    ),
    "create, single": Golden(
        "/api/create", {"model": "mario", "from": "hello", "stream": False}, status("success"), PLAIN_JSON
    ),
    "create, error": Golden(
        "/api/create", {"model": "mario"}, error("neither 'from' or 'files' was specified"), PLAIN_JSON, status=400
    ),
    "push, stream, error": Golden(
        "/api/push",
        {"model": "nope"},
        lines(status("retrieving manifest"), status("couldn't retrieve manifest"), error("model 'nope:latest' not found")),
        NDJSON,
    ),
    "version": Golden("/api/version", None, f'{{"version":"0.40.12","corral":"{__version__}"}}', method="GET"),
    "root": Golden("/", None, "Ollama is running", TEXT, method="GET"),
    "wrong method": Golden("/api/show", None, "405 method not allowed", "text/plain", method="GET", status=405),
    "not found": Golden("/api/generate", {"model": "nope", "prompt": "hi"}, error("model 'nope' not found"), status=404),
}


@pytest.mark.parametrize("golden", [pytest.param(golden, id=name) for name, golden in ANSWERS.items()])
async def test_answer_is_the_same_byte_for_byte(rig: Rig, golden: Golden) -> None:
    reply = await ask(rig, golden)
    kind = reply.headers.get("content-type", "")
    assert (reply.status_code, kind, masked(reply.text)) == (golden.status, golden.type, golden.answer)


async def test_blob_answers_are_the_same_byte_for_byte(empty: Rig, hello_gguf: Upload) -> None:
    path = f"/api/blobs/{hello_gguf.digest}"
    answers = [
        await empty.http.head(path),
        await empty.http.post(path, content=hello_gguf.data),
        await empty.http.post(path, content=hello_gguf.data),
        await empty.http.head(path),
        await empty.http.post("/api/blobs/sha256:zz", content=b"x"),
    ]
    assert [(reply.status_code, reply.headers.get("content-type"), reply.text) for reply in answers] == [
        (404, JSON, ""),
        (201, None, ""),
        (200, None, ""),
        (200, None, ""),
        (400, JSON, error("invalid digest format")),
    ]


async def test_pull_is_the_same_byte_for_byte(empty: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    layer = '{"status":"pulling <hex>","digest":"sha256:<hex>","total":%d,"completed":%d}'
    async with FakeRegistry() as registry:
        registry.add(b"GGUF" + bytes(1000))
        body = {"model": registry.name(), "insecure": True}
        stream = await empty.http.post("/api/pull", json=body)
        single = await empty.http.post("/api/pull", json=body | {"stream": False})
    assert (stream.status_code, stream.headers["content-type"]) == (200, NDJSON)
    assert masked(stream.text) == lines(
        status("pulling manifest"),
        layer % (1004, 1004),
        layer % (3, 3),
        status("verifying sha256 digest"),
        status("writing manifest"),
        status("success"),
    )
    assert (single.status_code, single.headers["content-type"], single.text) == (200, PLAIN_JSON, status("success"))


def test_masks_hide_what_changes_and_nothing_else() -> None:
    line = '{"created_at":"2026-11-21T09:35:46.657Z","done":true,"total_duration":5,"eval_count":5,"digest":"%s"}' % ("a1" * 32)
    assert masked(line) == '{"created_at":<time>,"done":true,"total_duration":<ns>,"eval_count":5,"digest":"<hex>"}'
