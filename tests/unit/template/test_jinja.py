from datetime import datetime
from pathlib import Path

import pytest

from corral.core.errors import BadRequestError
from corral.core.types import Message, ToolCall
from corral.template import Conversation, compile_jinja
from tests.support.rendering import PROCESSES
from tests.support.shared import shared_files

USER = Message(role="user", content="Hello, how are you?")
ANSWER = Message(role="assistant", content="I'm doing great.")


def render(template: str, *messages: Message, **more: object) -> str:
    compiled = compile_jinja(template, bos_token="<s>", eos_token="</s>")
    conversation = Conversation(messages=messages, **more)  # type: ignore[arg-type]  # the test's own keywords
    return compiled.render(conversation, processes=PROCESSES)


@pytest.mark.parametrize("path", shared_files("testdata/jinja"), ids=lambda path: path.stem)
def test_template_of_a_current_model_renders_a_plain_conversation(path: Path) -> None:
    out = render(path.read_text(), USER, ANSWER, USER)
    assert out.count("Hello, how are you?") == 2
    assert "I'm doing great." in out


def test_blocks_are_trimmed_as_hugging_face_does() -> None:
    assert render("{% for m in messages %}\n  {% if true %}\n{{ m.role }}\n  {% endif %}\n{% endfor %}", USER) == "user\n"


def test_names_that_templates_rely_on_are_there() -> None:
    template = "{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}{{ tools is none }}{{ enable_thinking is defined }}"
    assert render(template, USER) == "<s></s>TrueTrueFalse"


@pytest.mark.parametrize(
    ("think", "wanted"), [(None, "||"), (False, "False|False|"), (True, "True|True|"), ("high", "True|True|high")]
)
def test_think_is_given_in_every_spelling(think: bool | str | None, wanted: str) -> None:
    assert render("{{ enable_thinking }}|{{ thinking }}|{{ reasoning_effort }}", USER, think=think) == wanted


def test_tools_and_calls_are_as_openai_spells_them() -> None:
    call = ToolCall(name="f", arguments={"z": "<ä>", "a": 1}, call_id="c1")
    asked = Message(role="assistant", tool_calls=(call,), thinking="hm")
    result = Message(role="tool", content="r", tool_name="f", tool_call_id="c1")
    template = (
        "{{ tools | tojson }}{% for m in messages %}{% for c in m.tool_calls %}{{ c.id }}{{ c.function.name }}"
        "{{ c.function.arguments | tojson }}{% endfor %}{{ m.reasoning_content }}{{ m.name }}{{ m.tool_call_id }};{% endfor %}"
    )
    tool = {"type": "function", "function": {"name": "f"}}
    assert render(template, asked, result, tools=(tool,)) == (
        '[{"type": "function", "function": {"name": "f"}}]c1f{"z": "<ä>", "a": 1}hm;fc1;'
    )


def test_tojson_takes_the_arguments_that_templates_use() -> None:
    assert render("{{ {'b': '&', 'a': 1} | tojson(indent=2) }}", USER) == '{\n  "b": "&",\n  "a": 1\n}'


def test_loop_controls_and_generation_blocks_work() -> None:
    template = "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% elif i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}"
    assert render(template + "{% generation %}x{% endgeneration %}", USER) == "02x"


def test_date_is_todays() -> None:
    assert render("{{ strftime_now('%Y') }}", USER) == datetime.now().astimezone().strftime("%Y")


def test_template_made_for_tools_alone_renders_without_them() -> None:
    assert render("{% for t in tools %}{{ t }}{% endfor %}{{ messages[0].content }}", USER) == USER.content


def test_complaint_of_the_template_is_what_the_user_reads() -> None:
    with pytest.raises(BadRequestError, match="chat template: roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}", USER)


@pytest.mark.parametrize(
    "template",
    [
        "{% if %}",
        "{{ messages[0].nope.nope }}",
        "{{ 1 / 0 }}",
        "{{ messages | nope }}",
        "{{ messages[5].role }}",
        "{{ 'a' + 1 }}",
        "{% for i in range(1000000) %}{% endfor %}",
        "{{ messages.nope(1) }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% include 'etc/passwd' %}",
    ],
)
def test_bad_or_hostile_template_is_a_bad_request(template: str) -> None:
    with pytest.raises(BadRequestError, match="chat template"):
        render(template, USER)


@pytest.mark.parametrize(
    ("template", "has"),
    [
        ("{{ messages }}", (False, False)),
        ("{% if tools %}{% endif %}", (True, False)),
        ("tools {# tools #}{{ 'tools' }}", (False, False)),
        ("{% if enable_thinking %}{% endif %}", (False, True)),
        ("{{ m.reasoning_content }}", (False, True)),
        ("{{ '<think>' }}", (False, True)),
    ],
)
def test_abilities_are_those_of_the_names_that_are_used(template: str, has: tuple[bool, bool]) -> None:
    compiled = compile_jinja(template)
    assert (compiled.has_tools, compiled.has_thinking, compiled.has_suffix) == (*has, False)
