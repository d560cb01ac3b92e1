"""Calls told in parts while they are written."""

import json
from typing import Any, Final

import pytest

from corral.parse import (
    AnswerFormat,
    Call,
    CallCut,
    CallFormat,
    CallPart,
    Content,
    Event,
    JsonCalls,
    Markup,
    NamedCalls,
    Pair,
    Thinking,
    answer_parser,
)
from tests.support.answer_formats import FORMATS, HERMES, answer, plain, prompt_of
from tests.support.answers import CASES, CONTENT, THOUGHT, TOOLS, Said, calls_of, content_of, cuts, parsed, thought_of
from tests.support.call_parts import parsed_in_parts, parts_of, without_parts

THINKING: Final = plain(HERMES)
WITH_ID: Final = plain(CallFormat(around_all=Pair("[TOOL_CALLS]"), body=JsonCalls(id_key="id", list_open="[", list_close="]")))
OPEN: Final = '<tool_call>{"name": "get_weather", "arguments": '


def events_of(form: AnswerFormat, text: str, *, prompt: str = "assistant\n") -> list[Event]:
    """The same for every way to cut the text."""
    said = Said(prompt, text)
    whole, *others = (parsed_in_parts(form, said, chunks) for chunks in cuts(text).values())
    assert all(other == whole for other in others)
    return whole


def told(form: AnswerFormat, chunks: list[str], *, prompt: str = "assistant\n") -> list[list[Any]]:
    """What is told with each piece: parts as their texts, with the name before the first, other events by their kind."""
    parser = answer_parser(form, prompt=prompt, tools=TOOLS, parts=True)
    return [[_short(event) for event in parser.feed(chunk)] for chunk in chunks]


def _short(event: Event) -> Any:
    if isinstance(event, CallPart):
        return (event.name, event.text) if event.name else event.text
    return type(event)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", FORMATS)
def test_parts_are_the_call_in_every_format(name: str, case: str) -> None:
    form = FORMATS[name]
    said = answer(form, CASES[case], thought=THOUGHT, content="" if form.calls.is_bare else CONTENT)
    plainly = parsed(form, said, [said.text])
    assert calls_of(plainly) == list(CASES[case])
    for chunks in cuts(said.text).values():
        events = parsed_in_parts(form, said, chunks)
        assert [(tool, json.loads(text)) for tool, text in parts_of(events)] == list(CASES[case])
        assert without_parts(events) == plainly


@pytest.mark.parametrize("name", FORMATS)
def test_long_text_is_told_while_it_is_written(name: str) -> None:
    form = FORMATS[name]
    city = " ".join(["so", *["long"] * 40])
    said = answer(form, [("get_weather", {"city": city})])
    chunks = list(said.text)
    parser = answer_parser(form, prompt=said.prompt, tools=TOOLS, parts=True)
    heard = ["".join(text for _, text in parts_of(parser.feed(char))) for char in chunks]
    first = next(at for at, text in enumerate(heard) if "s" in text)
    last = max(at for at, text in enumerate(heard) if "g" in text)
    assert [len(text) for text in heard[first:last]] == [1] * (last - first)
    assert last <= said.text.rindex("g", 0, said.text.index(city) + len(city)) + 1


