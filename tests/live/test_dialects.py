"""The same conversation through all four APIs, against real workers: the same text, the same calls, the same counts."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import pytest

from tests.support.callers import CALLER_TEMPLATE, SAYS_CALL, SAYS_THOUGHT, TOOL
from tests.support.gguf_files import write_random
from tests.support.process import Server, serving

TURNS: Final = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "hello"},
    {"role": "user", "content": "and now?"},
]
FUNCTION: Final = TOOL["function"]
Read = Callable[[Any], tuple[str, str, list[Any], int, int]]  # text, thought, calls, tokens of prompt and answer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """What `random` says depends on all that was said; `tooler` calls a tool, `thinker` thinks first."""
    folder = tmp_path_factory.mktemp("scripted")
    with serving(tmp_path_factory.mktemp("home")) as made:
        made.add(write_random(folder / "random.gguf"), "random")
        for name, say in {"tooler": "".join(SAYS_CALL), "thinker": "".join(SAYS_THOUGHT)}.items():
            made.add_scripted(f"bare-{name}", say, folder)
            body = {"model": name, "from": f"bare-{name}", "template": CALLER_TEMPLATE, "stream": False}
            assert made.call("POST", "/api/create", body)[0] == 200
        yield made


def native(got: Any) -> tuple[str, str, list[Any], int, int]:
    message = got["message"]
    calls = [(call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls", ())]
    return message["content"], message.get("thinking", ""), calls, got["prompt_eval_count"], got["eval_count"]


def openai(got: Any) -> tuple[str, str, list[Any], int, int]:
    (choice,) = got["choices"]
    message, used = choice["message"], got["usage"]
    calls = [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in message.get("tool_calls", ())]
    return message["content"], message.get("reasoning", ""), calls, used["prompt_tokens"], used["completion_tokens"]


def responses(got: Any) -> tuple[str, str, list[Any], int, int]:
    items, used = got["output"], got["usage"]
    text = "".join(part["text"] for item in items if item["type"] == "message" for part in item["content"])
    thought = "".join(part["text"] for item in items if item["type"] == "reasoning" for part in item["summary"])
    calls = [(item["name"], json.loads(item["arguments"])) for item in items if item["type"] == "function_call"]
    return text, thought, calls, used["input_tokens"], used["output_tokens"]


def anthropic(got: Any) -> tuple[str, str, list[Any], int, int]:
    blocks, used = got["content"], got["usage"]
    text = "".join(block["text"] for block in blocks if block["type"] == "text")
    thought = "".join(block["thinking"] for block in blocks if block["type"] == "thinking")
    calls = [(block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"]
    return text, thought, calls, used["input_tokens"], used["output_tokens"]


def everywhere(server: Server, model: str, *, tools: bool = False, thinks: bool = False) -> dict[str, Any]:
    """What each API answers, in the same words."""
    said = {"model": model, "stream": False}
    schema = FUNCTION["parameters"]
    requests: Mapping[str, tuple[Read, dict[str, Any]]] = {
        "/api/chat": (
            native,
            {"messages": TURNS, "options": {"temperature": 0, "num_predict": 40}} | ({"tools": [TOOL]} if tools else {}),
        ),
        "/v1/chat/completions": (
            openai,
            {"messages": TURNS, "temperature": 0, "max_completion_tokens": 40} | ({"tools": [TOOL]} if tools else {}),
        ),
        "/v1/responses": (
            responses,
            {"input": TURNS, "temperature": 0, "max_output_tokens": 40}
            | ({"tools": [{"type": "function", **FUNCTION}]} if tools else {}),
        ),
        "/v1/messages": (
            anthropic,
            {"messages": TURNS, "temperature": 0, "max_tokens": 40}
            | ({"tools": [{"name": FUNCTION["name"], "input_schema": schema}]} if tools else {})
            | ({"thinking": {"type": "adaptive"}} if thinks else {}),
        ),
    }
    out = {}
    for path, (read, body) in requests.items():
        status, text = server.call("POST", path, said | body)
        assert status == 200, f"{path}: {text}"
        out[path] = read(json.loads(text))
    return out


def the_same(answers: Mapping[str, Any]) -> Any:
    first, *others = answers.values()
    assert all(other == first for other in others), answers
    return first


def test_text(server: Server) -> None:
    text, thought, calls, prompt_tokens, answer_tokens = the_same(everywhere(server, "random"))
    assert text
    assert (thought, calls, answer_tokens) == ("", [], 40)
    assert prompt_tokens > 3


def test_calls(server: Server) -> None:
    text, _, calls, _, _ = the_same(everywhere(server, "tooler", tools=True))
    assert (text.strip(), calls) == ("I look.", [("f", {"a": 1, "b": "x"})])


def test_thoughts(server: Server) -> None:
    text, thought, _, _, _ = the_same(everywhere(server, "thinker", thinks=True))
    assert (text, thought) == ("Yes.", "hm")
