"""Thoughts, tools and what an answer is held to, over a scripted engine: what reaches the engine, and what comes back."""

from pathlib import Path
from typing import Any, Final

import pytest

from corral.core.errors import BadRequestError, CapabilityError
from corral.core.types import Message, Thought, ToolCall
from corral.engine.fake import Script
from corral.service.requests import ChatRequest, Delta, Done, Event, ToolChoice
from tests.support.inference_bench import bench, user
from tests.support.models import make_model

HERMES: Final = (
    "{% if tools %}<tools>{{ tools | tojson }}</tools>\n{% endif %}{% for m in messages %}<|{{ m.role }}|>"
    "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}\n<tool_call>\n"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}'
    "\n</tool_call>{% endfor %}<|end|>\n{% endfor %}<|assistant|>"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
)
OPENED: Final = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|assistant|><think>\n"  # </think>
NINE: Final = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% for c in m.tool_calls or [] %}"
    "{% if c.id|length != 9 %}{{ raise_exception('nine') }}{% endif %}[TOOL_CALLS]{{ c.function.name }}[CALL_ID]{{ c.id }}"
    "[ARGS]{{ c.function.arguments | tojson }}{% endfor %}"
    "{% if m.tool_call_id is defined %}({{ m.tool_call_id }}){% endif %}{% endfor %}{{ '' if tools else '' }}"
)
WEATHER: Final[dict[str, Any]] = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}},
    },
}
CALL: Final = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


def letters(text: str) -> Script:
    return Script(tuple(text))


def said(events: list[Event]) -> tuple[str, str, list[ToolCall]]:
    """Thought, content and calls of an answer, which ends with Done."""
    *deltas, done = events
    assert isinstance(done, Done)
    parts = [delta for delta in deltas if isinstance(delta, Delta)]
    assert len(parts) == len(deltas)
    calls = [call for part in parts for call in part.tool_calls]
    return "".join(part.thinking for part in parts), "".join(part.content for part in parts), calls


@pytest.mark.parametrize("think", [None, True, "high"])
async def test_a_thought_is_told_from_the_answer(tmp_path: Path, think: Any) -> None:
    script = letters("<think>\nLet me see.\n</think>\n\nHello!")
    async with bench(make_model(tmp_path, "m", jinja=HERMES), scripts=[script]) as b:
        assert said(await b.chat("m", user("hi"), think=think)) == ("Let me see.\n", "Hello!", [])
    (job,) = b.jobs
    assert job.thought == Thought(open="<think>\n", close="\n</think>\n\n")
    assert {"<think>", "</think>"} <= set(job.spelled)


async def test_a_thought_that_was_not_wanted_is_left_out(tmp_path: Path) -> None:
    script = letters("<think>\nAll the same.\n</think>\n\nHello!")
    async with bench(make_model(tmp_path, "m", jinja=HERMES), scripts=[script]) as b:
        assert said(await b.chat("m", user("hi"), think=False)) == ("", "Hello!", [])
    (job,) = b.jobs
    assert job.prompt.endswith("<|assistant|><think>\n\n</think>\n\n")
    assert job.thought
    assert (job.thought.may_open, job.thought.budget) == (False, 0)


async def test_a_thought_may_be_open_already_and_have_a_budget(tmp_path: Path) -> None:
    model = make_model(tmp_path, "m", jinja=OPENED + "{# </think> #}")
    async with bench(model, scripts=[letters("Hm.\n</think>\n\nYes"), letters("Hm.</think>Yes")]) as b:
        assert said(await b.chat("m", user("hi"), options={"think_budget": 7})) == ("Hm.\n", "Yes", [])
        assert said(await b.chat("m", user("hi"), think=False)) == ("", "Yes", [])
    thoughts = [job.thought for job in b.jobs if job.thought]
    assert [(thought.is_open, thought.budget) for thought in thoughts] == [(True, 7), (True, 0)]


async def test_generate_tells_thoughts_too_but_not_in_raw_text(tmp_path: Path) -> None:
    model = make_model(tmp_path, "m", jinja=HERMES)
    async with bench(model, scripts=[letters("<think>a</think>b")] * 2) as b:
        assert said(await b.generate("m", "hi")) == ("a", "b", [])
        assert said(await b.generate("m", "hi", raw=True)) == ("", "<think>a</think>b", [])
    assert [job.thought is None for job in b.jobs] == [False, True]


async def test_calls_come_as_soon_as_each_is_complete(tmp_path: Path) -> None:
    script = Script(("I will look.\n", CALL, "\n" + CALL.replace("Oslo", "Rom"), ""))
    async with bench(make_model(tmp_path, "m", jinja=HERMES), scripts=[script]) as b:
        events = await b.chat("m", user("hi"), tools=(WEATHER,), think=False)
    thought, content, calls = said(events)
    assert (thought, content.strip()) == ("", "I will look.")
    assert [(call.name, call.arguments, call.index) for call in calls] == [
        ("weather", {"city": "Oslo"}, 0),
        ("weather", {"city": "Rom"}, 1),
    ]
    assert [len(call.call_id) for call in calls] == [32, 32]
    assert calls[0].call_id != calls[1].call_id
    kinds = [[call.index for call in event.tool_calls] for event in events if isinstance(event, Delta) and event.tool_calls]
    assert kinds == [[0], [1]]