STEPS: Final[dict[str, tuple[str, list[tuple[str, list[Any]]]]]] = {
    "an object": ("objects in tags", [
        ('<tool_call>\n{"name": "get_weather"', []),
        (', "arguments": {', []),
        ('"city"', []),
        (": ", [("get_weather", '{"city":')]),
        ('"Par', ['"Par']),
        ("is", ["is"]),
        ('", ', ['"']),
        ('"days": 1', [',"days":']),
        ("2", []),
        ("}", ["12}"]),
        ("}", [Call]),
    ]),
    "arguments before the name": ("objects in tags", [
        ('<tool_call>\n{"arguments": {"city": "Par', []),
        ('is"}, ', []),
        ('"name": "get_weather"', [("get_weather", '{"city":"Paris"}')]),
        ("}", [Call]),
    ]),
    "arguments as text": ("objects in tags", [
        ('<tool_call>\n{"name": "get_weather", "arguments": "{\\"city\\": \\"Par', [("get_weather", '{"city":"Par')]),
        ("is\\u00", ["is"]),
        ('e4\\", \\"days\\": 1', ['ä","days":']),
        ('}"', ["1}"]),
        ("}", [Call]),
    ]),
    "arguments as text before the name": ("objects in tags", [
        ('<tool_call>\n{"arguments": "{\\"city\\": \\"Paris\\"}", "name": "get', []),
        ('_weather"', [("get_weather", '{"city":"Paris"}')]),
        ("}", [Call]),
    ]),
    "name and arguments inside": ("objects in tags", [
        ('<tool_call>\n{"type": "function", "function": {"name": "get_weather", "arguments": {"city": ', [
            ("get_weather", '{"city":')]),
        ('"Paris"}}', ['"Paris"}']),
        ("}", [Call]),
    ]),
    "no arguments": ("objects in tags", [
        ('<tool_call>\n{"name": "get-time.v2"', []),
        (', "arguments": {', []),
        ("}", [("get-time.v2", "{}")]),
        ("}", [Call]),
    ]),
    "arguments left out": ("objects in tags", [
        ('<tool_call>\n{"name": "get-time.v2"', []), ("}", [("get-time.v2", "{}"), Call])]),
    "arguments null": ("objects in tags", [
        ('<tool_call>\n{"name": "get-time.v2", "arguments": null', []), ("}", [("get-time.v2", "{}"), Call])]),
    "the name is the key": ("name as key", [
        ('<|tools|>[{"get_weather": {"city":', [("get_weather", '{"city":')]),
        (' "Par', ['"Par']),
        ('is"}', ['is"}']),
        ("}, ", [Call]),
    ]),
    "the key may be a word for arguments": ("name as key", [
        ('<|tools|>[{"input": {"city": "Paris"}', []), ("}", [("input", '{"city":"Paris"}'), Call])]),
    "name and id": ("name and id", [
        ("[TOOL_CALLS]get_weather[CALL_ID]abc", []),
        ("[ARGS]{", []),
        ('"city": "P', [("get_weather", '{"city":"P')]),
        ('aris"}', ['aris"}', Call]),
    ]),
    "text in tags": ("tags with keys", [
        ("<tool_call>\n<function=get_weather>\n<parameter=city>", [("get_weather", '{"city":"')]),
        ("\nsay", ["say"]),
        (' "hi"\n', [' \\"hi\\"']),
        ("\n", ["\\n"]),
        ("</parameter>\n", ['"']),
        ("<parameter=days>\n1", [',"days":']),
        ("2\n</parameter>", ["12"]),
        ("\n</function>", ["}", Call]),
    ]),
    "types in tags": ("tags with types", [
        ('\n\n<|x|calls>\n<|x|invoke name="other">\n<|x|parameter name="a" string="true">1', [("other", '{"a":"1')]),
        ('2</|x|parameter>\n<|x|parameter name="b" string="false">1', ['2","b":']),
        ("2</|x|parameter>", ["12"]),
        ("\n</|x|invoke>", ["}", Call]),
    ]),
    "text that the schema does not know": ("tags for keys and values", [
        ("<tool_call>other\n<arg_key>a</arg_key>\n<arg_value>1", [("other", '{"a":')]),
        (" 2", []),
        ("</arg_value>", ['"1 2"']),
        ("\n</tool_call>", ["}", Call]),
    ]),
    "braces": ("braces", [
        ('<|tool_call>call:get_weather{city:<|"|>say "', [("get_weather", '{"city":"say \\"')]),
        ('hi<|"|>,days:2', ['hi","days":']),
        ("}", ["2}", Call]),
    ]),
    "Python": ("python", [
        ("<|tool_call_start|>[get_weather(city", []),
        ("='it", [("get_weather", '{"city":"it')]),
        ("\\'s', days=None", ["'s\",\"days\":"]),
        (")", ["null}", Call]),
    ]),
    "nothing marks it": ("bare object", [
        ('{"name": "get_weather", "parameters": {"city', []),
        ('": "P', [("get_weather", '{"city":"P')]),
        ('aris"}', ['aris"}']),
        ("}", [Call]),
    ]),
    "a message": ("harmony", [
        (' to=functions.get_weather<|channel|>commentary json<|message|>{"city": "P', [("get_weather", '{"city":"P')]),
        ('aris"}', ['aris"}', Call]),
    ]),
    "a message with tags": ("atem", [
        (' to=get_weather<|message|><atem:function_calls>\n<atem:invoke name="get_weather">\n', []),
        ('<atem:parameter name="city">P', [("get_weather", '{"city":"P')]),
        ("aris</atem:parameter>\n</atem:invoke>", ['aris"}', Call]),
    ]),
}  # fmt: skip


