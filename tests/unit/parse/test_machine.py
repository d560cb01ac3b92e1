"""What an answer's text turns out to be: thoughts, calls, and what only looks like them."""

from typing import Any

import pytest

from corral.parse import AnswerFormat, CallFormat, Content, JsonCalls, Markup, Pair, Thinking, answer_parser
from tests.support.answer_formats import FORMATS, HERMES, THINK, answer, plain, prompt_of
from tests.support.answers import CASES, TOOLS, Said, calls_of, content_of, cuts, parsed, thought_of, written

THINKING = plain(HERMES)
CALL = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
PARIS = ("get_weather", {"city": "Paris"})


def events_of(form: AnswerFormat, text: str, *, prompt: str = "assistant\n", tools: Any = TOOLS) -> tuple[str, str, list[Any]]:
    """Thought, content and calls, the same for every way to cut the text."""
    said = Said(prompt, text)
    whole, *others = (parsed(form, said, chunks, tools) for chunks in cuts(text).values())
    assert all(other == whole for other in others)
    return thought_of(whole), content_of(whole), calls_of(whole)


# text -> thought, content. What Ollama's parser makes of tags is copied. Source: ollama@v0.32 thinking/parser.go
THOUGHTS = {
    "no tags": ("  abc", "", "  abc"),
    "thought and answer": ("<think>abc</think>def", "abc", "def"),
    "space around": ("  <think>  abc  </think>\n\ndef", "abc  ", "def"),
    "newlines": ("<think>\nabc\n</think>\n\nHello!", "abc\n", "Hello!"),
    "text before": ("  abc <think>def</think> ghi", "", "  abc <think>def</think> ghi"),
    "never closed": ("<think>abc", "abc", ""),
    "nearly a tag": ("<thinking>abc</thinking>", "", "<thinking>abc</thinking>"),
    "nearly closed": ("<think>abc</thing>def</think>ghi", "abc</thing>def", "ghi"),
    "begun at the end": ("abc<th", "", "abc<th"),
    "begun and nothing else": ("<th", "", "<th"),
    "close begun at the end": ("<think>abc</th", "abc</th", ""),
    "empty": ("<think>\n\n</think>\n\nabc", "", "abc"),
    "empty and nothing else": ("<think>\n\n</think>\n\n", "", ""),
    "second thought": ("<think>a</think>\n<think>b</think>c", "ab", "c"),
    "speaks of the tag": ("The tag <think> opens, </think> closes.", "", "The tag <think> opens, </think> closes."),
    "closed but never opened": ("</think>\nabc", "", "abc"),
    "only space": (" \n ", "", " \n "),
    "nothing": ("", "", ""),
    "space inside": ("<think>a\n\n b</think> c \n", "a\n\n b", "c \n"),
}


@pytest.mark.parametrize("case", THOUGHTS)
def test_thought_comes_apart_from_the_answer(case: str) -> None:
    text, thought, content = THOUGHTS[case]
    for tools in ((), TOOLS):
        assert events_of(THINKING, text, tools=tools) == (thought, content, [])


@pytest.mark.parametrize(
    ("prompt", "text", "thought", "content"),
    [
        pytest.param("<think>\n", "abc\n</think>\n\ndef", "abc\n", "def", id="open"),
        pytest.param("<think>", "\nabc</think>def", "abc", "def", id="open, newline left to the model"),
        pytest.param("<think>\n", "abc", "abc", "", id="never closed"),
        pytest.param("<think>\n\n</think>\n\n", "\nabc <think>", "", "abc <think>", id="closed"),
        pytest.param("<think>\n</think>", "<think>b</think>c", "b", "c", id="thinks all the same"),
        pytest.param("what is <think>?\nassistant\n", "abc", "", "abc", id="spoken of"),
    ],
)
def test_prompt_tells_whether_the_model_thinks_already(prompt: str, text: str, thought: str, content: str) -> None:
    assert events_of(THINKING, text, prompt=prompt) == (thought, content, [])


