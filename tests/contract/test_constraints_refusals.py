"""What no answer can be held to: broken schemas, tools that are none, choices that are none. In every dialect a 400 of its own
shape that names the place, soon and without a load; and the server answers on.

What only the engine can tell, it tells: a broken GBNF grammar is refused in tests/live.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pytest

from tests.contract.conftest import Rig
from tests.support.callers import CALLER_TEMPLATE

CHAT, GENERATE, COMPLETIONS = "/api/chat", "/api/generate", "/v1/chat/completions"
RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
TURNS: Final = [{"role": "user", "content": "hi"}]
BODIES: Final[Mapping[str, dict[str, Any]]] = {
    CHAT: {"model": "caller", "messages": TURNS},
    GENERATE: {"model": "caller", "prompt": "hi"},
    COMPLETIONS: {"model": "caller", "messages": TURNS},
    RESPONSES: {"model": "caller", "input": "hi"},
    MESSAGES: {"model": "caller", "messages": TURNS, "max_tokens": 20},
}
SOON_S: Final = 20.0  # on a machine that is busy with other tests


@pytest.fixture
async def shop(rig: Rig) -> Rig:
    """`rig` with a model that knows thoughts and tools."""
    made = await rig.http.post(
        "/api/create", json={"model": "caller", "from": "hello", "template": CALLER_TEMPLATE, "stream": False}
    )
    assert made.json() == {"status": "success"}, made.text
    return rig


def with_schema(path: str, schema: Any) -> dict[str, Any]:
    match path:
        case "/v1/chat/completions":
            more = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}}
        case "/v1/responses":
            more = {"text": {"format": {"type": "json_schema", "name": "x", "strict": True, "schema": schema}}}
        case "/v1/messages":
            more = {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
        case _:
            more = {"format": schema}
    return BODIES[path] | more


def with_tools(path: str, *functions: Any) -> dict[str, Any]:
    """Each dialect's form of tools with these functions."""
    if path == MESSAGES:
        renamed = [{("input_schema" if key == "parameters" else key): one for key, one in each.items()} for each in functions]
        return BODIES[path] | {"tools": renamed}
    if path == RESPONSES:
        return BODIES[path] | {"tools": [{"type": "function", **function} for function in functions]}
    return BODIES[path] | {"tools": [{"type": "function", "function": function} for function in functions]}


def error_of(path: str, body: Any) -> str:
    """The text of an error, whose shape must be the dialect's."""
    if path.startswith("/api/"):
        assert list(body) == ["error"]
        return str(body["error"])
    if path == MESSAGES:
        assert (list(body), body["type"]) == (["type", "error", "request_id"], "error")
        assert body["error"]["type"] == "invalid_request_error"
    else:
        assert list(body["error"]) == ["message", "type", "param", "code"]
        assert body["error"]["type"] == "invalid_request_error"
    return str(body["error"]["message"])