@pytest.mark.parametrize("case", STEPS)
def test_each_piece_tells_what_is_certain_by_then(case: str) -> None:
    name, steps = STEPS[case]
    form = FORMATS[name]
    assert told(form, [text for text, _ in steps], prompt=prompt_of(form)) == [wanted for _, wanted in steps]


LENIENT: Final = {
    "raw newline": ('{"city": "a\nb\t"}', {"city": "a\nb\t"}),
    "escape that is none": (r'{"city": "\d+\x41"}', {"city": r"\d+A"}),
    "half a pair": (r'{"city": "\ud83d!"}', {"city": "\ufffd!"}),
    "comma too many": ('{"filter": {"a": [1, 2,],},}', {"filter": {"a": [1, 2]}}),
    "words of Python": ('{"is_exact": True, "days": None}', {"is_exact": True, "days": None}),
    "key twice": ('{"days": 1, "days": 2}', {"days": 2}),
    "number beyond 64 bits": ('{"days": 123456789012345678901234567890}', {"days": 1.2345678901234568e29}),
}


@pytest.mark.parametrize("case", LENIENT)
def test_parts_are_json_also_where_the_model_wrote_none(case: str) -> None:
    text, wanted = LENIENT[case]
    events = events_of(THINKING, f"{OPEN}{text}}}</tool_call>")
    assert calls_of(events) == [("get_weather", wanted)]  # the helper compares the parts with it


def test_what_comes_first_counts() -> None:
    text = '<tool_call>{"name": "a", "name": "b", "arguments": {"x": 1}, "parameters": {"x": 2}, "arguments": 3}</tool_call>'
    assert parts_of(events_of(THINKING, text)) == [("a", '{"x":1}')]
    text = '<tool_call>{"name": "a", "arguments": {}, "function": {"name": "b", "arguments": {"x": 1}}}</tool_call>'
    assert parts_of(events_of(THINKING, text)) == [("a", "{}")]
    text = '<tool_call>{"arguments": {"y": 1}, "function": {"name": "b", "arguments": {"x": 1}}, "name": "a"}</tool_call>'
    assert parts_of(events_of(THINKING, text)) == [("b", '{"x":1}')]


def test_id_is_in_the_first_part_where_it_was_written_by_then() -> None:
    before = '[TOOL_CALLS][{"id": "abc", "name": "get_weather", "arguments": {"city": "Paris"}}'
    behind = '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Paris"}, "id": "abc"}'
    for text, call_id in ((before, "abc"), (behind, "")):
        part, call, *_ = events_of(WITH_ID, text + "]")
        assert isinstance(part, CallPart)
        assert isinstance(call, Call)
        assert (part.call_id, call.call_id) == (call_id, "abc")
    part, *_ = events_of(FORMATS["name and id"], "[TOOL_CALLS]get_weather[CALL_ID]abc[ARGS]{}")
    assert part == CallPart("get_weather", "{}", "abc")
    part, *_ = events_of(FORMATS["name and number"], "<|call_begin|>functions.get_weather:7<|argument_begin|>{}<|call_end|>")
    assert part == CallPart("get_weather", "{}", "functions.get_weather:7")


