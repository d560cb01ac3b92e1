"""What is learned from a template: small templates of our own, each writing calls in another way."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from corral.core.errors import BadRequestError
from corral.core.types import Message
from corral.parse import (
    BracedCalls,
    JsonCalls,
    MessageFormat,
    NamedCalls,
    Pair,
    PlainFormat,
    PythonCalls,
    Render,
    TaggedCalls,
    learn,
)
from corral.parse.probe_text import NAMES, NUMBER, TEXT, TEXT_KEY, THOUGHT
from corral.template import compile_go, compile_jinja
from tests.support.answers import (
    CASES,
    TOOLS,
    Said,
    calling,
    calls_of,
    content_of,
    cuts,
    parsed,
    render_of,
    said_by_template,
    thought_of,
    written,
)


def jinja(call: str, *, before: str = "", after: str = "", between: str = "", thought: str = "") -> str:
    """A template whose assistant's turns have calls, each written like this: `name` and `arguments` are the call's."""
    return (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content %}" + thought + "{% endif %}{{ m.content }}"
        "{% if m.tool_calls %}" + before + "{% for c in m.tool_calls %}{% set name = c.function.name %}"
        "{% set arguments = c.function.arguments %}" + call + "{% if not loop.last %}" + between + "{% endif %}{% endfor %}"
        + after + "{% endif %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n{# tools #}"
    )  # fmt: skip


FUNCTION_GEMMA = (
    "{% macro say(v) %}{% if v is string %}<escape>{{ v }}<escape>{% elif v is mapping %}{{ '{' }}"
    "{% for k, x in v | dictsort %}{{ k }}:{{ say(x) }}{{ ',' if not loop.last }}{% endfor %}{{ '}' }}"
    "{% elif v is sequence %}[{% for x in v %}{{ say(x) }}{{ ',' if not loop.last }}{% endfor %}]"
    "{% else %}{{ v | tojson }}{% endif %}{% endmacro %}"
) + jinja("<start_function_call>call:{{ name }}{{ say(arguments) }}<end_function_call>")
PARAMETERS = (
    "{% for k, v in arguments | items %}<parameter={{ k }}>{{ v if v is string else v | tojson }}</parameter>\n{% endfor %}"
)
SEED = jinja(
    "<seed:tool_call>\n<function={{ name }}>\n" + PARAMETERS + "</function>\n</seed:tool_call>",
    between="\n",
    thought="<seed:think>{{ m.reasoning_content }}</seed:think>",
)
JSON = '{"name": "{{ name }}", "arguments": {{ arguments | tojson }}}'
LEARNED = {
    "objects in tags": (jinja(f"<tool_call>\n{JSON}\n</tool_call>", between="\n"), JsonCalls),
    "objects in other tags": (jinja(f"<|plug|>{JSON}<|/plug|>"), JsonCalls),
    "list after a token": (jinja(JSON, before="[CALLS] [", between=", ", after="]"), JsonCalls),
    "bare list": (jinja(JSON, before="[", between=", ", after="]"), JsonCalls),
    "bare objects": (jinja(JSON, between="\n"), JsonCalls),
    "inner object": (jinja('<call>{"type": "function", "function": ' + JSON + "}</call>"), JsonCalls),
    "arguments as text": (
        jinja('<call>{"name": "{{ name }}", "arguments": {{ arguments | tojson | tojson }}}</call>', between="\n"),
        JsonCalls,
    ),
    "name and fence": (
        jinja("<|call|>function<|sep|>{{ name }}\n```json\n{{ arguments | tojson }}\n```<|/call|>", before="<|calls|>"),
        NamedCalls,
    ),
    "name in brackets": (jinja("[TOOL_CALLS]{{ name }}[CALL_ID]{{ c.id }}[ARGS]{{ arguments | tojson }}"), NamedCalls),
    "name and number": (
        jinja("<|call|>functions.{{ name }}:{{ loop.index0 }}<|args|>{{ arguments | tojson }}<|end|>", before="<|in|>"),
        NamedCalls,
    ),
    "tags": (SEED, TaggedCalls),
    "braces": (FUNCTION_GEMMA, BracedCalls),
}  # fmt: skip


def learned_of(source: str) -> tuple[Render, PlainFormat]:
    render = render_of(compile_jinja(source))
    form = learn(render, source)
    assert isinstance(form, PlainFormat)
    return render, form


def check(render: Render, form: PlainFormat) -> None:
    """What the template writes is read, and what the format writes is what the template writes."""
    for calls in CASES.values():
        said = said_by_template(render, calling(calls))
        assert said is not None
        for chunks in cuts(said.text).values():
            events = parsed(form, said, chunks)
            assert calls_of(events) == list(calls)
            assert content_of(events) == ""
        own = Said("", written(form.calls, calls))
        assert calls_of(parsed(form, own, [own.text])) == list(calls)


@pytest.mark.parametrize("name", LEARNED)
def test_format_is_learned_from_what_a_template_renders(name: str) -> None:
    source, body = LEARNED[name]
    render, form = learned_of(source)
    assert form.family == "probed"
    assert isinstance(form.calls.body, body)
    check(render, form)


@pytest.mark.parametrize("name", ["objects in tags", "list after a token", "bare objects", "name and fence", "tags", "braces"])
def test_learned_format_is_exact(name: str) -> None:
    render, form = learned_of(LEARNED[name][0])
    for case in ("single", "parallel", "empty"):
        said = said_by_template(render, calling(CASES[case]))
        assert said is not None
        assert written(form.calls, CASES[case]) == said.text


def go(call: str, *, before: str = "", after: str = "") -> str:
    """A Go template in the manner of Ollama's library."""
    return (
        "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ if .Thinking }}<think>\n{{ .Thinking }}\n</think>\n\n{{ end }}"
        "{{ .Content }}{{ if .ToolCalls }}"
        + before
        + "{{ range .ToolCalls }}"
        + call
        + "{{ end }}"
        + after
        + "{{ end }}<|im_end|>\n"
        "{{ end }}{{ if .Tools }}{{ end }}<|im_start|>assistant\n"
    )


