"""Whatever a model says: no parser raises, nothing is lost, the cuts do not matter, and the work stays in proportion.

What went in is what comes out as content, thoughts and calls, but for tags: each text is held to that in one piece, in random
ones and character by character, with the parts of calls and without.
"""

import random
import re
from collections.abc import Iterable
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.parse import AnswerFormat, CallFormat, Event, Markup, MessageFormat, answer_parser
from corral.parse.units import words
from tests.support.answer_formats import FORMATS, answer, prompt_of
from tests.support.answers import CASES, CONTENT, THOUGHT, TOOLS, Said, cuts, parsed
from tests.support.call_parts import parsed_in_parts, without_parts

MUTATIONS_EACH: Final = -(-10_000 // len(FORMATS))
PIECES: Final = (
    "<think>", "</think>", "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "{", "}", "[", "]", '"', "\\", "\\u",
    "\\ud83d", ":", ",", "\n", " ", "<", ">", "<|", "|>", "get_weather", '{"name": "get_weather", "arguments": {', "None",
    "1e5", "-", "```", "<|start|>", "<|message|>", "<|channel|>", ">>>", "to=", "functions.", "<function=", "</function>",
    "\u2028", "\x00", "🏔️",
)  # fmt: skip


def answers(name: str) -> list[Said]:
    form = FORMATS[name]
    return [answer(form, calls, thought=THOUGHT, content=CONTENT) for calls in CASES.values()]


def mutated(text: str, chance: random.Random, tags: Iterable[str]) -> str:
    for _ in range(chance.randint(1, 4)):
        at, size = chance.randrange(len(text) + 1), chance.choice((1, 2, 5, 20))
        match chance.randrange(5):
            case 0:
                text = text[:at] + text[at + size :]
            case 1:
                text = text[:at] + chance.choice((*PIECES, *tags)) + text[at:]
            case 2:
                text = text[:at] + text[at : at + size] * 2 + text[at + size :]
            case 3:
                text = text[:at]
            case _:
                other = chance.randrange(len(text) + 1)
                text = text[:at] + text[other : other + size] + text[at:]
    return text


def tags_of(name: str) -> list[str]:
    form = FORMATS[name].calls
    return [form.around_all.open, form.around_all.close, form.around_each.open, form.around_each.close]


def is_the_same_for_all_cuts(name: str, said: Said, seed: int = 0) -> None:
    form = FORMATS[name]
    whole, *others = (parsed(form, said, chunks) for chunks in cuts(said.text, seed).values())
    assert all(other == whole for other in others)
    hides_tags_alone(form, whole)
    in_parts = parsed_in_parts(form, said, cuts(said.text, seed)["random"])
    assert parsed_in_parts(form, said, list(said.text)) == in_parts
    assert without_parts(in_parts) == whole


def hides_tags_alone(form: AnswerFormat, events: Iterable[Event]) -> None:
    """What nobody gets to see is tags, white space, the signs between calls, and the headers of messages."""
    tags = _alternatives(_call_tags(form.calls))
    if isinstance(form, MessageFormat):
        around = _alternatives([form.start, form.after_header, *form.ends])
    else:
        thought = [form.thought.open, form.thought.close] if form.thought else []
        around = _alternatives([*thought, form.around_content.open, form.around_content.close])
    for event in events:
        if isinstance(event, Markup):
            for part in re.split(around, event.raw):
                is_header = isinstance(form, MessageFormat) and form.route(part.strip())
                assert is_header or not re.sub(tags, "", part).strip("[],; \n\t").strip(), event


def _call_tags(form: CallFormat) -> list[str]:
    """With the mark that any model may put around arguments."""
    around = [text for pair in (form.around_all, form.around_each) for text in (pair.open, pair.close)]
    return ["```", *(part for text in around for part in words(text)), *(tag for one in form.also for tag in _call_tags(one))]


def _alternatives(texts: Iterable[str]) -> str:
    found = {text.strip() for text in texts} - {""}
    return "|".join(map(re.escape, sorted(found, key=len, reverse=True))) or "(?!)"


@pytest.mark.parametrize("name", FORMATS)
def test_mutated_answers_lose_nothing_whatever_the_cuts(name: str) -> None:
    chance = random.Random(name)
    tags, whole = tags_of(name), answers(name)
    for number in range(MUTATIONS_EACH):
        said = chance.choice(whole)
        prompt = chance.choice((said.prompt, said.prompt + "<think>\n"))
        is_the_same_for_all_cuts(name, Said(prompt, mutated(said.text, chance, tags)), number)


@pytest.mark.parametrize("name", FORMATS)
def test_random_pieces_lose_nothing_whatever_the_cuts(name: str) -> None:
    chance = random.Random(name)
    pieces = (*PIECES, *tags_of(name))
    for number in range(100):
        text = "".join(chance.choices(pieces, k=chance.randrange(40)))
        is_the_same_for_all_cuts(name, Said(prompt_of(FORMATS[name]), text), number)


@given(name=st.sampled_from(sorted(FORMATS)), pieces=st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=30))
@settings(max_examples=300, deadline=None)
def test_any_text_in_any_cuts_gives_the_same_events(name: str, pieces: list[str]) -> None:
    said = Said(prompt_of(FORMATS[name]), "".join(pieces))
    whole = parsed(FORMATS[name], said, [said.text])
    assert parsed(FORMATS[name], said, pieces) == whole
    assert parsed(FORMATS[name], said, said.text) == whole
    assert without_parts(parsed_in_parts(FORMATS[name], said, pieces)) == whole


