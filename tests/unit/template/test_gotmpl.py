import time
from datetime import datetime
from pathlib import Path

import pytest

from corral.core.errors import BadRequestError
from corral.core.types import Message, ToolCall
from corral.template import CHATML, Conversation, compile_go
from tests.support.conversations import RECORDED
from tests.support.shared import shared_files


def said(role: str, content: str, **more: object) -> Message:
    return Message(role=role, content=content, **more)  # type: ignore[arg-type]  # the test's own keywords


MARIO = "{{ .System }}|{{ .Prompt }}|"
TURN = "{{ if .System }}S:{{ .System }}\n{{ end }}{{ if .Prompt }}U:{{ .Prompt }}\n{{ end }}A:{{ .Response }}\n"
WEATHER = {
    "type": "function",
    "function": {
        "description": "Weather <now>",
        "name": "get_weather",
        "parameters": {
            "required": ["city"],
            "type": "object",
            "properties": {"city": {"description": "where", "type": "string"}, "days": {"type": ["integer", "null"]}},
        },
    },
}


def render(template: str, *messages: Message, **more: object) -> str:
    return compile_go(template).render(Conversation(messages=messages, **more))  # type: ignore[arg-type]  # the test's own keywords


@pytest.mark.parametrize("case", RECORDED)
@pytest.mark.parametrize("folder", shared_files("testdata/gotmpl"), ids=lambda path: path.stem)
def test_recorded_template_renders_exactly(folder: Path, case: str) -> None:
    template = (folder / "template.gotmpl").read_text()
    assert render(template, *RECORDED[case]) == (folder / f"{case}.expected").read_text()


@pytest.mark.parametrize(
    ("messages", "wanted"),
    [
        ((said("user", "hi"),), "|hi|"),
        ((said("system", "Be."), said("user", "hi")), "Be.|hi|"),
        (
            (said("system", "Be."), said("user", "hi"), said("assistant", "it's me"), said("user", "why?")),
            "Be.|hi|it's me|why?|",
        ),
        (
            (said("user", "hi"), said("assistant", "it's me"), said("system", "Be."), said("user", "why?")),
            "|hi|it's meBe.|why?|",
        ),
        ((said("user", "a"), said("user", "b")), "|a\n\nb|"),
        ((said("user", "a"), said("tool", "ignored"), said("assistant", "b")), "|a|b"),
        ((), "||"),
    ],
    ids=["user", "system", "history", "late system", "two users", "tool", "nothing"],
)
def test_old_template_is_rendered_turn_by_turn(messages: tuple[Message, ...], wanted: str) -> None:
    assert render(MARIO, *messages) == wanted


@pytest.mark.parametrize(
    ("messages", "wanted"),
    [
        ((said("user", "hi"),), "U:hi\nA:"),
        (
            (said("system", "Be."), said("user", "hi"), said("assistant", "ho"), said("user", "why?")),
            "S:Be.\nU:hi\nA:ho\nU:why?\nA:",
        ),
        ((said("user", "hi"), said("assistant", "Once upon")), "U:hi\nA:Once upon"),
    ],
    ids=["user", "history", "begun answer"],
)
def test_last_turn_ends_at_the_response(messages: tuple[Message, ...], wanted: str) -> None:
    assert render(TURN, *messages) == wanted


def test_response_inside_a_block_is_cut_there() -> None:
    template = "{{ .Prompt }}>{{ if .Response }}[{{ .Response }}]{{ else }}none{{ end }}!"
    assert render(template, said("user", "a"), said("assistant", "b"), said("user", "c")) == "a>[b]!c>"


def test_chatml_has_every_turn_and_an_open_one() -> None:
    wanted = "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert render(CHATML, said("system", "S"), said("user", "hi")) == wanted


def test_neighbours_of_one_role_are_merged_but_tool_results_are_not() -> None:
    template = "{{ range .Messages }}{{ .Role }}={{ .Content }};{{ end }}{{ .System }}"
    messages = [said("system", "a"), said("system", "b"), said("tool", "x"), said("tool", "y"), said("system", "c")]
    assert render(template, *messages) == "system=a\n\nb;tool=x;tool=y;system=c;a\n\nb\n\nc"


def test_go_idioms_work() -> None:
    template = (
        "{{- range $i, $m := .Messages }}{{- $last := eq (len (slice $.Messages $i)) 1 -}}"
        '{{ if and (eq $m.Role "user") $last }}LAST {{ end }}{{ printf "%q" $m.Content }} {{ end -}}'
    )
    assert render(template, said("user", "a"), said("assistant", 'b"'), said("user", "c")) == '"a" "b\\"" LAST "c" '


def test_fields_of_a_message_have_ollamas_names() -> None:
    call = ToolCall(name="f", arguments={"b": "<", "a": [1, 2.5, None, True]}, call_id="c1")
    message = said("assistant", "x", thinking="hm", tool_calls=(call,))
    template = (
        "{{ range .Messages }}{{ .Thinking }}{{ range .ToolCalls }}|{{ .Function.Name }}|{{ .Function.Arguments }}|"
        "{{ json .Function.Arguments }}|{{ .ID }}|{{ range $k, $v := .Function.Arguments }}{{ $k }},{{ end }}{{ end }}"
        "|{{ .ToolName }}{{ end }}"
    )
    arguments = '{"b":"\\u003c","a":[1,2.5,null,true]}'
    assert render(template, message, said("tool", "r", tool_name="f")) == f"hm|f|{arguments}|{arguments}|c1|b,a,||f"


