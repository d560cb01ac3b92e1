"""Calls told in parts while the model writes them, over a scripted engine."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from corral.core.types import ToolCall
from corral.engine.fake import Script
from corral.service.requests import CallPart, Delta, Done, Event
from tests.support.inference_bench import bench, user
from tests.support.models import make_model

HERMES: Final = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% for c in m.tool_calls or [] %}\n<tool_call>\n"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}'
    "\n</tool_call>{% endfor %}<|end|>\n{% endfor %}<|assistant|>{{ '' if tools else '' }}"
)
NINE: Final = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% for c in m.tool_calls or [] %}"
    "{% if c.id|length != 9 %}{{ raise_exception('nine') }}{% endif %}"
    '[TOOL_CALLS][{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}, "id": "{{ c.id }}"}]'
    "{% endfor %}{% endfor %}{{ '' if tools else '' }}"
)
WEATHER: Final[dict[str, Any]] = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
CALL: Final = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


async def said(tmp_path: Path, *steps: str, jinja: str = HERMES, call_parts: bool = True, **more: Any) -> list[Delta]:
    """The deltas of a chat whose model says that, in these steps."""
    async with bench(make_model(tmp_path, "m", jinja=jinja), scripts=[Script(steps)]) as b:
        *deltas, done = await b.chat("m", user("hi"), tools=(WEATHER,), call_parts=call_parts, **more)
    assert isinstance(done, Done)
    return [_delta(event) for event in deltas]


def _delta(event: Event) -> Delta:
    assert isinstance(event, Delta)
    return event


def parts_of(deltas: list[Delta]) -> list[CallPart]:
    return [part for delta in deltas for part in delta.call_parts]


def calls_of(deltas: list[Delta]) -> list[ToolCall]:
    return [call for delta in deltas for call in delta.tool_calls]


async def test_parts_come_as_they_are_written_and_then_the_call(tmp_path: Path) -> None:
    steps = ('<tool_call>\n{"name": "weather", "arguments": {"city": "O', "sl", 'o"}', "}", "\n</tool_call>")
    deltas = await said(tmp_path, *steps)
    call_id = calls_of(deltas)[0].call_id
    assert len(call_id) == 32
    assert [delta.call_parts for delta in deltas[:3]] == [
        (CallPart(index=0, call_id=call_id, name="weather", text='{"city":"O'),),
        (CallPart(index=0, call_id=call_id, text="sl"),),
        (CallPart(index=0, call_id=call_id, text='o"}'),),
    ]
    assert deltas[3:] == [Delta(tool_calls=(ToolCall(name="weather", arguments={"city": "Oslo"}, call_id=call_id),))]


async def test_parts_of_two_calls_have_their_numbers_and_ids(tmp_path: Path) -> None:
    deltas = await said(tmp_path, *f"I will look.\n{CALL}\n{CALL.replace('Oslo', 'Rom')}")
    calls = calls_of(deltas)
    assert [call.index for call in calls] == [0, 1]
    assert calls[0].call_id != calls[1].call_id
    for call in calls:
        parts = [part for part in parts_of(deltas) if part.index == call.index]
        assert {part.call_id for part in parts} == {call.call_id}
        assert [part.name for part in parts] == [call.name] + [""] * (len(parts) - 1)
        assert json.loads("".join(part.text for part in parts)) == call.arguments
    assert "".join(delta.content for delta in deltas).strip() == "I will look."


async def test_nobody_gets_parts_who_has_not_asked(tmp_path: Path) -> None:
    deltas = await said(tmp_path, *CALL, call_parts=False)
    assert parts_of(deltas) == []
    assert [call.arguments for call in calls_of(deltas)] == [{"city": "Oslo"}]


async def test_id_of_the_first_part_holds_where_the_model_writes_one_too_late(tmp_path: Path) -> None:
    text = '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Oslo"}, "id": "abc456def"}]'
    late = await said(tmp_path, *text, jinja=NINE)
    (call,) = calls_of(late)
    assert {part.call_id for part in parts_of(late)} == {call.call_id}
    assert len(call.call_id) == 9
    assert call.call_id != "abc456def"
    (call,) = calls_of(await said(tmp_path, *text, jinja=NINE, call_parts=False))
    assert call.call_id == "abc456def"
    text = '[TOOL_CALLS][{"id": "abc456def", "name": "weather", "arguments": {"city": "Oslo"}}]'
    early = await said(tmp_path, *text, jinja=NINE)
    assert {part.call_id for part in parts_of(early)} == {"abc456def"} == {call.call_id for call in calls_of(early)}


async def test_logprobs_come_with_the_part_of_their_step(tmp_path: Path) -> None:
    deltas = await said(tmp_path, '<tool_call>\n{"name": "weather", "arguments": {"city": ', '"O', "slo", '"}}', logprobs=True)
    assert [len(delta.logprobs) for delta in deltas] == [1, 1, 1, 1, 0]
    assert [bool(delta.call_parts) for delta in deltas] == [True, True, True, True, False]


async def test_call_that_is_cut_short_is_told_in_its_parts_alone(tmp_path: Path) -> None:
    text = CALL + CALL[: CALL.index("slo")]
    deltas = await said(tmp_path, *text)
    assert "".join(part.text for part in parts_of(deltas) if part.index == 1) == '{"city":"O'
    assert [call.index for call in calls_of(deltas)] == [0]
    assert "".join(delta.content for delta in deltas) == ""


async def test_call_that_breaks_is_content_and_has_had_its_number(tmp_path: Path) -> None:
    broken = CALL.replace('"Oslo"', "Oslo")
    deltas = await said(tmp_path, *broken, CALL)
    assert [(part.index, part.name) for part in parts_of(deltas) if part.name] == [(0, "weather"), (1, "weather")]
    assert "".join(delta.content for delta in deltas) == broken
    (call,) = calls_of(deltas)
    assert call.index == 1
    assert {part.call_id for part in parts_of(deltas) if part.index == 1} == {call.call_id}


@pytest.mark.parametrize("text", ['<tool_call>\n{"name": "weather", "argu', "<tool_call>not json</tool_call>"])
async def test_broken_call_without_parts_is_content(tmp_path: Path, text: str) -> None:
    deltas = await said(tmp_path, *text)
    assert parts_of(deltas) == []
    assert "".join(delta.content for delta in deltas) == text
