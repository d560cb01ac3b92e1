"""Arguments of all kinds in calls of all forms: what grammars take is read back, and meets the tool's schema."""

from typing import Any

import pytest

from corral.core.errors import BadRequestError
from corral.parse import JsonCalls, MessageFormat
from corral.parse.grammars import UnenforceableError, call_grammars, call_or_answer_grammar
from tests.support.answer_formats import FORMATS, answer
from tests.support.calling import TOOLS, read_calls, tool, walks
from tests.support.grammars import forced, matcher, taken, takes

WALKS = 12
TEXT = {"type": "string"}
COUNT = {"type": "integer"}
IN_TREE = {"node": {"type": "object", "properties": {"v": COUNT, "kids": {"type": "array", "items": {"$ref": "#/$defs/node"}}}}}


def _of(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


PARAMETERS: dict[str, Any] = {
    "none": None,
    "empty": {},
    "no properties": _of(),
    "text and number": _of("a", a=TEXT, b={"type": "number"}),
    "optional text": _of(a={"type": ["string", "null"]}, b={"anyOf": [TEXT, {"type": "null"}]}),
    "text or number": _of("a", a={"type": ["string", "integer"]}),
    "text or range": _of("a", a={"anyOf": [TEXT, {"type": "integer", "minimum": 5, "maximum": 9}]}),
    "text or list": _of("a", a={"anyOf": [TEXT, {"type": "array", "items": COUNT}]}),
    "anything": _of("a", a={}),
    "words": _of("a", "b", a={"enum": ["red", "dark blue"]}, b={"enum": [1, "two", None, True]}),
    "words like numbers": _of("a", a={"type": "string", "enum": ["1", "2"]}, b={"const": 3}),
    "ranges": _of("a", "b", a={"type": "integer", "minimum": -3, "maximum": 12}, b={"type": "number", "exclusiveMinimum": 0}),
    "lengths": _of("a", a={"type": "string", "minLength": 2, "maxLength": 4}),
    "pattern": _of("a", a={"type": "string", "pattern": "^[A-Z]{2}-[0-9]+$"}, b={"type": "string", "format": "date"}),
    "lists": _of("a", "b", a={"type": "array", "items": TEXT, "minItems": 1, "maxItems": 3}, b={"type": "array", "items": {}}),
    "tuple": _of("a", a={"type": "array", "prefixItems": [TEXT, COUNT], "minItems": 1, "items": {"type": "boolean"}}),
    "nested": _of("a", a=_of("x", x=TEXT, y=_of("z", z={"type": ["boolean", "null"]}))),
    "map": _of("a", a={"type": "object", "additionalProperties": COUNT}),
    "open": {**_of("a", a=TEXT), "additionalProperties": COUNT},
    "recursive": {"$defs": IN_TREE, **_of("a", a={"$ref": "#/$defs/node"})},
    "cases": {"anyOf": [_of("a", a=TEXT), _of("b", b=COUNT)]},
    "many optional": _of(**{f"p{number}": COUNT for number in range(5)}),
    "required last": _of("c", a=COUNT, b=TEXT, c={"type": "boolean"}, d=COUNT),
}


@pytest.mark.parametrize("case", PARAMETERS)
@pytest.mark.parametrize("name", FORMATS)
def test_arguments_are_read_back_as_the_schema_wants_them(name: str, case: str) -> None:
    form, tools = FORMATS[name], [tool("act", PARAMETERS[case])]
    (grammar,) = call_grammars(form, tools, mode="required")
    for text in walks(form, grammar, range(WALKS), ("dark blue", "AB-1", "2024-02-28")):
        read_calls(form, text, tools)


VALUES: dict[str, dict[str, Any]] = {
    "optional text": {"a": "2024", "b": None},
    "words": {"a": "dark blue", "b": True},
    "lists": {"a": ["x, y", "[z]"], "b": [1, [None, {"k": "v"}]]},
    "nested": {"a": {"x": 'say "so"', "y": {"z": False}}},
    "tuple": {"a": ["x", 1, True]},
    "required last": {"b": "x", "c": True, "d": 4},
    "recursive": {"a": {"kids": [{"kids": [], "v": 2}], "v": 1}},
}


@pytest.mark.parametrize("case", VALUES)
@pytest.mark.parametrize("name", FORMATS)
def test_arguments_of_the_schema_are_taken(name: str, case: str) -> None:
    form, parameters = FORMATS[name], PARAMETERS[case]
    if case == "recursive" and name != "braces":  # whose keys are in alphabetical order
        parameters = {**parameters, "$defs": {"node": {**IN_TREE["node"], "propertyOrdering": ["kids", "v"]}}}
    text = answer(form, [("act", VALUES[case])]).text
    (grammar,) = call_grammars(form, [tool("act", parameters)], mode="required")
    assert taken(grammar, text) == text


ODD_NAMES = ("get weather", 'say_"so"', "größe", "a\\b", "x\ny", "p|q", "f(x)")


@pytest.mark.parametrize("odd", ODD_NAMES)
@pytest.mark.parametrize("name", FORMATS)
def test_odd_names_are_written_or_refused(name: str, odd: str) -> None:
    form, tools = FORMATS[name], [tool(odd, _of("a", a=TEXT))]
    if not isinstance(form, MessageFormat) and isinstance(form.calls.body, JsonCalls):
        tools.append(tool("plain", _of("a", a=TEXT)))
    try:
        (grammar,) = call_grammars(form, tools, mode="required", name=odd)
    except BadRequestError as error:
        refusal = str(error)
    else:
        refusal = ""
    assert refusal.startswith("tools[0].function.name: " if refusal else "")
    if refusal:
        return
    for text in walks(form, grammar, range(3)):
        assert {call.name for call in read_calls(form, text, tools)} == {odd}


@pytest.mark.parametrize("name", FORMATS)
def test_any_number_of_tools_is_taken(name: str) -> None:
    tools = [tool(f"tool_{number}", _of("a", a=TEXT, b=COUNT)) for number in range(500)]
    form = FORMATS[name]
    for mode in ("required", "auto"):
        for grammar in call_grammars(form, tools, mode=mode)[:3]:
            matcher(grammar)
    (grammar,) = call_grammars(form, tools, mode="required")
    assert takes(grammar, answer(form, [("tool_499", {"a": "x"})]).text)


REFUSED: dict[str, tuple[Any, str]] = {
    "no name": ([{"type": "function", "function": {"description": "x"}}], r"tools\[0\].function.name: a tool needs a name"),
    "empty name": ([tool("", None)], r"tools\[0\].function.name: a tool needs a name"),
    "name is a number": ([{"type": "function", "function": {"name": 5}}], r"tools\[0\].function.name: a tool needs a name"),
    "twice": ([tool("a", None), tool("a", None)], r'tools\[1\].function.name: "a" is the name of tools\[0\]'),
    "parameters are a text": ([tool("a", "x")], r"tools\[0\].function.parameters: a JSON schema is an object"),
    "no object": ([tool("a", {"type": "string"})], r"tools\[0\].function.parameters: no value can meet the schema"),
    "keyword": ([tool("a", _of(a={"uniqueItems": True}))], r'unsupported keyword "uniqueItems" at \$.properties.a'),
    "nothing": ([], "there are no tools"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_tool_is_refused(case: str) -> None:
    tools, wanted = REFUSED[case]
    with pytest.raises(BadRequestError, match=wanted):
        call_grammars(FORMATS["objects in tags"], tools, mode="required")


def test_unknown_choice_is_refused() -> None:
    with pytest.raises(BadRequestError, match='tool_choice: "nobody" is none of the tools'):
        call_grammars(FORMATS["objects in tags"], TOOLS, mode="required", name="nobody")


def test_auto_enforces_what_it_can() -> None:
    form = FORMATS["objects in tags"]
    tools = [tool("a", _of("a", a={"type": "array", "items": COUNT, "uniqueItems": True}))]
    (grammar,) = call_grammars(form, tools)
    assert takes(grammar, '\n{"name": "a", "arguments": {"a": [1, 1]}}\n</tool_call>')
    assert not takes(grammar, '\n{"name": "a", "arguments": {"a": ["1"]}}\n</tool_call>')
    with pytest.raises(UnenforceableError):
        call_grammars(form, tools, mode="required")


def test_strict_tool_is_enforced_or_refused_in_auto_too() -> None:
    loose = tool("a", _of("a", a={"type": "array", "items": COUNT, "uniqueItems": True}))
    strict = tool("b", loose["function"]["parameters"])
    strict["function"]["strict"] = True
    refused = r'tools\[1\].function.parameters: unsupported keyword "uniqueItems" at \$.properties.a'
    for form in (FORMATS["objects in tags"], FORMATS["harmony"]):
        with pytest.raises(UnenforceableError, match=refused):
            call_grammars(form, [loose, strict])
        with pytest.raises(UnenforceableError, match=refused):
            call_or_answer_grammar(form, [loose, strict], "json")
        strict["function"]["strict"] = False
        assert call_grammars(form, [loose, strict])
        strict["function"]["strict"] = True


ODD: dict[str, Any] = {
    "name with quotes": _of('a "quoted" one', "b", **{'a "quoted" one': TEXT, "b": COUNT}),
    "counted": {"type": "object", "additionalProperties": COUNT, "minProperties": 1, "maxProperties": 2},
    "counted inside": _of("a", a={"type": "object", "additionalProperties": COUNT, "minProperties": 1}, b=TEXT),
    "names by pattern": {"type": "object", "patternProperties": {"^n_": COUNT}, "additionalProperties": False},
    "listed": {"enum": [{"a": 1}, {"a": 2}]},
}


@pytest.mark.parametrize("case", ODD)
@pytest.mark.parametrize("name", FORMATS)
def test_tool_whose_arguments_cannot_be_written_in_a_form_may_be_called_all_the_same(name: str, case: str) -> None:
    form, tools = FORMATS[name], [TOOLS[0], tool("act", ODD[case])]
    for grammar in call_grammars(form, tools):
        assert matcher(grammar)
    assert matcher(call_or_answer_grammar(form, tools, "json"))
    if not isinstance(form, MessageFormat):  # whose headers are no part of the calls
        call = answer(form, [("get_weather", {"city": "Paris"})]).text
        found = [grammar for grammar in call_grammars(form, tools) if grammar.after in call]
        assert any(takes(grammar, call.partition(grammar.after)[2]) for grammar in found)


@pytest.mark.parametrize("name", ["tags with keys", "python", "braces", "harmony", "functionary", "atem"])
def test_name_that_cannot_be_written_in_a_form_is_refused_only_where_it_must_be_called(name: str) -> None:
    form, tools = FORMATS[name], [TOOLS[0], tool("call me (maybe)", _of(a=TEXT))]
    assert call_grammars(form, tools) == ()
    with pytest.raises(UnenforceableError, match=r"tools\[1\].function.name: .* cannot be written"):
        call_grammars(form, tools, mode="required")
    tools[1]["function"]["strict"] = True
    with pytest.raises(UnenforceableError, match=r"tools\[1\].function.name: .* cannot be written"):
        call_grammars(form, tools)


def test_reference_beside_unevaluated_properties_is_carried_out_wherever_it_stands() -> None:
    based = {
        "allOf": [{"$ref": "#/$defs/base"}],
        "properties": {"name": TEXT},
        "required": ["name"],
        "unevaluatedProperties": False,
    }
    parameters = {"$defs": {"base": _of("id", id=COUNT)}, **_of("value", value=based)}
    (grammar,) = call_grammars(FORMATS["generic"], [tool("act", parameters)], mode="required", parallel=False)
    assert taken(grammar, f'{forced(grammar)}1, "name": "x"}}').endswith("…")
    assert not takes(grammar, '"other"')


def test_calls_that_may_not_be_parallel_end_the_answer() -> None:
    for form in FORMATS.values():
        assert all(grammar.ends for grammar in call_grammars(form, TOOLS, parallel=False))
        assert not any(grammar.ends for grammar in call_grammars(form, TOOLS))


def test_a_broken_schema_is_refused_in_auto_too() -> None:
    with pytest.raises(BadRequestError, match='"minimum" 5 and "maximum" 3'):
        call_grammars(FORMATS["objects in tags"], [tool("a", _of(a={"type": "integer", "minimum": 5, "maximum": 3}))])


def test_name_and_arguments_are_forced_where_there_is_one_tool() -> None:
    (grammar,) = call_grammars(FORMATS["objects in tags"], [TOOLS[0]], mode="required")
    assert forced(grammar) == '<tool_call>\n{"name": "get_weather", "arguments": {"city": "'


def test_bare_calls_are_marked_by_the_tools_name() -> None:
    first, second, tag = call_grammars(FORMATS["bare object"], TOOLS)
    assert [(one.after, one.at_start) for one in (first, second)] == [
        ('{"name": "get_weather"', True),
        ('{"name": "get-time.v2"', True),
    ]
    assert takes(first, ', "parameters": {"city": "Paris"}}')
    assert (tag.after, tag.at_start) == ("<|python_tag|>", False)
    assert takes(tag, "get_weather(city='Paris')")


def test_thought_may_stand_before_a_call_in_messages() -> None:
    """The engine binds what follows the tag that ends a thought: there a new message begins."""
    (grammar,) = call_grammars(FORMATS["harmony"], TOOLS, mode="required", name="get_weather")
    call = '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "Paris"}'
    for text in (call, call + "<|call|>", "<|start|>assistant" + call):
        assert taken(grammar, text) == text
        assert len(read_calls(FORMATS["harmony"], text, TOOLS)) == 1


@pytest.mark.parametrize("name", FORMATS)
def test_calls_or_an_answer(name: str) -> None:
    form = FORMATS[name]
    grammar = call_or_answer_grammar(form, TOOLS, _of("x", x=COUNT))
    call = answer(form, [("get_weather", {"city": "Paris"})]).text
    assert taken(grammar, call) == call
    before = {"harmony": "<|channel|>final<|message|>", "atem": " to=user<|message|>", "functionary": "all\n"}.get(name, "")
    assert taken(grammar, before + '{"x": 1}') == before + '{"x": 1}'
    assert not takes(grammar, before + '{"x": "1"}')
    assert not takes(grammar, before + "Hello.")


def test_calls_and_gbnf_do_not_go_together() -> None:
    with pytest.raises(UnenforceableError, match='"grammar" cannot be used together with tools'):
        call_or_answer_grammar(FORMATS["objects in tags"], TOOLS, grammar='root ::= "a"')