def test_tools_are_printed_as_json_in_ollamas_order() -> None:
    wanted = (
        '{"type":"function","function":{"name":"get_weather","description":"Weather \\u003cnow\\u003e","parameters":'
        '{"type":"object","required":["city"],"properties":{"city":{"type":"string","description":"where"},'
        '"days":{"type":["integer","null"]}}}}}'
    )
    for template in ("{{ range .Tools }}{{ . }}{{ end }}", "{{ range .Tools }}{{ json . }}{{ end }}"):
        assert render(template + "{{ if .Messages }}{{ end }}", tools=(WEATHER,)) == wanted
    for template in ("{{ .Tools }}", "{{ json .Tools }}", "{{ if .Tools }}{{ $.Tools }}{{ end }}"):
        assert render(template + "{{ if .Messages }}{{ end }}", tools=(WEATHER,)) == f"[{wanted}]"
    assert render("{{ if .Tools }}x{{ end }}{{ len .Tools }}{{ if .Messages }}{{ end }}") == "0"
    assert render("{{ len .Tools }}{{ if .Messages }}{{ end }}", tools=(WEATHER, WEATHER)) == "2"


def test_tool_fields_can_be_used_one_by_one() -> None:
    template = (
        "{{ range .Tools }}{{ .Function.Name }}:{{ range $name, $p := .Function.Parameters.Properties }}"
        "{{ $name }}={{ $p.Type }}={{ toTypeScriptType $p }};{{ end }}{{ .Function.Parameters.Required }}{{ end }}"
        "{{ if .Messages }}{{ end }}"
    )
    assert render(template, tools=(WEATHER,)) == (
        "get_weather:city=string=string;days=[integer null]=number | null;[city]"
    )  # fmt: skip


@pytest.mark.parametrize("tool", [{}, {"function": None}, {"function": {"parameters": None}}, {"function": {"parameters": {}}}])
def test_tool_without_its_parts_is_rendered(tool: dict[str, object]) -> None:
    assert render("{{ range .Tools }}{{ .Function.Name }}{{ . }}{{ end }}{{ if .Messages }}{{ end }}", tools=(tool,))


@pytest.mark.parametrize(
    ("think", "wanted"),
    [(None, "false||false"), (False, "false||true"), (True, "true||true"), ("high", "true|high|true")],
)
def test_think_has_three_variables(think: bool | str | None, wanted: str) -> None:
    template = "{{ .Think }}|{{ .ThinkLevel }}|{{ .IsThinkSet }}{{ if .Messages }}{{ end }}"
    assert render(template, said("user", "a"), think=think) == wanted


def test_dates_are_todays_and_yesterdays() -> None:
    today = datetime.now().astimezone().strftime("%Y-%m-%d")
    out = render("{{ currentDate }} {{ yesterdayDate }}{{ if .Messages }}{{ end }}")
    assert out.startswith((today, ""))
    assert len(out) == len("2026-01-01 2026-01-01")


def test_suffix_is_rendered_by_its_own_branch() -> None:
    template = "{{ if .Suffix }}<PRE>{{ .Prompt }}<SUF>{{ .Suffix }}<MID>{{ else }}{{ .Prompt }}{{ end }}"
    assert compile_go(template).has_suffix
    assert render(template, said("user", "def f():"), suffix="return 1") == "<PRE>def f():<SUF>return 1<MID>"
    assert render(template, said("user", "def f():")) == "def f():"


@pytest.mark.parametrize(
    ("template", "has"),
    [
        (CHATML, (False, False, False)),
        ("{{ if .Tools }}{{ end }}", (True, False, False)),
        ("{{ if $.Tools }}{{ end }}{{ range .Messages }}{{ end }}", (True, False, False)),
        ("{{ .Suffix }}", (False, True, False)),
        ("{{ range .Messages }}<think>{{ .Thinking }}</think>{{ end }}", (False, False, True)),
        ("{{ if .IsThinkSet }}{{ end }}", (False, False, True)),
        ('.Tools {{ "say .Tools" }}{{/* .Suffix }} */}}', (False, False, False)),
    ],
)
def test_abilities_are_those_of_the_fields_that_are_used(template: str, has: tuple[bool, bool, bool]) -> None:
    compiled = compile_go(template)
    assert (compiled.has_tools, compiled.has_suffix, compiled.has_thinking) == has


@pytest.mark.parametrize(
    "template",
    [
        "{{ .Role.Name }}",
        "{{ index .Messages 99 }}",
        "{{ range .Messages }}{{ .Content.upper }}{{ end }}",
        "{{ .Messages.append }}",
        '{{ define "t" }}{{ template "t" . }}{{ end }}{{ template "t" . }}',
        "{{ range 100000000000 }}x{{ end }}",
    ],
)
def test_template_that_fails_when_run_is_a_bad_request(template: str) -> None:
    with pytest.raises(BadRequestError):
        render("{{ if .Messages }}{{ end }}" + template.replace(".Role", ".System"), said("user", "a"), said("system", "b"))


def test_long_conversation_is_rendered_in_time() -> None:
    messages = tuple(said("user" if number % 2 else "assistant", "word " * 100) for number in range(50))
    template = compile_go(CHATML)
    fastest = 1.0
    for _ in range(5):
        began = time.perf_counter()
        template.render(Conversation(messages=messages))
        fastest = min(fastest, time.perf_counter() - began)
    assert fastest < 0.01  # 0.0004 s on the machine this was written on


def test_compiled_templates_are_kept() -> None:
    assert compile_go(MARIO) is compile_go(MARIO)
