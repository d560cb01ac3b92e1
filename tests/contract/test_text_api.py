"""What Corral has beside Ollama's API: tokens, prompts, rankings, likeliest tokens, and what is told of a cut conversation."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.conftest import Rig
from tests.support.gguf_bert import random_bert, write_bert
from tests.support.gguf_files import write_scripted
from tests.support.stores import add_model

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
TEMPLATE = (
    "{% if tools %}{{ tools|map(attribute='function')|map(attribute='name')|join }}\n{% endif %}"
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant]"
)


@pytest.fixture
def text(rig: Rig, tmp_path: Path) -> Rig:
    """A server with a model that ranks, too, and one with a template of its own."""
    add_model(rig.corral.store, "ranker", write_bert(tmp_path / "r.gguf", random_bert(classes=1), pooling="rank"))
    add_model(rig.corral.store, "chatty", write_scripted(tmp_path / "c.gguf", "Hello.", jinja=TEMPLATE))
    rig.launcher.vectors = {"good": (2.0,), "bad": (-2.0,)}
    return rig


async def ask(rig: Rig, path: str, body: dict[str, Any]) -> httpx.Response:
    return await rig.http.post(path, content=json.dumps(body))


def masked(reply: httpx.Response) -> str:
    return re.sub(r'(_duration":)[1-9]\d*', r"\1N", reply.text)


DURATIONS = '"total_duration":N,"load_duration":N'
GIVEN: dict[str, tuple[str, dict[str, Any], str]] = {
    "tokenize": ("/api/tokenize", {"content": "a <b> c"}, '{"model":"hello","tokens":[0,1001,2],' + DURATIONS + "}"),
    "tokenize, other words": ("/api/tokenize", {"text": "a"}, '{"model":"hello","tokens":[0],' + DURATIONS + "}"),
    "tokenize, Ollama's word": ("/api/tokenize", {"prompt": "a"}, '{"model":"hello","tokens":[0],' + DURATIONS + "}"),
    "tokenize, nothing": (
        "/api/tokenize",
        {"content": "", "keep_alive": "1m", "with_pieces": True},
        '{"model":"hello","tokens":[],"pieces":[],' + DURATIONS + "}",
    ),
    "tokenize, plain": (
        "/api/tokenize",
        {"content": "a <b>", "parse_special": False, "add_special": True, "with_pieces": True},
        '{"model":"hello","tokens":[0,1],"pieces":["0","1"],' + DURATIONS + "}",
    ),
    "detokenize": ("/api/detokenize", {"tokens": [3, 1]}, '{"model":"hello","content":"3 1",' + DURATIONS + "}"),
    "detokenize, nothing": ("/api/detokenize", {"tokens": None}, '{"model":"hello","content":"",' + DURATIONS + "}"),
    "apply-template": (
        "/api/apply-template",
        {
            "model": "chatty",
            "messages": [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "Hi <|im_end|>"}],
            "think": False,
        },
        '{"model":"chatty","prompt":"[system] Be terse.\\n[user] Hi <|im_end|>\\n[assistant]"}',
    ),
    "apply-template, tools": (
        "/api/apply-template",
        {"model": "chatty", "messages": [{"role": "user", "content": "Hi"}], "tools": [TOOL]},
        '{"model":"chatty","prompt":"weather\\n[user] Hi\\n[assistant]"}',
    ),
    "rerank": (
        "/api/rerank",
        {"model": "ranker", "query": "q", "documents": ["bad", {"text": "good"}], "return_documents": True},
        '{"model":"ranker","results":[{"index":1,"relevance_score":0.8807970779778823,"document":{"text":"good"}},'
        '{"index":0,"relevance_score":0.11920292202211755,"document":{"text":"bad"}}],' + DURATIONS + ',"prompt_eval_count":4}',
    ),
    "rerank, raw": (
        "/api/rerank",
        {"model": "ranker", "query": "q", "documents": ["bad", "good"], "top_n": 1, "raw_scores": True, "truncate": False},
        '{"model":"ranker","results":[{"index":1,"relevance_score":2.0}],' + DURATIONS + ',"prompt_eval_count":4}',
    ),
    "rerank, nothing": ("/api/rerank", {"model": "ranker", "documents": []}, '{"model":"ranker","results":[]}'),
}


@pytest.mark.parametrize("name", GIVEN)
async def test_answers(text: Rig, name: str) -> None:
    path, body, wanted = GIVEN[name]
    reply = await ask(text, path, {"model": "hello"} | body)
    assert (reply.status_code, masked(reply)) == (200, wanted)
    assert reply.headers["content-type"] == "application/json; charset=utf-8"


async def test_tokens_and_prompts_load_no_model(text: Rig) -> None:
    for name in ("tokenize", "detokenize", "apply-template"):
        path, body, _ = GIVEN[name]
        await ask(text, path, {"model": "hello"} | body)
    assert [spec.vocab_only for spec in text.launcher.specs] == [True]
    assert (await text.http.get("/api/ps")).json() == {"models": []}


async def test_prompt_is_the_one_that_chat_sends(text: Rig) -> None:
    body = {"model": "chatty", "messages": [{"role": "user", "content": "Hi"}]}
    prompt = (await ask(text, "/api/apply-template", body)).json()["prompt"]
    await ask(text, "/api/chat", body)
    assert [job.prompt for engine in text.launcher.engines for job in engine.jobs] == [prompt]


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "tokenize: nothing to tokenize": ("/api/tokenize", {}, "content is required"),
    "tokenize: a wrong type": (
        "/api/tokenize",
        {"content": 5},
        "json: cannot unmarshal number into Go struct field TokenizeRequest.content of type string",
    ),
    "tokenize: no model": ("/api/tokenize", {"model": "", "content": "a"}, "model is required"),
    "tokenize: how long": ("/api/tokenize", {"content": "a", "keep_alive": []}, "Unsupported type: '[]interface {}'"),
    "tokenize: too long": (
        "/api/tokenize",
        {"content": "x" * (4 << 20) + "x"},
        "the text has 4194305 bytes or more, and 4194304 are taken; send it in several requests",
    ),
    "detokenize: no token": (
        "/api/detokenize",
        {"tokens": [1, 2000]},
        "token 2000 is not in the model's vocabulary, which has the tokens 0 to 1999",
    ),
    "detokenize: below 0": (
        "/api/detokenize",
        {"tokens": [-1]},
        "token -1 is not in the model's vocabulary, which has the tokens 0 to 1999",
    ),
    "detokenize: beyond 32 bits": (
        "/api/detokenize",
        {"tokens": [1, 1 << 31]},
        "json: cannot unmarshal number 2147483648 into Go struct field DetokenizeRequest.tokens of type int32",
    ),
    "detokenize: no number": (
        "/api/detokenize",
        {"tokens": ["1"]},
        "json: cannot unmarshal string into Go struct field DetokenizeRequest.tokens of type int",
    ),
    "apply-template: no messages": ("/api/apply-template", {"messages": []}, "messages are required"),
    "apply-template: no model": ("/api/apply-template", {"model": "", "messages": [{}]}, "model is required"),
    "apply-template: tools": (
        "/api/apply-template",
        {"messages": [{"role": "user", "content": "a"}], "tools": [TOOL]},
        "registry.ollama.ai/library/hello:latest does not support tools",
    ),
    "rerank: no ranker": ("/api/rerank", {"query": "q", "documents": ["a"]}, '"hello" does not support rerank'),
    "rerank: no query": ("/api/rerank", {"model": "ranker", "documents": ["a"]}, "query is required"),
    "rerank: no text": (
        "/api/rerank",
        {"model": "ranker", "query": "q", "documents": ["a", {"image": "x"}]},
        "documents[1] has no text",
    ),
    "rerank: a wrong type": (
        "/api/rerank",
        {"model": "ranker", "query": "q", "documents": [["a"]]},
        "json: cannot unmarshal array into Go struct field RerankRequest.documents of type string",
    ),
    "rerank: too few": (
        "/api/rerank",
        {"model": "ranker", "query": "q", "documents": ["a"], "top_n": 0},
        "top_n must be 1 or more, not 0; leave it out to get all documents",
    ),
    "rerank: too long": (
        "/api/rerank",
        {"model": "ranker", "query": "q", "documents": ["a " * 300], "truncate": False},
        "the prompt is longer than the context length currently available to the model: request (301 tokens) exceeds the "
        "available context size (256 tokens); shorten the prompt or raise num_ctx",
    ),
    "a ranker embeds": ("/api/embed", {"model": "ranker", "input": "a"}, '"ranker" does not support embeddings: it ranks'),
    "a ranker chats": (
        "/api/chat",
        {"model": "ranker", "messages": [{"role": "user", "content": "a"}]},
        '"ranker" does not support chat',
    ),
    "too many likeliest tokens": (
        "/api/generate",
        {"prompt": "a", "options": {"n_probs": 21}},
        'option "n_probs" must be between 0 and 20',
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_refusals(text: Rig, name: str) -> None:
    path, body, wanted = REFUSED[name]
    reply = await ask(text, path, {"model": "hello"} | body)
    assert reply.status_code == 400
    assert reply.json()["error"].startswith(wanted)


@pytest.mark.parametrize("path", ["/api/tokenize", "/api/detokenize", "/api/apply-template", "/api/rerank"])
async def test_model_that_is_not_there(text: Rig, path: str) -> None:
    body = {"model": "nope", "content": "a", "messages": [{"role": "user", "content": "a"}], "query": "q", "documents": ["a"]}
    reply = await ask(text, path, body)
    assert (reply.status_code, reply.json()) == (404, {"error": "model 'nope' not found"})


async def test_show_tells_that_a_model_ranks(text: Rig) -> None:
    assert (await ask(text, "/api/show", {"model": "ranker"})).json()["capabilities"] == ["rerank"]
    listed = (await text.http.get("/api/tags")).json()["models"]
    assert {model["model"]: model["capabilities"] for model in listed}["ranker:latest"] == ["rerank"]


@pytest.mark.parametrize(
    ("body", "most"),
    [
        ({"options": {"n_probs": 3}}, 3),
        ({"options": {"n_probs": 3}, "logprobs": True, "top_logprobs": 1}, 3),
        ({"options": {"n_probs": 1}, "logprobs": True, "top_logprobs": 2}, 2),
        ({"options": {"n_probs": 0}}, None),
        ({"options": {"n_probs": -1}, "logprobs": True}, 0),
    ],
)
async def test_likeliest_tokens_by_llama_cpps_name(text: Rig, body: dict[str, Any], most: int | None) -> None:
    reply = (await ask(text, "/api/generate", {"model": "hello", "prompt": "a", "stream": False} | body)).json()
    shown = {len(token.get("top_logprobs", [])) for token in reply.get("logprobs", [])}
    assert shown == (set() if most is None else {most})


LONG = [{"role": "user" if number % 2 == 0 else "assistant", "content": "word " * 60} for number in range(9)]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_cut_conversation_is_told_before_its_answer(text: Rig, path: str, stream: bool) -> None:
    body = {"model": "chatty", "messages": LONG, "stream": stream, "options": {"num_ctx": 256}}
    reply = await ask(text, path, body)
    assert reply.status_code == 200
    assert reply.headers["x-context-truncated"] == "dropped_messages=6, prompt_tokens_total=550"
    assert reply.headers["access-control-expose-headers"] == "x-context-truncated"
    if path == "/api/chat":
        last = json.loads(reply.text.splitlines()[-1])
        assert (last["truncated"], last["dropped_messages"], last["prompt_tokens_total"]) == (True, 6, 550)


@pytest.mark.parametrize("stream", [True, False])
async def test_conversation_that_fits_has_no_such_header(text: Rig, stream: bool) -> None:
    reply = await ask(text, "/api/chat", {"model": "chatty", "messages": LONG[-1:], "stream": stream})
    assert reply.status_code == 200
    assert "x-context-truncated" not in reply.headers


async def test_cut_context_of_tokens_is_told_too(text: Rig) -> None:
    body = {"model": "hello", "prompt": "word " * 30, "context": list(range(300)), "options": {"num_ctx": 256}}
    reply = await ask(text, "/api/generate", body)
    assert reply.headers["x-context-truncated"].startswith("dropped_messages=0, prompt_tokens_total=3")


async def test_conversation_that_may_not_be_cut_is_refused(text: Rig) -> None:
    body = {"model": "chatty", "messages": LONG, "truncate": False, "options": {"num_ctx": 256}}
    reply = await ask(text, "/api/chat", body)
    assert reply.status_code == 400
    assert "request (550 tokens) exceeds the available context size (256 tokens)" in reply.json()["error"]
    assert "x-context-truncated" not in reply.headers