GO_JSON = '{"name": "{{ .Function.Name }}", "KEY": {{ .Function.Arguments }}}'
GO = {
    "hermes": go("<tool_call>\n" + GO_JSON.replace("KEY", "arguments") + "\n</tool_call>\n"),
    "llama": go(GO_JSON.replace("KEY", "parameters")),
    "mistral": go(GO_JSON.replace("KEY", "arguments"), before="[TOOL_CALLS] [", after="]"),
    "list": go(GO_JSON.replace("KEY", "arguments"), before="[", after="]"),
}


@pytest.mark.parametrize("name", GO)
def test_go_template_teaches_the_same_way(name: str) -> None:
    render = render_of(compile_go(GO[name]))
    form = learn(render, GO[name])
    assert isinstance(form, PlainFormat)
    assert form.calls.is_bare == (name in ("llama", "list"))
    assert form.thought is not None
    assert (form.thought.open, form.thought.close) == ("<think>\n", "\n</think>\n\n")
    for case in ("single", "nested", "unicode", "quotes and newlines", "empty"):
        said = said_by_template(render, calling(CASES[case]))
        assert said is not None
        for chunks in cuts(said.text).values():
            assert calls_of(parsed(form, said, chunks)) == list(CASES[case])
    text = 'So: {"name": "get_weather", "parameters": {"city": "Paris"}}'
    assert content_of(parsed(form, Said("", text), [text])) == text  # a brace in the midst of a text begins no call


THOUGHTS = {
    "think": "<think>\n{{ m.reasoning_content }}\n</think>\n\n",
    "brackets": "[THINK]{{ m.reasoning_content }}[/THINK]",
    "seed": "<seed:think>{{ m.reasoning_content }}</seed:think>",
    "nobody's": "<ponder>{{ m.reasoning_content }}</ponder>\n",
    "tokens": "<|deep|>{{ m.reasoning_content }}<|/deep|>",
}


@pytest.mark.parametrize("name", THOUGHTS)
def test_tags_around_thoughts_are_learned(name: str) -> None:
    render, form = learned_of(jinja(f"<tool_call>{JSON}</tool_call>", thought=THOUGHTS[name]))
    assert form.thought is not None
    assert form.thought.open + "{{ m.reasoning_content }}" + form.thought.close == THOUGHTS[name]
    said = said_by_template(render, Message(role="assistant", content="so", thinking="because"))
    assert said is not None
    for chunks in cuts(said.text).values():
        events = parsed(form, said, chunks)
        assert (thought_of(events).rstrip(), content_of(events)) == ("because", "so")


