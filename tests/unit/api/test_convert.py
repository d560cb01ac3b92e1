import base64
import math
from typing import Any

import pytest

from corral.api.ollama.convert import chat_request, generate_request
from corral.api.values import from_base64
from corral.core import types as domain
from corral.core.errors import BadRequestError
from corral.service.requests import ChatRequest, GenerateRequest
from corral.wire import ollama as wire

LEVELS = '"high", "medium", "low", "max", true, or false'


def refusal(**fields: Any) -> str:
    with pytest.raises(BadRequestError) as caught:
        chat_request(wire.ChatRequest(model="m", **fields), client="")
    return str(caught.value)


def test_an_empty_request_gets_the_defaults() -> None:
    assert chat_request(wire.ChatRequest(), client="c") == ChatRequest(model="", client="c")
    assert generate_request(wire.GenerateRequest(), client="c") == GenerateRequest(model="", client="c")


def test_a_conversation_becomes_domain_messages() -> None:
    image = b"\x89PNG"
    call = wire.ToolCall(id="1", function=wire.ToolCallFunction(index=2, name="f", arguments={"b": 1, "a": 2}))
    given = [
        wire.Message(role="User", content="hi", images=[base64.b64encode(image).decode()]),
        wire.Message(role="assistant", tool_calls=[call], thinking="t"),
        wire.Message(role="tool", tool_name="f", tool_call_id="1", content="x"),
        wire.Message(),
    ]
    messages = chat_request(wire.ChatRequest(model="m", messages=given), client="").messages
    assert messages == (
        domain.Message(role="user", content="hi", images=(image,)),
        domain.Message(
            role="assistant",
            thinking="t",
            tool_calls=(domain.ToolCall(name="f", arguments={"b": 1, "a": 2}, call_id="1", index=2),),
        ),
        domain.Message(role="tool", tool_name="f", tool_call_id="1", content="x"),
        domain.Message(role=""),
    )


def test_an_empty_system_and_template_are_the_models_own() -> None:
    request = generate_request(wire.GenerateRequest(model="m", system="", template="", context=[1, 2]), client="")
    assert (request.system, request.template, request.context) == (None, None, (1, 2))


@pytest.mark.parametrize("token", [2**31, -(2**31) - 1, 2**40])
def test_a_context_token_that_no_model_can_have_is_refused(token: int) -> None:
    with pytest.raises(BadRequestError) as caught:
        generate_request(wire.GenerateRequest(model="m", context=[1, token, 2]), client="")
    where = "Go struct field GenerateRequest.context of type int32"
    assert str(caught.value) == f"json: cannot unmarshal number {token} into {where}"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), (0, 0.0), (600.5, 600.5), (-1, math.inf), ("10m", 600.0), ("1h30m", 5400.0), ("-1", math.inf), ("10", 10.0)],
)
def test_keep_alive_is_seconds_or_a_duration(value: object, seconds: float | None) -> None:
    assert chat_request(wire.ChatRequest(model="m", keep_alive=value), client="").keep_alive_s == seconds


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("abc", 'time: invalid duration "abc"'),
        ("10 parrots", 'time: unknown unit " parrots" in duration "10 parrots"'),
        ("", 'time: invalid duration ""'),
        (True, "Unsupported type: 'bool'"),
        ([], "Unsupported type: '[]interface {}'"),
        ({}, "Unsupported type: 'map[string]interface {}'"),
    ],
)
def test_keep_alive_of_no_duration_is_refused(value: object, text: str) -> None:
    assert refusal(keep_alive=value) == text


@pytest.mark.parametrize("value", [None, True, False, "low", "medium", "high", "max"])
def test_think_is_yes_no_or_a_level(value: object) -> None:
    assert chat_request(wire.ChatRequest(model="m", think=value), client="").think == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("very", f'invalid think value: "very" (must be {LEVELS})'),
        ("", f'invalid think value: "" (must be {LEVELS})'),
        (3, f"think must be a boolean or string ({LEVELS})"),
        ([], f"think must be a boolean or string ({LEVELS})"),
    ],
)
def test_think_of_another_kind_is_refused(value: object, text: str) -> None:
    assert refusal(think=value) == text


@pytest.mark.parametrize(
    ("value", "wanted"), [(None, None), ("", None), ("json", "json"), ({"type": "object"}, {"type": "object"})]
)
def test_format_is_json_or_a_schema(value: object, wanted: object) -> None:
    assert chat_request(wire.ChatRequest(model="m", format=value), client="").format == wanted


@pytest.mark.parametrize(
    ("value", "shown"),
    [("yaml", r"\"yaml\""), (3, "3"), (["a"], r"[\"a\"]"), (True, "true")],
    ids=["word", "number", "list", "bool"],
)
def test_format_of_another_kind_is_refused(value: object, shown: str) -> None:
    assert refusal(format=value) == f'invalid format: "{shown}"; expected "json" or a valid JSON Schema object'


@pytest.mark.parametrize(
    ("text", "at"), [("%%%", 0), ("AAAA%AAA", 4), ("AAA", 0), ("AAAAA", 4), ("data:image/png;base64,AAAA", 4)]
)
def test_an_image_that_is_not_base64_is_refused(text: str, at: int) -> None:
    assert refusal(messages=[wire.Message(images=[text])]) == f"illegal base64 data at input byte {at}"


@pytest.mark.parametrize("size", [0, 1, 256, 700_000, 786_432, 786_433, 2_000_000])
@pytest.mark.parametrize("has_breaks", [True, False])
def test_an_image_of_any_length_is_read_in_pieces_and_line_breaks_in_it_are_ignored(size: int, *, has_breaks: bool) -> None:
    data = bytes(range(251)) * (size // 251) + b"x" * (size % 251)
    text = (base64.encodebytes(data) if has_breaks else base64.b64encode(data)).decode()
    assert from_base64(text) == data
    assert from_base64("data:" + text + "\n" * 5, begin=5) == data


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("AAAA" * 500_000 + "A%AA", 2_000_001),
        ("AAA=" + "AAAA" * 500_000, 3),
        ("A" * 1_048_575 + "=" + "AAAA", 1_048_575),
        ("A\n" * 1_000_000 + "A%AA", 1_000_001),
        ("AAAA" * 500_000 + "AAA", 2_000_000),
        ("A" * 2_000_000 + "\u00e9", 2_000_000),
    ],
    ids=["in the last piece", "an end at the beginning", "an end at a piece's end", "line breaks", "cut", "no ASCII"],
)
def test_a_mistake_in_a_long_image_is_told_by_its_place(text: str, at: int) -> None:
    with pytest.raises(BadRequestError, match=f"illegal base64 data at input byte {at}$"):
        from_base64(text)