async def refused(rig: Rig, path: str, body: Mapping[str, Any] | bytes) -> str:
    """The text of a refusal that costs no load, and does no harm."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with asyncio.timeout(SOON_S):
        reply = await rig.http.post(path, content=content)
    assert reply.status_code == 400, reply.text[:300]
    assert rig.launcher.specs == [], "no model is loaded for a request that is refused"
    assert len(reply.content) < 2_000, "a refusal does not repeat what was sent"
    assert (await rig.http.get("/api/version")).status_code == 200
    return error_of(path, reply.json())


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    schema: Any
    said: str


SCHEMAS: Final = (
    Case("unknown type", {"type": "strin"}, '"type" at $ is "strin"; it must be one of array, boolean'),
    Case(
        "keyword of another type", {"properties": {"a": {"minLength": "3"}}}, '"minLength" at $.properties.a is "3"; it must be'
    ),
    Case("misspelt keyword", {"items": {"minLenght": 1}}, 'unsupported keyword "minLenght" at $.items'),
    Case("keyword that is not enforced", {"properties": {"a": {"uniqueItems": True}}}, '"uniqueItems" at $.properties.a'),
    Case("contradiction", {"type": "integer", "minimum": 5, "maximum": 3}, '"minimum" 5 and "maximum" 3 at $ contradict'),
    Case(
        "format and length that exclude one another",
        {"items": {"type": "string", "format": "date", "maxLength": 4}, "type": "array", "minItems": 1},
        'none is left at $.items, where no text meets the pattern or format and "maxLength" 4',
    ),
    Case("nothing is left", {"type": "string", "enum": [1, 2]}, "no value can meet the schema: none is left at $"),
    Case(
        "without end", {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "no value can meet the schema"
    ),
    Case("a circle", {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "no value can meet the schema"),
    Case("reference to nothing", {"$ref": "#/$defs/a"}, '"$ref" at $ is "#/$defs/a", which is not in the schema'),
    Case("reference elsewhere", {"$ref": "file:///etc/passwd"}, "only what is in the schema itself can be meant"),
    Case("pattern that is none", {"type": "string", "pattern": "(a"}, '"pattern" at $ is "(a"'),
    Case("deep", nested(300), "the schema is more than 200 levels deep; make it flatter"),
    Case("a megabyte", {"enum": ["x" * 20] * 120_000}, "the schema has more than 100000 values; make it smaller"),
    Case("a megabyte in one pattern", {"type": "string", "pattern": "a" * 1_000_000}, "it has more than 20000 characters"),
    Case(
        "choices without number",
        {"allOf": [{"anyOf": [{"required": [f"{one}-{two}"]} for two in range(9)]} for one in range(9)]},
        "have more than 2000 cases together",
    ),
)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("case", SCHEMAS, ids=lambda case: case.name)
async def test_schema_that_cannot_be_followed(shop: Rig, case: Case, path: str) -> None:
    text = await refused(shop, path, with_schema(path, case.schema))
    assert text.startswith("format: ")
    assert case.said in text


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("schema", [[], 3, "x", True], ids=str)
async def test_schema_that_is_none(shop: Rig, schema: Any, path: str) -> None:
    text = await refused(shop, path, with_schema(path, schema))
    assert "invalid format" in text if path.startswith("/api/") else "json: cannot unmarshal" in text


@pytest.mark.parametrize("path", BODIES)
async def test_body_that_is_too_deep_to_read(shop: Rig, path: str) -> None:
    body = json.dumps(with_schema(path, "SCHEMA")).replace('"SCHEMA"', '{"items":' * 30_000 + "{}" + "}" * 30_000)
    assert await refused(shop, path, body.encode())


FIELDS: Final[tuple[tuple[dict[str, Any], str], ...]] = (
    ({"regex": "(a"}, 'regex: "(a": a "(" is never closed'),
    ({"regex": "a" * 30_000}, "it has more than 20000 characters"),
    ({"regex": r"(a)\1"}, '"\\1" refers to what a group has matched'),
    ({"regex": "(?=a)b"}, "looks ahead or behind"),
    ({"choice": ["a", ""]}, 'choice: "" is no text to choose'),
    ({"choice": [f"{number}" for number in range(20_000)]}, "choice: 20000 texts are too many; 10000 are taken"),
    ({"choice": "a"}, "json: cannot unmarshal string"),
    ({"choice": [1]}, "json: cannot unmarshal number"),
    ({"regex": ["a"]}, "json: cannot unmarshal array"),
    ({"grammar": {}}, "json: cannot unmarshal object"),
    ({"grammar": 'root ::= "a"', "regex": "a"}, "grammar and regex cannot be given together; send one of them"),
)


@pytest.mark.parametrize("path", [CHAT, GENERATE, COMPLETIONS])
@pytest.mark.parametrize(("body", "said"), FIELDS, ids=lambda value: str(value)[:40])
async def test_other_fields_that_an_answer_is_to_meet(shop: Rig, path: str, body: dict[str, Any], said: str) -> None:
    assert said in await refused(shop, path, BODIES[path] | body)


async def test_format_and_others_exclude_each_other(shop: Rig) -> None:
    both = "format and choice cannot be given together; send one of them"
    assert await refused(shop, CHAT, BODIES[CHAT] | {"format": "json", "choice": ["a"]}) == both
    assert both in await refused(shop, COMPLETIONS, with_schema(COMPLETIONS, {"type": "object"}) | {"choice": ["a"]})


# Tools

OBJECT: Final = {"type": "object", "properties": {}}
UNIQUE: Final = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
DIALECTS: Final = (CHAT, COMPLETIONS, RESPONSES, MESSAGES)
TOOLS: Final[Mapping[str, tuple[list[Any], str]]] = {
    "no name": ([{"parameters": OBJECT}], "name"),
    "empty name": ([{"name": "", "parameters": OBJECT}], "name"),
    "two of a name": ([{"name": "f", "parameters": OBJECT}] * 2, 'there is another tool named "f"'),
    "unknown type": ([{"name": "f", "parameters": {"type": "objekt"}}], '"type" at $ is "objekt"'),
    "contradiction": (
        [{"name": "f", "parameters": {"properties": {"a": {"minLength": 3, "maxLength": 1}}}}],
        '"minLength" 3 and "maxLength" 1 at $.properties.a contradict',
    ),
    "no object": ([{"name": "f", "parameters": {"type": "string"}}], "no value can meet the schema"),
    "without end": (
        [{"name": "f", "parameters": {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}}],
        "no value can meet the schema",
    ),
    "the second is deep": ([{"name": "f", "parameters": OBJECT}, {"name": "g", "parameters": nested(300)}], "levels deep"),
    "a million values": ([{"name": "f", "parameters": {"enum": [0] * 990_000}}], "make it smaller"),
    "a thousand and one": (
        [{"name": f"f{number}", "parameters": OBJECT} for number in range(1_001)],
        "1001 tools are too many; 1000 are taken",
    ),
}


@pytest.mark.parametrize("path", DIALECTS)
@pytest.mark.parametrize("case", TOOLS)
async def test_tools_that_are_none(shop: Rig, path: str, case: str) -> None:
    functions, said = TOOLS[case]
    text = await refused(shop, path, with_tools(path, *functions))
    assert said in text
    assert "tools" in text


@pytest.mark.parametrize(
    ("tools", "said"),
    [
        ("x", "json: cannot unmarshal string"),
        ({"name": "f"}, "json: cannot unmarshal object"),
        ([3], "json: cannot unmarshal number"),
        ([["f"]], "json: cannot unmarshal array"),
        ([{}], "name"),
        ([{"type": "function", "function": "f"}], "name"),
        ([{"type": "function", "function": {"name": 3}}], "name"),
        ([{"type": "function", "function": {"name": {"a": 1}, "parameters": {}}}], "name"),
        ([{"type": "function", "function": {"name": "f", "parameters": "x"}}], "parameters: a JSON schema is an object"),
        ([{"type": "function", "function": {"name": "f", "parameters": []}}], "parameters: a JSON schema is an object"),
    ],
    ids=lambda value: str(value)[:50],
)
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_tools_of_wrong_types(shop: Rig, path: str, tools: Any, said: str) -> None:
    assert said in await refused(shop, path, BODIES[path] | {"tools": tools})


@pytest.mark.parametrize(
    "choice",
    ["f", "any", 3, [], {}, {"type": "function"}, {"type": "function", "function": {"name": 3}}, {"function": {"name": "f"}}],
    ids=str,
)
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, RESPONSES])
async def test_choices_of_a_tool_that_are_none(shop: Rig, path: str, choice: Any) -> None:
    assert "tool_choice" in await refused(
        shop, path, with_tools(path, {"name": "f", "parameters": OBJECT}) | {"tool_choice": choice}
    )


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_tool_that_is_chosen_must_be_there_and_its_schema_be_followed(shop: Rig, path: str) -> None:
    named = {"tool_choice": {"type": "function", "function": {"name": "g"}}}
    assert 'tool_choice names "g"' in await refused(shop, path, with_tools(path, {"name": "f"}) | named)
    assert "there are no tools" in await refused(shop, path, BODIES[path] | {"tool_choice": "required"})
    required = with_tools(path, {"name": "f"}, {"name": "g", "parameters": UNIQUE}) | {"tool_choice": "required"}
    place = 'tools[1].function.parameters: unsupported keyword "uniqueItems" at $.properties.a'
    assert (await refused(shop, path, required)).startswith(place)
    taken = await shop.http.post(path, json=with_tools(path, {"name": "f"}, {"name": "g", "parameters": UNIQUE}))
    assert taken.status_code == 200, "left to the model it is enforced as far as it can be"


@pytest.mark.parametrize("path", DIALECTS)
async def test_strict_tool_is_enforced_or_refused(shop: Rig, path: str) -> None:
    body = with_tools(path, {"name": "f", "parameters": UNIQUE, "strict": True})
    assert 'unsupported keyword "uniqueItems" at $.properties.a' in await refused(shop, path, body)
    body = with_tools(path, {"name": "f", "parameters": UNIQUE, "strict": False})
    assert (await shop.http.post(path, json=body)).status_code == 200


@pytest.mark.parametrize("path", DIALECTS)
async def test_many_tools_with_odd_names_are_taken(shop: Rig, path: str) -> None:
    odd = ("größe", "a b", 'say "x"', "../../etc/passwd", "</tool_call>", "{{ .Name }}", "x" * 500, "\n", "🦙")
    functions = [{"name": name, "parameters": OBJECT} for name in (*odd, *(f"tool_{number}" for number in range(491)))]
    for choice in ("auto", "required"):
        wanted = {"type": "any" if choice == "required" else "auto"} if path == MESSAGES else choice
        async with asyncio.timeout(SOON_S):
            reply = await shop.http.post(path, json=with_tools(path, *functions) | {"tool_choice": wanted})
        assert reply.status_code == 200, reply.text[:300]


async def test_calls_and_gbnf_do_not_go_together(shop: Rig) -> None:
    text = await refused(shop, CHAT, with_tools(CHAT, {"name": "f"}) | {"grammar": 'root ::= "a"'})
    assert '"grammar" cannot be used together with tools' in text