def test_without_asking_there_are_no_parts() -> None:
    parser = answer_parser(THINKING, tools=TOOLS)
    assert parser.feed(OPEN + '{"city": "Paris"') == []
    assert [type(event) for event in parser.feed("}}")] == [Call]


CUT: Final = {
    "in a string": (THINKING, OPEN + '{"city": "Par', '{"city":"Par'),
    "in an escape": (THINKING, OPEN + '{"city": "Par\\u00', '{"city":"Par'),
    "in a pair": (THINKING, OPEN + '{"city": "Par\\ud83d', '{"city":"Par'),
    "in a number": (THINKING, OPEN + '{"days": 1', '{"days":'),
    "behind the arguments": (THINKING, OPEN + '{"days": 1}', '{"days":1}'),
    "in arguments as text": (THINKING, OPEN + '"{\\"city\\": \\"Par', '{"city":"Par'),
    "in a value": (FORMATS["tags with keys"], "<function=get_weather>\n<parameter=city>\nPar\n</param", '{"city":"Par'),
    "in a value without quotes": (FORMATS["tags with keys"], "<function=get_weather>\n<parameter=days>\n1", '{"days":'),
    "between tags": (FORMATS["atem"], ' to=get_weather<|message|><atem:function_calls>\n<atem:invoke name="get_weather">\n'
        '<atem:parameter name="city">Par</atem:parameter>\n</atem:inv', '{"city":"Par"'),
    "in a message": (FORMATS["harmony"], ' to=functions.get_weather<|message|>{"city": "Par', '{"city":"Par'),
}  # fmt: skip


@pytest.mark.parametrize("case", CUT)
def test_call_that_the_answer_ends_in_is_told_as_cut(case: str) -> None:
    form, text, arguments = CUT[case]
    events = events_of(form, text, prompt=prompt_of(form))
    assert events == [CallPart("get_weather", arguments), CallCut("get_weather", text)]
    assert parsed(form, Said(prompt_of(form), text), [text]) == [Content(text)]


def test_cut_call_has_nothing_of_the_complete_one_before_it() -> None:
    first = '[TOOL_CALLS][{"name": "get_weather", "arguments": {}}'
    events = events_of(WITH_ID, first + ', {"name": "get_weather", "arguments": {"city": "Par')
    assert [type(event) for event in events] == [CallPart, Call, CallPart, CallCut]
    assert events[-1] == CallCut("get_weather", ', {"name": "get_weather", "arguments": {"city": "Par')


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "get_weather", "argu',
        OPEN,
        OPEN + "{",
        '<tool_call>{"arguments": {"city": "Paris"}',
        "<tool_ca",
    ],
)
def test_call_cut_before_its_parts_is_content(text: str) -> None:
    assert events_of(THINKING, text) == [Content(text)]


