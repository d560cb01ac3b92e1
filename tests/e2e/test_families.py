"""A model of every family whose template is at hand says its call and its thought, over HTTP: template, tokenizer, decode,
sampling, grammar and parser together. What the family says is cut out of what its own template renders.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from corral.core.types import Message
from corral.parse import AnswerFormat, MessageFormat, Render, learn, markers
from corral.parse.units import is_tag, words
from corral.template import compile_jinja
from tests.support.answers import (
    CASES,
    QUESTION,
    TOOLS,
    Said,
    calling,
    render_of,
    said_by_template,
    shows_calls,
    written,
)
from tests.support.gguf_files import write_scripted
from tests.support.process import Server, serving
from tests.support.template_facts import BARE_CALLS, IN_MESSAGES, TEMPLATES, WITHOUT_THOUGHT, beside

ANY_OBJECT = {"type": "object", "description": "what", "properties": {}, "additionalProperties": {}}
# As TOOLS, but taking everything that CASES has: a call is held to its tool's schema.
OPEN_TOOLS: list[dict[str, Any]] = deepcopy(list(TOOLS))
for _tool in OPEN_TOOLS:
    _parameters = _tool["function"]["parameters"]
    _parameters["required"] = []
    _parameters["properties"] = {
        key: ANY_OBJECT if key == "filter" else value for key, value in _parameters["properties"].items()
    }
ANSWER = "It is sunny there."
THOUGHT = "The user asks. I look it up."
_END_CHARS = 100
CALLS = {name: CASES[name] for name in ("single", "parallel", "nested", "quotes and newlines", "empty")}


@dataclass(frozen=True, slots=True)
class Family:
    source: str
    render: Render
    form: AnswerFormat
    eos: str

    @property
    def opened(self) -> str:
        """What an answer begins with that is to say something else than a thought: the end of the one that the prompt opens."""
        prompt = self.render((QUESTION,), TOOLS, think=True)
        thought = self.form.thought
        is_open = thought is not None and prompt.rstrip().endswith(thought.open.strip())
        return THOUGHT + thought.close if thought and is_open else ""


@lru_cache
def family(path: Path) -> Family:
    source = path.read_text()
    render = render_of(compile_jinja(source, bos_token="<s>", eos_token="</s>"))
    answered = render((QUESTION, Message(role="assistant", content=ANSWER)), ())
    ending = answered.partition(ANSWER)[2]
    form = learn(render, source)
    eos = next((word for word in words(ending) if is_tag(word) and word not in markers(form)), "</s>")
    return Family(source, render, form, eos)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("home"), CORRAL_MAX_LOADED_MODELS="1") as server:
        yield server


@dataclass(frozen=True, slots=True)
class Reply:
    thinking: str
    content: str
    calls: list[tuple[str, dict[str, Any]]]
    reason: str


def says(server: Server, folder: Path, it: Family, say: str, *, as_controls: bool) -> None:
    """Makes the model `m` of the family, and has it say that and nothing else."""
    once = [mark for mark in markers(it.form) if say.count(mark) == 1 and not re.search(r"\s", mark)]
    apart = [mark for mark in once if not any(mark in other and mark != other for other in once)]
    controls = apart if as_controls else []
    prompt = it.render((QUESTION,), TOOLS, think=True)[-_END_CHARS:]
    ends = [tag for tag in words(prompt) if is_tag(tag) and tag not in say]  # a prompt that ends in a piece goes on from there
    path = write_scripted(
        folder / "m.gguf", say, jinja=it.source, eos=it.eos, special=["<s>", *ends], bos="<s>", controls=controls, context=32768
    )
    data = path.read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert server.call("POST", f"/api/blobs/{digest}", data)[0] in (200, 201)
    status, text = server.call("POST", "/api/create", {"model": "m", "files": {"m.gguf": digest}, "stream": False})
    assert status == 200, text


def chat(server: Server, *, stream: bool, **more: Any) -> Reply:
    body = {"model": "m", "messages": [{"role": "user", "content": QUESTION.content}], "stream": stream, **more}
    status, text = server.call("POST", "/api/chat", body | {"options": {"num_predict": 400, "num_ctx": 8192}})
    assert status == 200, text
    lines = [json.loads(line) for line in text.splitlines()]
    assert lines[-1]["done"], lines[-1]
    messages = [line["message"] for line in lines]
    calls = [call for message in messages for call in message.get("tool_calls", ())]
    assert [call["function"]["index"] for call in calls] == list(range(len(calls)))
    assert len({call["id"] for call in calls}) == len(calls)
    return Reply(
        thinking="".join(message.get("thinking", "") for message in messages),
        content="".join(message["content"] for message in messages),
        calls=[(call["function"]["name"], call["function"]["arguments"]) for call in calls],
        reason=lines[-1]["done_reason"],
    )


ENDS_ALIKE = (
    "GigaChat3-10B-A1.8B"  # prompt and marker of a call end alike: a scripted model, which has no memory, cannot play it
)


def tells_of_tools(path: Path) -> bool:
    """Some templates show calls and have no place for the tools."""
    return path.stem != ENDS_ALIKE and compile_jinja(path.read_text()).has_tools and shows_calls(family(path).form)


CALLING = [path for path in TEMPLATES if tells_of_tools(path)]


@pytest.mark.parametrize("as_controls", [False, True], ids=["tags as text", "tags as control tokens"])
@pytest.mark.parametrize("path", CALLING, ids=lambda path: path.stem)
def test_call_of_a_family_comes_out_of_the_chat(server: Server, tmp_path: Path, path: Path, as_controls: bool) -> None:
    it = family(path)
    is_bare = path.stem in BARE_CALLS  # a second call of theirs follows behind the grammar's end, in the midst of a piece
    name = "single" if as_controls or is_bare else list(CALLS)[CALLING.index(path) % len(CALLS)]
    said = said_by_template(it.render, calling(CALLS[name]))
    if said is None and isinstance(it.form, MessageFormat):
        said = said_by_template(it.render, calling(CALLS[name := "single"]))
    said = said or Said("", written(it.form.calls, CALLS[name]))
    says(server, tmp_path, it, it.opened + said.text.rstrip(), as_controls=as_controls)
    for stream in (True, False):
        reply = chat(server, stream=stream, tools=OPEN_TOOLS)
        assert (reply.calls, reply.content.strip(), reply.reason) == (list(CALLS[name]), "", "stop")


# One of each form; none whose scripted pieces hold the end of one call and the beginning of the next.
ONE_BY_ONE = [
    path
    for path in CALLING
    if path.stem
    in {
        "GLM-4.6",
        "Kimi-K2-Instruct",
        "LFM2-8B-A1B",
        "Mistral-Small-3.2-24B-Instruct-2506",
        "Qwen-Qwen2.5-7B-Instruct",
        "Qwen3-Coder",
        "deepseek-ai-DeepSeek-V3.2",
        "google-gemma-4-31B-it-interleaved",
        "mistralai-Mistral-Nemo-Instruct-2407",
    }
]


@pytest.mark.parametrize("path", ONE_BY_ONE, ids=lambda path: path.stem)
def test_answer_ends_behind_its_first_call_where_calls_may_not_be_parallel(server: Server, tmp_path: Path, path: Path) -> None:
    it = family(path)
    said = said_by_template(it.render, calling(CALLS["parallel"]))
    says(
        server,
        tmp_path,
        it,
        it.opened + (said.text if said else written(it.form.calls, CALLS["parallel"])).rstrip(),
        as_controls=False,
    )
    for stream in (True, False):
        reply = chat(server, stream=stream, tools=OPEN_TOOLS, parallel_tool_calls=False)
        assert (reply.calls, reply.content.strip(), reply.reason) == (list(CALLS["parallel"][:1]), "", "stop")
    reply = chat(server, stream=False, tools=OPEN_TOOLS)
    assert reply.calls == list(CALLS["parallel"])


THINKING = beside(WITHOUT_THOUGHT, IN_MESSAGES)


@pytest.mark.parametrize("path", THINKING, ids=lambda path: path.stem)
def test_thought_of_a_family_comes_out_of_the_chat(server: Server, tmp_path: Path, path: Path) -> None:
    it = family(path)
    assert it.form.thought
    opening = "" if it.opened else it.form.thought.open
    says(server, tmp_path, it, opening + THOUGHT + it.form.thought.close + ANSWER, as_controls=True)
    for stream in (True, False):
        reply = chat(server, stream=stream)
        assert (reply.thinking.strip(), reply.content.strip(), reply.calls) == (THOUGHT, ANSWER, [])