def test_thought_is_shown_as_it_comes() -> None:
    parser = answer_parser(THINKING, prompt="")
    shown = [parser.feed(text) for text in ("<th", "ink>", "\n", "a", " b<", "i>", "</thi", "nk>", "\n", "c")]
    assert shown == [
        [],
        [],
        [],
        [Markup("<think>\n"), Thinking("a")],
        [Thinking(" b")],
        [Thinking("<i>")],
        [],
        [Markup("</think>")],
        [],
        [Markup("\n"), Content("c")],
    ]


# As a real Ollama answered; only that it sends all calls at the end.
RECORDED = {
    "thinker": ("<think>\nThe user greets me. I answer in one word.\n</think>\n\nHello!", (
        "The user greets me. I answer in one word.\n", "Hello!", [])),
    "tooler": (
        'I will look.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris", "unit": "celsius"}}\n</tool_call>', (
        "", "I will look.\n", [("get_weather", {"city": "Paris", "unit": "celsius"})])),
    "two calls": (f"<tool_call>\n{CALL}\n</tool_call>\n<tool_call>\n{CALL}\n</tool_call>", ("", "", [PARIS, PARIS])),
}  # fmt: skip


@pytest.mark.parametrize("case", RECORDED)
def test_answer_is_taken_apart_as_ollama_does(case: str) -> None:
    text, wanted = RECORDED[case]
    assert events_of(THINKING, text) == wanted


def test_call_stays_text_without_tools() -> None:
    text = RECORDED["tooler"][0]
    assert events_of(THINKING, text, tools=()) == ("", text, [])


CALLS = {
    "no space": f"<tool_call>{CALL}</tool_call>",
    "much space": f"\n\n <tool_call> \n\n {CALL} \n </tool_call>\n \n",
    "no closing tag": f"<tool_call>\n{CALL}",
    "closing tag cut": f"<tool_call>\n{CALL}\n",
    "arguments first": '<tool_call>{"arguments": {"city": "Paris"}, "name": "get_weather"}</tool_call>',
    "parameters": '<tool_call>{"name": "get_weather", "parameters": {"city": "Paris"}}</tool_call>',
    "with an id": f'<tool_call>{{"id": "x", "type": "function", {CALL[1:]}</tool_call>',
    "inside of function": f'<tool_call>{{"type": "function", "function": {CALL}}}',
    "arguments as text": '<tool_call>{"name": "get_weather", "arguments": "{\\"city\\": \\"Paris\\"}"}</tool_call>',
    "in a list": f"<tool_call>[{CALL}]</tool_call>",
    "comma too many": '<tool_call>{"name": "get_weather", "arguments": {"city": "Paris",},}</tool_call>',
    "thought before": f"<think>so</think>\n<tool_call>{CALL}</tool_call>",
}


@pytest.mark.parametrize("case", CALLS)
def test_call_is_read_however_it_is_spaced_and_ordered(case: str) -> None:
    _, content, calls = events_of(THINKING, CALLS[case])
    assert (content, calls) == ("", [PARIS])


