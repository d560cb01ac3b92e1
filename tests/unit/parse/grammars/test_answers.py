"""Answers that are to meet a format: what their grammars take, what they force, and what is refused."""

import json
from decimal import Decimal
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from corral.core.errors import BadRequestError
from corral.parse.grammars import UnenforceableError, answer_grammar
from tests.support.answer_formats import FORMATS
from tests.support.grammars import Walker, forced, taken, takes
from tests.support.schemas import SCHEMAS, Asked

WALKS = 40
HINTS = {"formula": ('number"',), "pattern anywhere": ("cat",), "two patterns": ('z"',)}  # what chance alone would not come to
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}


def is_valid(schema: Any, text: str) -> bool:
    """Whether the text is JSON that meets the schema. Decimals stay exact: a double's multiples of 0.01 are not."""
    exact = json.loads(json.dumps(schema), parse_float=Decimal)
    if not isinstance(exact, bool):
        exact = {**exact, "type": ["string", "null"]} if exact.get("nullable") else exact
    checker = Draft202012Validator(exact, format_checker=FormatChecker())
    return bool(checker.is_valid(json.loads(text, parse_float=Decimal)))


def in_our_dialect(schema: Any) -> Any:
    """The same in draft 2020-12, for a validator that knows no other: what is rewritten is told here again, by hand."""
    if isinstance(schema, list):
        return [in_our_dialect(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: in_our_dialect(value) for key, value in schema.items()}
    if out.pop("nullable", False):
        out = {"anyOf": [out, {"type": "null"}]}
    if out.get("exclusiveMinimum") is True:
        out["exclusiveMinimum"] = out.pop("minimum")
    if isinstance(out.get("items"), list):
        out["prefixItems"], out["items"] = out["items"], out.pop("additionalItems", True)
    return out


@pytest.mark.parametrize("asked", SCHEMAS, ids=lambda asked: asked.name)
def test_value_of_the_schema_is_taken(asked: Asked) -> None:
    grammar = answer_grammar(asked.schema)
    assert grammar
    text = json.dumps(asked.value, ensure_ascii=False)
    assert taken(grammar, text) == text
    assert is_valid(in_our_dialect(asked.schema), text)


@pytest.mark.parametrize("asked", SCHEMAS, ids=lambda asked: asked.name)
def test_whatever_the_grammar_takes_meets_the_schema(asked: Asked) -> None:
    grammar = answer_grammar(asked.schema)
    assert grammar
    walker, schema = Walker(grammar, HINTS.get(asked.name, ())), in_our_dialect(asked.schema)
    for seed in range(WALKS):
        text = walker.text(seed)
        assert is_valid(schema, text), text


def test_there_are_enough_schemas() -> None:
    assert len(SCHEMAS) >= 60
    assert len({asked.name for asked in SCHEMAS}) == len(SCHEMAS)


def test_what_the_schema_fixes_is_forced_in_one() -> None:
    grammar = answer_grammar(PERSON)
    assert grammar
    assert forced(grammar) == '{"name": "'
    assert forced(grammar, '{"name": "x"') == ', "age": '


def test_property_order_is_the_schemas() -> None:
    grammar = answer_grammar(PERSON)
    assert grammar
    assert takes(grammar, '{"name": "x", "age": 1}')
    assert not takes(grammar, '{"age": 1, "name": "x"}')
    ordered = answer_grammar({**PERSON, "propertyOrdering": ["age", "name"]})
    assert ordered
    assert takes(ordered, '{"age": 1, "name": "x"}')


def test_other_properties_are_there_only_where_the_schema_says_so() -> None:
    for more, is_taken in (({}, False), ({"additionalProperties": True}, True), ({"additionalProperties": False}, False)):
        grammar = answer_grammar({**PERSON, **more})
        assert grammar
        assert takes(grammar, '{"name": "x", "age": 1, "more": []}') == is_taken


@pytest.mark.parametrize(
    ("text", "is_taken"),
    [
        ('{"a": 1}', True),
        ('{"a":[1,2]}', True),
        ('{\n  "a": {\n    "b": null\n  }\n}', True),
        ("{}", True),
        ("[1]", False),
        ("7", False),
        ('{"a":  1}', False),
        ("{\n\n}", False),
    ],
)
def test_json_is_any_object_in_the_models_own_white_space(text: str, is_taken: bool) -> None:
    grammar = answer_grammar("json")
    assert grammar
    assert takes(grammar, text) == is_taken


def test_boolean_schemas_are_schemas() -> None:
    anything = answer_grammar(True)
    assert anything
    assert takes(anything, '[1, "a"]')
    with pytest.raises(BadRequestError, match="no value can meet the schema"):
        answer_grammar(False)


def test_gbnf_is_handed_on_as_it_is() -> None:
    grammar = answer_grammar(grammar='root ::= "yes" | "no"')
    assert grammar
    assert (grammar.kind, grammar.text) == ("gbnf", 'root ::= "yes" | "no"')
    assert takes(grammar, "no")


@pytest.mark.parametrize(
    ("regex", "good", "bad"),
    [
        (r"\d{3}-\d{4}", "555-1234", "x555-1234"),
        ("^(yes|no)$", "yes", "yes or no"),
        ("a/b", "a/b", "a"),
        ("^a|b$", "b", "xb"),
        (".*", "", "\n"),
        ('[^"]+', "“so”\n", '"'),
    ],
)
def test_regex_is_of_the_whole_answer(regex: str, good: str, bad: str) -> None:
    grammar = answer_grammar(regex=regex)
    assert grammar
    assert takes(grammar, good)
    assert not takes(grammar, bad)


def test_choice_is_one_of_its_texts() -> None:
    texts = ("yes", "yes, but", 'say "x"\n', "größer/kleiner", "\x01", "{}")
    grammar = answer_grammar(choice=texts)
    assert grammar
    assert all(takes(grammar, text) for text in texts)
    assert not takes(grammar, "yes, ")
    assert not takes(grammar, "")


def test_nothing_asked_for_is_no_grammar() -> None:
    assert answer_grammar() is None
    assert answer_grammar("") is None


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({"format_": "json", "regex": "a"}, "format and regex"),
        ({"grammar": "root ::= x", "choice": ("a",)}, "grammar and choice"),
        ({"format_": {}, "grammar": "x", "regex": "a"}, "format and grammar and regex"),
    ],
)
def test_only_one_may_be_given(asked: dict[str, Any], names: str) -> None:
    with pytest.raises(BadRequestError, match=names):
        answer_grammar(**asked)


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({"format_": "xml"}, 'invalid format: "xml"'),
        ({"format_": 5}, "format: a JSON schema is an object or a boolean, not 5"),
        ({"format_": []}, "format: a JSON schema is an object"),
        ({"regex": "(a"}, r'regex: "\(a": a "\(" is never closed'),
        ({"regex": "(?=a)"}, "looks ahead"),
        ({"choice": ("a", "")}, 'choice: "" is no text'),
    ],
)
def test_what_is_none_is_refused(asked: dict[str, Any], wanted: str) -> None:
    with pytest.raises(BadRequestError, match=wanted):
        answer_grammar(**asked)