@given(text=st.text(), prompt=st.text(max_size=40), name=st.sampled_from(sorted(FORMATS)))
@settings(max_examples=200, deadline=None)
def test_any_prompt_and_text_are_taken(text: str, prompt: str, name: str) -> None:
    parsed(FORMATS[name], Said(prompt, text), [text])


SIZE: Final = 5_000
CALL: Final = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
FLOODS: Final = {
    "less-than signs": "<",
    "spaces": " ",
    "newlines": "\n",
    "opening tags": "<tool_call>",
    "half calls": '<tool_call>{"name": "get_weather", "arguments": {"a',
    "calls": f"<tool_call>{CALL}</tool_call>",
    "functions": "<tool_call><function=get_weather><parameter=city>",
    "closing tags": "</parameter",
    "objects": '{"a":',
    "lists": "[",
    "bare calls": CALL + ";",
    "thoughts": "<think>",
    "thoughts and ends": "<think></think>",
    "headers": "<|start|>assistant to=",
    "messages": "<|start|>assistant<|channel|>final<|message|>a<|end|>",
    "arrows": ">>>a\n",
    "backslashes": "\\",
    "escaped quotes": '\\"',
    "quotes": '"',
    "digits": "1",
}
BEGINNINGS: Final = {
    "at the start": "",
    "in a string": '<tool_call>{"name": "get_weather", "arguments": {"city": "',
    "in arguments": '<tool_call>{"name": "get_weather", "arguments": ',
    "in a value": "<tool_call>\n<function=get_weather>\n<parameter=city>\n",
    "in a thought": "<think>",
    "in a call's number": "<tool_call>{",
}


@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.parametrize("name", FORMATS)
def test_work_grows_with_the_text_alone(name: str, flood: str) -> None:
    for beginning in BEGINNINGS.values():
        text = beginning + FLOODS[flood] * (SIZE // len(FLOODS[flood]))
        parser = answer_parser(FORMATS[name], prompt=prompt_of(FORMATS[name]), tools=TOOLS, parts=True)
        parser.feed(text)
        parser.close()
        assert parser.source.scanned_chars <= 40 * len(text), beginning


@pytest.mark.parametrize("name", FORMATS)
def test_work_grows_with_the_text_alone_when_it_comes_in_characters(name: str) -> None:
    for flood in FLOODS.values():
        text = (flood * SIZE)[: SIZE // 5]
        for beginning in BEGINNINGS.values():
            parser = answer_parser(FORMATS[name], prompt=prompt_of(FORMATS[name]), tools=TOOLS, parts=True)
            for char in beginning + text:
                parser.feed(char)
            parser.close()
            assert parser.source.scanned_chars <= 120 * len(beginning + text)


def test_megabyte_of_arguments_is_read() -> None:
    text = '<tool_call>{"name": "get_weather", "arguments": {"city": "' + "\\n ü" * 200_000 + '"}}</tool_call>'
    said = Said("", text)
    chunks = [text[at : at + 4] for at in range(0, len(text), 4)]
    (_, call, *_) = parsed_in_parts(FORMATS["objects in tags"], said, chunks)
    assert call.raw == text.removesuffix("</tool_call>")
