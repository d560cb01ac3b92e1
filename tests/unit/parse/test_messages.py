"""Answers that are rows of messages: gpt-oss, Functionary, and one with tags inside."""

import pytest

from corral.parse import AnswerFormat
from tests.support.answer_formats import FORMATS
from tests.support.answers import CASES, CONTENT, THOUGHT, TOOLS, Said, calls_of, content_of, cuts, parsed, thought_of

PROMPTS = {"harmony": "<|start|>assistant", "atem": "<|start|>assistant", "functionary": "<|start_header_id|>assistant\n\n>>>"}
PARIS = ("get_weather", {"city": "Paris"})
FINAL = "<|channel|>final<|message|>"
ANALYSIS = "<|channel|>analysis<|message|>"
TO_WEATHER = ' to=functions.get_weather<|channel|>commentary json<|message|>{"city": "Paris"}<|call|>'


def read(name: str, text: str, prompt: str | None = None, *, has_tools: bool = True) -> tuple[str, str, list[object]]:
    form: AnswerFormat = FORMATS[name]
    said = Said(PROMPTS[name] if prompt is None else prompt, text)
    whole, *others = (parsed(form, said, chunks, TOOLS if has_tools else ()) for chunks in cuts(text).values())
    assert all(other == whole for other in others)
    return thought_of(whole), content_of(whole), [*calls_of(whole)]


HARMONY = {
    "answer": (f"{FINAL}Hello.<|return|>", ("", "Hello.", [])),
    "answer, stop token taken": (f"{FINAL}Hello.", ("", "Hello.", [])),
    "thought and answer": (
        f"{ANALYSIS}{THOUGHT}<|end|><|start|>assistant{FINAL}{CONTENT}<|return|>",
        (THOUGHT, CONTENT, []),
    ),
    "thought alone": (f"{ANALYSIS}Hm", ("Hm", "", [])),
    "call": (TO_WEATHER, ("", "", [PARIS])),
    "call with its recipient behind": (
        '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "Paris"}<|call|>',
        ("", "", [PARIS]),
    ),
    "thought, preamble, calls": (
        f"{ANALYSIS}a<|end|><|start|>assistant<|channel|>commentary<|message|>b<|end|>"
        f"<|start|>assistant{TO_WEATHER}<|start|>assistant{TO_WEATHER}",
        ("a", "b", [PARIS, PARIS]),
    ),
    "broken call": (
        ' to=functions.get_weather<|channel|>commentary json<|message|>{"city": Par',
        ("", ' to=functions.get_weather<|channel|>commentary json<|message|>{"city": Par', []),
    ),
    "call cut short": (TO_WEATHER[:-12], ("", TO_WEATHER[:-12], [])),
    "header cut short": ("<|channel|>ana", ("", "<|channel|>ana", [])),
    "no header": ("Hello <b>you</b>.", ("", "Hello <b>you</b>.", [])),
    "header too long": ("<|channel|>" + "x" * 400, ("", "<|channel|>" + "x" * 400, [])),
    "nothing": ("", ("", "", [])),
    "begins anew": (f"<|start|>assistant{FINAL}Hello.<|return|>", ("", "Hello.", [])),
    "role alone": ("<|message|>Hello.<|end|>", ("", "Hello.", [])),
}


@pytest.mark.parametrize("case", HARMONY)
def test_harmony_comes_apart(case: str) -> None:
    text, wanted = HARMONY[case]
    assert read("harmony", text) == wanted


def test_harmony_goes_on_where_the_prompt_left_off() -> None:
    assert read("harmony", f"so<|end|><|start|>assistant{FINAL}yes", f"x<|start|>assistant{ANALYSIS}and ") == ("so", "yes", [])
    assert read("harmony", "so", f"x<|start|>assistant{FINAL}and ") == ("", "so", [])


def test_harmony_without_tools_has_no_calls() -> None:
    assert read("harmony", TO_WEATHER, has_tools=False) == ("", TO_WEATHER.removesuffix("<|call|>"), [])


def test_messages_with_tags_come_apart() -> None:
    call = (
        ' to=get_weather<|message|><atem:function_calls>\n<atem:invoke name="get_weather">\n'
        '<atem:parameter name="city">Paris</atem:parameter>\n</atem:invoke>\n</atem:function_calls>'
    )
    text = f" to=self<|message|>{THOUGHT}<|eom|><|start|>assistant{call}<|eom|><|start|>assistant{call}<|eot|>"
    assert read("atem", text) == (THOUGHT, "", [PARIS, PARIS])
    assert read("atem", f" to=user<|message|>{CONTENT}<|eot|>") == ("", CONTENT, [])
    assert read("atem", " to=get_weather<|message|>Paris") == ("", " to=get_weather<|message|>Paris", [])


FUNCTIONARY = {
    "answer": (f"all\n{CONTENT}", ("", CONTENT, [])),
    "call": ('get_weather\n{"city": "Paris"}', ("", "", [PARIS])),
    "answer and calls": (
        'all\nLook:>>>get_weather\n{"city": "Paris"}>>>get_weather\n{"city": "Paris"}',
        ("", "Look:", [PARIS, PARIS]),
    ),
    "recipient's mark said again": ('>>>get_weather\n{"city": "Paris"}', ("", "", [PARIS])),
    "prompt of a shell": ("all\n>>> x = 1\n>>> y", ("", ">>> x = 1\n>>> y", [])),
    "broken call": ("get_weather\nParis", ("", "get_weather\nParis", [])),
    "no header": ("Hello there.\nYes", ("", "Hello there.\nYes", [])),
}


@pytest.mark.parametrize("case", FUNCTIONARY)
def test_functionary_comes_apart(case: str) -> None:
    text, wanted = FUNCTIONARY[case]
    assert read("functionary", text) == wanted


@pytest.mark.parametrize("case", CASES)
def test_harmony_reads_every_kind_of_argument(case: str) -> None:
    import json

    parts = [
        f" to=functions.{name}<|channel|>commentary json<|message|>{json.dumps(arguments, ensure_ascii=False)}<|call|>"
        for name, arguments in CASES[case]
    ]
    assert read("harmony", "<|start|>assistant".join(parts))[2] == list(CASES[case])