def test_tags_in_the_prompt_alone_are_learned() -> None:
    source = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: {{ '<think>\n' }}"
    _, form = learned_of(source)
    assert form.thought is not None
    assert (form.thought.open, form.thought.close) == ("<think>\n", "\n</think>\n\n")


def test_template_that_knows_no_thoughts_teaches_none() -> None:
    assert learned_of("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")[1].thought is None


def test_tags_around_content_are_learned() -> None:
    source = (
        "{% for m in messages %}<|turn|>{{ m.role }}{% if m.tool_calls %}<|act|>[{% for c in m.tool_calls %}"
        '{"tool_name": "{{ c.function.name }}", "parameters": {{ c.function.arguments | tojson }}}'
        "{{ ', ' if not loop.last }}{% endfor %}]<|/act|>"
        "{% elif m.role == 'assistant' %}<|say|>{{ m.content }}<|/say|>{% else %}{{ m.content }}{% endif %}<|/turn|>"
        "{% endfor %}<|turn|>assistant"
    )
    _, form = learned_of(source)
    assert form.around_content == Pair("<|say|>", "<|/say|>")
    assert form.calls.around_all == Pair("<|act|>", "<|/act|>")


KNOWN = {
    "granite": ("<|start_of_role|> respond only with <|tool_call|> and a list", JsonCalls, "<|tool_call|>"),
    "phi4": ("{% if tools %}<|tool|>{{ tools | tojson }}<|/tool|>{% endif %}", JsonCalls, "<|tool_call|>"),
    "lfm2": ("{% if tools %}<|tool_list_start|>{{ tools }}<|tool_list_end|>{% endif %}", PythonCalls, "<|tool_call_start|>"),
}


@pytest.mark.parametrize("name", KNOWN)
def test_family_that_shows_no_calls_is_known_by_its_text(name: str) -> None:
    text, body, opening = KNOWN[name]
    _, form = learned_of("{% for m in messages %}{{ m.role }}{{ m.content }}{% endfor %}" + text)
    assert form.family == "known"
    assert isinstance(form.calls.body, body)
    assert form.calls.around_all.open == opening


MESSAGES = {
    "harmony": "<|start|>assistant<|channel|>final<|message|>",
    "atem": '<|start|>assistant to=self<|message|><atem:invoke name="x">',
    "functionary-3.2": "respond in >>>all",
}


@pytest.mark.parametrize("family", MESSAGES)
def test_families_of_messages_are_known_before_any_probe(family: str) -> None:
    form = learn(refusing, MESSAGES[family])
    assert isinstance(form, MessageFormat)
    assert form.family == family


def refusing(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], *, think: bool | str | None = None) -> str:
    raise BadRequestError("chat template: no")


def test_template_that_refuses_everything_leaves_the_usual_forms() -> None:
    form = learn(refusing, "")
    assert isinstance(form, PlainFormat)
    assert form.family == "generic"
    assert form.thought is None
    for text in ('<tool_call>\n{"name": "get_weather", "arguments": {}}', '{"name": "get_weather", "parameters": {}}'):
        assert calls_of(parsed(form, Said("", text), [text])) == [("get_weather", {})]


@pytest.mark.parametrize("seed", range(60))
def test_template_that_writes_nonsense_is_taken(seed: int) -> None:
    chance = random.Random(seed)
    words = [*NAMES, TEXT_KEY, TEXT, str(NUMBER), THOUGHT, "zprobe question", "zprobe-content", "{", "}", "[", "]",
             '"', ":", ",", "<a>", "</a>", "\n", " ", "<|b|>", '{"zprobe_a"', "zprobe_b", "zprobe_c",
             '{"zprobe_d": "zprobe inner"}']  # fmt: skip

    def render(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], *, think: bool | str | None = None) -> str:
        return "".join(chance.choices(words, k=chance.randrange(60)))

    form = learn(render, "<think>")
    for text in ("", "<think>a</think>b", "<a>zprobe_first<|b|>{}</a>", '{"name": "get_weather", "arguments": {}}' * 3):
        for chunks in cuts(text).values():
            parsed(form, Said("", text), chunks, TOOLS)


def test_endless_text_of_a_template_teaches_nothing() -> None:
    form = learn(lambda messages, tools, *, think=None: f"{NAMES[0]}{TEXT_KEY}" * 20_000, "")
    assert form.family == "generic"
