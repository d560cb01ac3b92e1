"""Jinja templates against transformers, whose way of running them is the one that their authors tried."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from corral.core.errors import BadRequestError
from corral.core.types import Message, ToolCall
from corral.template import Conversation, compile_jinja
from tests.support.rendering import PROCESSES
from tests.support.shared import shared_files

CLOCK = re.compile(r"\d\d:\d\d:\d\d")
TEMPLATES = shared_files("testdata/jinja")
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
PARAMETERS = {
    "type": "object",
    "required": ["city"],
    "properties": {
        "city": {"type": "string", "description": "the city's name, <ä>"},
        "days": {"type": "integer", "description": "how many"},
    },
}
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "Weather & wind", "parameters": PARAMETERS}}
CALL_ID = "call00001"  # nine letters and digits: Mistral's template insists on it
ARGUMENTS = {"city": "Paris", "days": 2}
SYSTEM = Message(role="system", content="You are a helpful assistant.")
QUESTION = Message(role="user", content="How is the weather?")
CALL = Message(role="assistant", tool_calls=(ToolCall(name="get_weather", arguments=ARGUMENTS, call_id=CALL_ID),))
RESULT = Message(role="tool", content="sunny", tool_name="get_weather", tool_call_id=CALL_ID)
ANSWER = Message(role="assistant", content="It is sunny.")
THANKS = Message(role="user", content="Thanks!")
CONVERSATIONS = {
    "chat": (SYSTEM, QUESTION, ANSWER, THANKS),
    "call": (SYSTEM, QUESTION, CALL, RESULT),
    "call and answer": (SYSTEM, QUESTION, CALL, RESULT, ANSWER, THANKS),
}


def openai_messages(messages: tuple[Message, ...], *, as_text: bool, as_none: bool) -> list[dict[str, Any]]:
    """As a user of transformers writes them, in the ways that templates differ about."""
    out: list[dict[str, Any]] = []
    for message in messages:
        said: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.tool_calls:
            arguments: Any = json.dumps(ARGUMENTS) if as_text else ARGUMENTS
            function = {"name": "get_weather", "arguments": arguments}
            said |= {"tool_calls": [{"id": CALL_ID, "type": "function", "function": function}]}
            said["content"] = None if as_none else ""
        if message.role == "tool":
            said |= {"name": "get_weather", "tool_call_id": CALL_ID}
        out.append(said)
    return out


def reference(source: str, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> str | None:
    """What transformers makes of it; None where it refuses."""
    from transformers.utils.chat_template_utils import render_jinja_template

    more: dict[str, Any] = dict(TOKENS)
    given: Any = tools
    if "functions" in source:  # one template's own way to be told of tools
        more["functions"] = json.dumps(tools or [], ensure_ascii=False, indent=4)
        more["datetime"] = datetime.now().astimezone().strftime("%B %d %Y %H:%M:%S GMT")
    try:
        texts: Any = render_jinja_template(
            conversations=[messages], tools=given, chat_template=source, add_generation_prompt=True, **more
        )
    except Exception:  # noqa: BLE001  it lets through whatever a template raises
        return None
    return str(texts[0][0])


def references(source: str, messages: tuple[Message, ...], tools: list[dict[str, Any]] | None) -> Iterator[str]:
    for as_none in (False, True):
        for as_text in (False, True):
            text = reference(source, openai_messages(messages, as_text=as_text, as_none=as_none), tools)
            if text is not None:
                yield text


@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_current_template_renders_as_transformers_does(path: Path, name: str) -> None:
    source, messages = path.read_text(), CONVERSATIONS[name]
    with_tools = (TOOL,) if name != "chat" else ()
    conversation = Conversation(messages=messages, tools=with_tools)
    text = compile_jinja(source, **TOKENS).render(conversation, processes=PROCESSES)
    wanted = [CLOCK.sub("", other) for other in references(source, messages, [dict(tool) for tool in with_tools] or None)]
    if not wanted:  # transformers refuses such a conversation; it is rendered all the same, with everything in it
        assert all(message.content in text for message in messages)
        return
    assert CLOCK.sub("", text) in wanted
    if any("Paris" in candidate and "'city'" not in candidate for candidate in wanted):
        assert "Paris" in text  # of the ways there are, one that loses nothing
        assert "'city'" not in text  # and shows no Python


LANGUAGE = {
    "trimmed": "a\n{% if true %}\n  b\n  {% endif %}\nc {%- if 1 %} d {%- endif %}",
    "left stripped": "x\n    {% for m in messages %}\n    {{ m.role }}\n    {% endfor %}",
    "loop": "{% for m in messages %}{{ loop.index0 }}{{ loop.last }}{{ loop.previtem is defined }}{% endfor %}",
    "break": "{% for m in messages %}{% if loop.index == 2 %}{% break %}{% endif %}{{ m.role }}{% endfor %}",
    "continue": "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.role }}{% endfor %}",
    "namespace": "{% set ns = namespace(a=1) %}{% for m in messages %}{% set ns.a = ns.a + 1 %}{% endfor %}{{ ns.a }}",
    "scope": "{% set a = 1 %}{% for m in messages %}{% set a = 2 %}{% endfor %}{{ a }}",
    "generation": "{% set a = 1 %}{% generation %}{% set a = 2 %}x{{ a }}{% endgeneration %}{{ a }}",
    "macro": "{% macro f(a, b=2) %}{{ a }}{{ b }}{{ caller is defined }}{% endmacro %}{{ f(1) }}{{ f(1, b='x') }}",
    "tojson": "{{ tools | tojson }}{{ 'ä<&>\\'' | tojson }}{{ {'b': 1, 'a': [1, none, true]} | tojson }}",
    "tojson indented": "{{ tools | tojson(indent=2) }}{{ {'b': 1, 'a': 2} | tojson(sort_keys=true, separators=(',', ':')) }}",
    "tojson in ascii": "{{ 'ä' | tojson(ensure_ascii=true) }}",
    "python methods": "{{ 'a b'.split(' ')[1].upper() }}{{ ' x '.strip() }}{{ {'a': 1}.items() | list }}",
    "slices": "{{ messages[1:] | length }}{{ messages[::-1][0].role }}{{ 'abc'[-1] }}",
    "undefined": "{{ nope }}{{ nope is defined }}{{ messages[0].nope }}{{ nope | default('d') }}{{ documents is none }}",
    "tests": "{{ 'a' is string }}{{ 1 is number }}{{ {} is mapping }}{{ [] is iterable }}{{ none is none }}{{ 1 is integer }}",
    "filters": "{{ messages | map(attribute='role') | join(',') }}{{ messages | selectattr('role', 'eq', 'user') | list }}",
    "arithmetic": "{{ 7 // 2 }}{{ 7 % 2 }}{{ 2 ** 3 }}{{ 'a' ~ 1 }}{{ 1 if false else 2 }}{{ 'a' in 'abc' }}",
    "tokens": "{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}",
    "dict": "{{ dict(a=1) }}{{ dict([('a', 1)]).a }}",
    "special characters": "{{ '<|im_start|>' }}\u00e9\u2028{{ 'a\\nb\\t' }}{{ \"it's\" }}",
    "raw": "{% raw %}{{ x }}{% endraw %}",
    "comment": "a {# b #} c {#- d -#} e",
    "call block": "{% macro f() %}<{{ caller() }}>{% endmacro %}{% call f() %}x{% endcall %}",
    "filter block": "{% filter upper %}x{% endfilter %}",
    "date": "{{ strftime_now('%Y-%m') }}",
}


@pytest.mark.parametrize("source", LANGUAGE.values(), ids=LANGUAGE)
def test_language_is_the_one_of_transformers(source: str) -> None:
    messages = (QUESTION, ANSWER, THANKS)
    wanted = reference(source, openai_messages(messages, as_text=False, as_none=False), [TOOL])
    assert wanted is not None
    conversation = Conversation(messages=messages, tools=(TOOL,))
    assert compile_jinja(source, **TOKENS).render(conversation, processes=PROCESSES) == wanted


@pytest.mark.parametrize(
    "source",
    ["{{ raise_exception('no') }}", "{{ 1 / 0 }}", "{{ nope.x }}", "{{ messages | nope }}", "{% if %}", "{{ ''.__class__.x }}"],
)
def test_what_transformers_refuses_is_refused(source: str) -> None:
    assert reference(source, [{"role": "user", "content": "x"}], None) is None
    with pytest.raises(BadRequestError, match="chat template: "):
        compile_jinja(source).render(Conversation(messages=(QUESTION,)), processes=PROCESSES)