@pytest.mark.parametrize("text", ['<tool_call>\n{"name": "weather", "argu', "<tool_call>not json</tool_call>"])
async def test_a_broken_call_is_content(tmp_path: Path, text: str) -> None:
    async with bench(make_model(tmp_path, "m", jinja=HERMES), scripts=[Script((text,))]) as b:
        assert said(await b.chat("m", user("hi"), tools=(WEATHER,), think=False)) == ("", text, [])


async def test_without_tools_what_looks_like_a_call_is_content(tmp_path: Path) -> None:
    async with bench(make_model(tmp_path, "m", jinja=HERMES), scripts=[Script((CALL,)), Script((CALL,))]) as b:
        assert said(await b.chat("m", user("hi"), think=False)) == ("", CALL, [])
        choice = ToolChoice(mode="none")
        assert said(await b.chat("m", user("hi"), think=False, tools=(WEATHER,), tool_choice=choice)) == ("", CALL, [])
    assert all("<tools>" not in prompt for prompt in b.prompts)


async def test_ids_are_what_the_template_takes_in_answers_and_in_history(tmp_path: Path) -> None:
    model = make_model(tmp_path, "m", jinja=NINE)
    history = (
        user("hi"),
        Message(role="assistant", tool_calls=(ToolCall(name="weather", arguments={}, call_id="call_far_too_long"),)),
        Message(role="tool", content="rain", tool_call_id="call_far_too_long"),
        Message(role="assistant", tool_calls=(ToolCall(name="weather", arguments={}),)),
        Message(role="tool", content="sun", tool_name="weather"),
    )
    script = Script(("[TOOL_CALLS]weather[ARGS]{}[TOOL_CALLS]weather[CALL_ID]abc456def[ARGS]{}",))
    async with bench(model, scripts=[script]) as b:
        _, _, calls = said(await b.chat("m", *history, tools=(WEATHER,)))
    assert [len(call.call_id) for call in calls] == [9, 9]
    assert calls[1].call_id == "abc456def"
    (prompt,) = b.prompts
    first, second = (part.partition("[ARGS]")[0] for part in prompt.split("[CALL_ID]")[1:])
    assert len(first) == 9
    assert second == "call00001"
    assert prompt.endswith(f"[tool]sun({second})")
    assert f"[tool]rain({first})" in prompt


async def test_a_template_is_learned_once(tmp_path: Path) -> None:
    async with bench(make_model(tmp_path, "m", jinja=HERMES)) as b:
        forms = b.inference._rendering.forms
        await b.chat("m", user("hi"))
        known = dict(forms._known)
        await b.chat("m", user("again"))
        assert list(known.values()) == list(forms._known.values())
        assert len(known) == 1


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"tools": ({"type": "function", "function": {}},)}, "tools[0]: the function has no name"),
        ({"tools": (WEATHER, WEATHER)}, 'another tool named "weather"'),
        ({"tool_choice": ToolChoice(mode="required")}, "there are no tools"),
        (
            {"tools": (WEATHER,), "tool_choice": ToolChoice(mode="required", name="cook")},
            '"cook", which is none of the tools: weather',
        ),
        ({"format": "json", "regex": "a"}, "format and regex cannot be given together"),
        ({"grammar": 'root ::= "a"', "choice": ("a",)}, "grammar and choice cannot be given together"),
    ],
    ids=str,
)
async def test_what_cannot_be_done_is_said_before_anything_is_loaded(tmp_path: Path, more: dict[str, Any], words: str) -> None:
    async with bench(make_model(tmp_path, "m", jinja=HERMES)) as b:
        with pytest.raises(BadRequestError) as caught:
            await b.chat("m", user("hi"), **more)
    assert words in str(caught.value)
    assert b.launcher.specs == []


async def test_tools_are_refused_where_the_template_has_no_place_for_them(tmp_path: Path) -> None:
    async with bench(make_model(tmp_path, "m", jinja="{{ messages[0].content }}")) as b:
        with pytest.raises(CapabilityError, match="does not support tools"):
            await b.chat("m", user("hi"), tools=(WEATHER,))
        request = ChatRequest(model="m", messages=(user("x"),), think=True)
        with pytest.raises(CapabilityError, match='"m" does not support thinking'):
            async with b.inference.chat(request):
                pass


async def test_a_beginning_of_the_answer_is_gone_on_with(tmp_path: Path) -> None:
    messages = (user("hi"), Message(role="assistant", content='{"color": "'))
    async with bench(make_model(tmp_path, "m", jinja=HERMES)) as b:
        await b.chat("m", *messages, continues=True, think=False)
        await b.chat("m", *messages, think=False)
        await b.chat("m", *messages, user("so?"), continues=True, think=False)
    begun, over, asked = b.prompts
    assert begun.endswith('<|assistant|>{"color": "')
    assert over.endswith('{"color": "<|end|>\n<|assistant|><think>\n\n</think>\n\n')
    assert asked.endswith("so?<|end|>\n<|assistant|><think>\n\n</think>\n\n")