AROUND = {
    "harmony": ("<|channel|>final<|message|>", "<|start|>assistant<|channel|>final<|message|>"),
    "atem": (" to=user<|message|>", "to=user<|message|>", "<|start|>assistant to=user<|message|>"),
    "functionary": ("all\n", ">>>all\n"),
    "list in tags": ("", "<|RESPONSE|>"),
    "objects in tags": ("",),
}


@pytest.mark.parametrize("name", AROUND)
def test_answer_stands_where_its_family_puts_it(name: str) -> None:
    grammar = answer_grammar(PERSON, form=FORMATS[name])
    assert grammar
    for before in AROUND[name]:
        assert takes(grammar, before + '{"name": "x", "age": 1}')
    assert takes(grammar, '{"name": "x", "age": 1}') == ("" in AROUND[name])


TAGS: dict[str, Any] = {"type": "array", "items": {"enum": ["a", "b", "c", 1]}, "uniqueItems": True}


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (TAGS, ["[]", '["b", "a"]', '[1, "c", "b", "a"]'], ['["a", "a"]', '["a", "b", "a"]', '["x"]']),
        ({**TAGS, "minItems": 2, "maxItems": 2}, ['["a", 1]'], ["[]", '["a"]', "[1, 1]"]),
        ({**TAGS, "type": ["array", "null"]}, ["null", "[1]"], ["[1, 1]", "1"]),
        ({"type": "array", "items": {"type": "boolean"}, "uniqueItems": True}, ["[true, false]"], ["[true, true]"]),
        ({"type": "array", "uniqueItems": True, "maxItems": 1}, ["[]", '["x"]'], ["[1, 2]"]),
        ({"enum": [[1, 1], [1, 2]], "uniqueItems": True}, ["[1, 2]"], ["[1, 1]"]),
        ({"type": "object", "properties": {"tags": TAGS}, "required": ["tags"]}, ['{"tags": ["a"]}'], ['{"tags": ["a", "a"]}']),
    ],
    ids=["any number", "two", "or null", "booleans", "one", "listed arrays", "property"],
)
def test_items_come_once_where_they_are_few(schema: dict[str, Any], good: list[str], bad: list[str]) -> None:
    grammar = answer_grammar(schema)
    assert grammar
    assert [text for text in good if not takes(grammar, text)] == []
    assert [text for text in bad if takes(grammar, text)] == []


def test_items_that_come_once_are_refused_where_they_are_many() -> None:
    few = {**TAGS, "items": {"enum": list("abcdef")}}
    assert answer_grammar({"type": "object", "properties": {"a": few, "b": few}})
    with pytest.raises(UnenforceableError, match=r'unsupported keyword "uniqueItems" at \$\.properties\.c'):
        answer_grammar({"type": "object", "properties": {"a": few, "b": {**few, "maxItems": 5}, "c": {**few, "minItems": 1}}})
    with pytest.raises(UnenforceableError, match='unsupported keyword "uniqueItems"'):
        answer_grammar({**TAGS, "items": {"enum": list("abcdefgh")}})