PARIS: Final = '{"city": "Paris"}'
BROKEN: Final = {
    "in the arguments": (THINKING, OPEN + '{"days": many}}</tool_call> so', '{"days":'),
    "behind the arguments": (THINKING, OPEN + '{"days": 1} and so on', '{"days":1}'),
    "in arguments as text": (THINKING, OPEN + '"{\\"days\\": many}"}</tool_call>', '{"days":'),
    "behind an object in text": (THINKING, OPEN + '"{\\"days\\": 1} so"}</tool_call>', '{"days":1}'),
    "a wrong key": (
        FORMATS["bare object"], f'{{"name": "get_weather", "parameters": {PARIS}, "age": 3}}', '{"city":"Paris"}'),
    "a second key": (FORMATS["name as key"], '<|tools|>[{"get_weather": {"days": 1}, "so": 2}]', '{"days":1}'),
    "no tag": (
        FORMATS["tags with keys"], "<function=get_weather>\n<parameter=city>\nParis\n</parameter>\nso", '{"city":"Paris"'),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_what_breaks_after_its_parts_is_content_all_the_same(case: str) -> None:
    form, text, arguments = BROKEN[case]
    events = events_of(form, text)
    assert parts_of(events) == [("get_weather", arguments)]
    assert isinstance(events[0], CallPart)
    assert without_parts(events) == parsed(form, Said("assistant\n", text), [text])
    assert calls_of(events) == []
    assert content_of(events).startswith(text.partition("</tool_call>")[0])


def test_call_after_a_broken_one_begins_anew() -> None:
    call = OPEN + '{"city": "Paris"}}</tool_call>'
    events = events_of(THINKING, OPEN + '{"days": many}}</tool_call>' + call)
    assert parts_of(events) == [("get_weather", '{"days":'), ("get_weather", '{"city":"Paris"}')]
    assert calls_of(events) == [("get_weather", {"city": "Paris"})]


@pytest.mark.parametrize(
    "text",
    [
        '<|python_tag|>print("hello")',
        "<|python_tag|>import json\nprint(json.dumps({}))",
        '{"name": "Ada", "parameters": {"city": "Paris"}}',
        '{"parameters": {"city": "Paris"}, "name": "Ada"}',
        '{"name": "get_weather"}',
        '{"answer": {"name": "get_weather", "parameters": {}}}',
    ],
)
def test_what_only_looks_like_a_call_has_no_parts(text: str) -> None:
    assert events_of(FORMATS["bare object"], text) == [Content(text)]


def test_prose_in_tags_has_no_parts() -> None:
    text = "<tool_call>hello world</tool_call>"
    assert parts_of(events_of(FORMATS["tags for keys and values"], text)) == []
    assert parts_of(events_of(THINKING, text)) == []


class TestCallInThought:
    """It is a call only where the answer ends with it: before that there is nothing to tell."""

    CALL = OPEN + '{"city": "Paris"}}\n</tool_call>'

    def test_is_told_with_its_parts_at_the_end(self) -> None:
        parser = answer_parser(THINKING, prompt="<think>\n", tools=TOOLS, parts=True)
        assert parser.feed(self.CALL) == []
        assert [type(event) for event in parser.close()] == [CallPart, Call, Markup]
        assert parts_of(events_of(THINKING, self.CALL, prompt="<think>\n")) == [("get_weather", '{"city":"Paris"}')]

    @pytest.mark.parametrize("text", [CALL + " or so", CALL[:-20], CALL + "</think>"])
    def test_has_no_parts_where_it_is_a_thought(self, text: str) -> None:
        events = events_of(THINKING, text, prompt="<think>\n")
        assert parts_of(events) == []
        assert thought_of(events) == text.removesuffix("</think>")

    def test_counts_where_the_name_is_the_key(self) -> None:
        form = FORMATS["name as key"]
        text = '<|tools|>[{"get_weather": {"city": "Paris"}}]<|/tools|>'
        assert calls_of(events_of(form, text, prompt="<think>\n")) == [("get_weather", {"city": "Paris"})]
        text = text.replace("get_weather", "nobody")
        assert events_of(form, text, prompt="<think>\n") == [Thinking(text)]


def test_call_without_a_name_is_content() -> None:
    text = '<|channel|>commentary to=functions. <|message|>{"city": "Paris"}'
    assert events_of(FORMATS["harmony"], text, prompt="<|start|>assistant") == [Content(text)]
    named = plain(CallFormat(around_each=Pair("<c>", "</c>"), body=NamedCalls(before_arguments="[ARGS]")))
    assert parts_of(events_of(named, '<c>[ARGS]{"city": "Paris"}</c>')) == []