BROKEN = {
    "not json": "<tool_call>\nget_weather(Paris)\n</tool_call>",
    "cut in a string": '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Par',
    "cut after the name": '<tool_call>\n{"name": "get_weather",',
    "cut after the tag": "<tool_call>\n",
    "cut in the tag": "Well. <tool_ca",
    "no name": '<tool_call>{"arguments": {"city": "Paris"}}</tool_call>',
    "name is no text": '<tool_call>{"name": 3, "arguments": {}}</tool_call>',
    "arguments are a list": '<tool_call>{"name": "get_weather", "arguments": [1]}</tool_call>',
    "arguments are prose": '<tool_call>{"name": "get_weather", "arguments": "Paris"}</tool_call>',
    "wrong quotes": "<tool_call>{'name': 'get_weather'}</tool_call>",
    "no colon": '<tool_call>{"name" "get_weather"}</tool_call>',
    "unknown word": '<tool_call>{"name": "get_weather", "arguments": {"days": many}}</tool_call>',
    "not a number": '<tool_call>{"name": "get_weather", "arguments": {"days": NaN}}</tool_call>',
    "too deep": '<tool_call>{"name": "get_weather", "arguments": {"filter": ' + "[" * 5000,
    "a number without end": '<tool_call>{"name": "get_weather", "arguments": {"days": ' + "1" * 5000 + "}}</tool_call>",
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_call_comes_back_as_content(case: str) -> None:
    assert events_of(THINKING, BROKEN[case]) == ("", BROKEN[case], [])


def test_call_after_a_broken_one_is_read() -> None:
    text = f'<tool_call>\n<tool_call>{{"name" broken <tool_call>{CALL}</tool_call> and more'
    _, content, calls = events_of(THINKING, text)
    assert calls == [PARIS]
    assert content == '<tool_call>\n<tool_call>{"name" broken  and more'


def test_call_is_given_as_soon_as_it_is_complete() -> None:
    parser = answer_parser(THINKING, tools=TOOLS)
    assert parser.feed(f"<tool_call>\n{CALL[:-1]}") == []
    assert calls_of(parser.feed("}")) == [PARIS]


def test_text_between_and_after_calls_is_content() -> None:
    text = f"First.\n<tool_call>{CALL}</tool_call>\nThen.\n<tool_call>{CALL}</tool_call>\n\nDone."
    assert events_of(THINKING, text) == ("", "First.\n\nThen.\n\n\nDone.", [PARIS, PARIS])


class TestBare:
    """Where nothing marks a call: it counts at the beginning of an answer, and only for a tool that there is."""

    FORM = FORMATS["bare object"]

    @pytest.mark.parametrize(
        "text",
        [
            '{"name": "get_weather", "parameters": {"city": "Paris"}}',
            ' \n{"name": "get_weather", "arguments": {"city": "Paris"}}\n',
            '[{"name": "get_weather", "parameters": {"city": "Paris"}}]',
            '{"type": "function", "function": "get_weather", "parameters": {"city": "Paris"}}',
            '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris"}}',
            '<|python_tag|>get_weather.call(city="Paris")',
            "Let me see. <|python_tag|>get_weather(city='Paris')",
        ],
    )
    def test_call_is_read(self, text: str) -> None:
        _, content, calls = events_of(self.FORM, text)
        assert calls == [PARIS]
        assert content in ("", "Let me see. ")

    def test_several_calls_are_read(self) -> None:
        one = '{"name": "get_weather", "parameters": {"city": "Paris"}}'
        for text in (f"{one}; {one}", f"{one}\n{one}", f"{one},{one}", f"[{one}, {one}]"):
            assert events_of(self.FORM, text) == ("", "", [PARIS, PARIS])

    @pytest.mark.parametrize(
        "text",
        [
            '{"answer": 42}',
            '{"name": "Ada", "age": 36}',
            '{"name": "Ada", "parameters": {}}',
            '{"name": "get_weather"}',
            "[1, 2, 3]",
            "{not json}",
            'Here: {"name": "get_weather", "parameters": {"city": "Paris"}}',
            "[link](url)",
            '<|python_tag|>print("hello")',
        ],
    )
    def test_what_is_none_stays_text(self, text: str) -> None:
        assert events_of(self.FORM, text) == ("", text, [])

    def test_answer_in_json_is_let_go_at_its_first_key(self) -> None:
        parser = answer_parser(self.FORM, tools=TOOLS)
        assert parser.feed('{"answer"') != []


def test_json_in_content_is_no_call_where_calls_are_marked() -> None:
    assert events_of(THINKING, CALL) == ("", CALL, [])


def test_tags_around_content_never_show() -> None:
    form = FORMATS["list in tags"]
    text = "<|THINKING|>a<|END_THINKING|><|RESPONSE|>b<|END_RESPONSE|>\n"
    assert events_of(form, text) == ("a", "b\n", [])
    assert events_of(FORMATS["granite"], "<think>a</think>\n<response>b</response>\n") == ("a", "b", [])
    assert events_of(FORMATS["granite"], "say <response>x</response> so") == ("", "say <response>x</response> so", [])


def test_list_without_calls_is_nothing() -> None:
    assert events_of(FORMATS["list in tags"], "<|ACTION|>[]<|END_ACTION|>") == ("", "", [])


def test_second_call_of_a_list_may_be_broken() -> None:
    text = f"<|ACTION|>[{CALL}, {{oops}}]<|END_ACTION|>"
    assert events_of(FORMATS["list in tags"], text) == ("", ", {oops}]<|END_ACTION|>", [PARIS])


class TestCallInThought:
    """A model that forgets to end its thought before it calls."""

    def test_counts_where_the_answer_ends_with_it(self) -> None:
        text = f"I will call.\n<tool_call>\n{CALL}\n</tool_call>"
        assert events_of(THINKING, text, prompt="<think>\n") == ("I will call.\n", "", [PARIS])

    def test_is_thought_where_the_thought_goes_on(self) -> None:
        text = f"As in <tool_call>{CALL}</tool_call>, or so.\n</think>\nNo."
        thought, content, calls = events_of(THINKING, text, prompt="<think>\n")
        assert (content, calls) == ("No.", [])
        assert thought == text.removesuffix("</think>\nNo.")

    def test_is_thought_where_the_thought_ends_after_it(self) -> None:
        text = f"<tool_call>{CALL}</tool_call></think>\n<tool_call>{CALL}</tool_call>"
        thought, content, calls = events_of(THINKING, text, prompt="<think>\n")
        assert (content, calls) == ("", [PARIS])
        assert thought == f"<tool_call>{CALL}</tool_call>"

    def test_is_thought_where_there_is_no_such_tool(self) -> None:
        text = '<tool_call>{"name": "nobody", "arguments": {}}</tool_call>'
        assert events_of(THINKING, text, prompt="<think>\n") == (text, "", [])


def test_values_without_quotes_are_typed_by_the_tool() -> None:
    form = FORMATS["tags for keys and values"]
    said = answer(form, [("get_weather", {"city": "12", "days": 12, "is_exact": True})])
    (event,) = calls_of(parsed(form, said, [said.text]))
    assert event == ("get_weather", {"city": "12", "days": 12, "is_exact": True})
    number, words = ("<arg_key>n</arg_key><arg_value>12</arg_value>", "<arg_key>t</arg_key>\n<arg_value>1 2</arg_value>")
    text = f"<tool_call>other\n{number}\n{words}\n</tool_call>"
    assert events_of(form, text)[2] == [("other", {"n": 12, "t": "1 2"})]


def test_outer_tag_may_be_left_out() -> None:
    text = "<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>"
    assert events_of(FORMATS["tags with keys"], text) == ("", "", [PARIS])
    text = '<|call_begin|>get_weather:0<|argument_begin|>{"city": "Paris"}<|call_end|>'
    assert events_of(FORMATS["name and number"], text) == ("", "", [PARIS])


def test_model_may_fall_back_into_json() -> None:
    for name in ("tags with keys", "tags for keys and values", "name and id"):
        form = FORMATS[name]
        opener = form.calls.around_each.open.split("\n")[0]
        assert events_of(form, f"{opener}\n{CALL}\n</tool_call>")[2] == [PARIS]


def test_brace_in_a_code_block_is_text() -> None:
    text = "```json\n" + CALL + "\n```"
    for form in FORMATS.values():
        if form is not FORMATS["functionary"]:
            assert events_of(form, text, prompt=prompt_of(form)) == ("", text, [])


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_reads_what_it_writes(name: str) -> None:
    form = FORMATS[name]
    for calls in CASES.values():
        said = answer(form, calls)
        for chunks in cuts(said.text).values():
            events = parsed(form, said, chunks)
            assert calls_of(events) == list(calls)
            assert content_of(events) == ""


def test_bare_list_is_read() -> None:
    form = plain(CallFormat(separator=", ", body=JsonCalls(list_open="[", list_close="]")), THINK, Pair())
    text = written(form.calls, CASES["parallel"])
    assert events_of(form, text)[2] == list(CASES["parallel"])
    assert events_of(form, "[1] is the first note") == ("", "[1] is the first note", [])
