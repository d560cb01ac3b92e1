"""What /v1/responses says to a request that cannot be answered: statuses, types, and the fields that are named."""

from typing import Any

import pytest

from tests.contract.conftest import Rig

JSON = "application/json; charset=utf-8"
PLAIN_JSON = "application/json"
PATH = "/v1/responses"


def said(
    message: str, kind: str = "invalid_request_error", param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


@pytest.mark.parametrize(
    ("body", "text", "param"),
    [
        pytest.param("", "EOF", None, id="empty"),
        pytest.param("{", "unexpected EOF", None, id="truncated"),
        pytest.param("[]", "json: cannot unmarshal array into Go value of type openai.ResponsesRequest", None, id="array"),
        pytest.param(
            '{"model":"m","input":3}',
            "json: cannot unmarshal number into Go struct field ResponsesRequest.input of type string",
            "input",
            id="type",
        ),
        pytest.param(
            '{"model":"m","input":[{"content":3}]}',
            "json: cannot unmarshal number into Go struct field ResponsesRequest.input.content of type string",
            "input[0].content",
            id="type in an item",
        ),
    ],
)
async def test_a_body_that_cannot_be_read(rig: Rig, body: str, text: str, param: str | None) -> None:
    reply = await rig.http.post(PATH, content=body)
    assert (reply.status_code, reply.headers["content-type"]) == (400, JSON)
    assert reply.json() == said(text, param=param, code="invalid_value" if param else None)


async def test_an_item_that_nobody_knows(rig: Rig) -> None:
    """As Ollama words it."""
    for item, text in {
        '{"type": "smell"}': 'input[0]: unknown input item type: "smell"',
        "{}": "input[0]: input item missing required 'type' field",
    }.items():
        reply = await rig.http.post(PATH, content=f'{{"model": "hello", "input": [{item}]}}')
        assert (reply.status_code, reply.headers["content-type"], reply.json()) == (400, JSON, said(text))


async def test_the_model_is_not_there(rig: Rig) -> None:
    for name, status, text, kind in [
        ("nope", 404, "model 'nope' not found", "not_found_error"),
        ("", 400, "model is required", "invalid_request_error"),
        ("a b", 400, "invalid model name", "invalid_request_error"),
    ]:
        reply = await rig.http.post(PATH, json={"model": name, "input": "x"})
        assert (reply.status_code, reply.headers["content-type"]) == (status, PLAIN_JSON)
        assert reply.json() == said(text, kind)


async def test_a_field_that_is_wrong_is_named(rig: Rig) -> None:
    reply = await rig.http.post(PATH, json={"model": "hello", "input": "hi", "temperature": 3})
    assert reply.json() == said("temperature is 3; it must be between 0 and 2", param="temperature", code="invalid_value")
    reply = await rig.http.post(PATH, json={"model": "hello", "input": "hi", "tools": [{"type": "web_search"}]})
    text = (
        'tools[0].type "web_search" is not supported: '
        "the server does not search the web; switch it off, or send a function of your own"
    )
    assert reply.json() == said(text, param="tools[0].type", code="unsupported_parameter")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_conversation_that_is_too_long(rig: Rig, stream: bool) -> None:
    """Refused, as OpenAI has it, unless the request wants it cut."""
    long: Any = [
        {"role": "user", "content": "w " * 300},
        {"role": "assistant", "content": "x"},
        {"role": "user", "content": "hi"},
    ]
    body = {"model": "hello", "input": long, "num_ctx": 256, "stream": stream}
    reply = await rig.http.post(PATH, json=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "context_length_exceeded")
    reply = await rig.http.post(PATH, json=body | {"truncation": "auto"})
    assert reply.status_code == 200
    assert reply.headers["x-context-truncated"] == "dropped_messages=2, prompt_tokens_total=307"
    if not stream:
        facts = reply.json()
        assert (facts["truncated"], facts["prompt_tokens_total"], facts["dropped_messages"]) == (True, 307, 2)
        assert facts["truncation"] == "auto"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_response_that_is_not_kept(rig: Rig, method: str) -> None:
    reply = await rig.http.request(method, f"{PATH}/resp_1")
    assert (reply.status_code, reply.headers["content-type"]) == (404, PLAIN_JSON)
    assert reply.json() == said("Response with id 'resp_1' not found.", "not_found_error")


async def test_a_response_is_not_streamed_again(rig: Rig) -> None:
    made = (await rig.http.post(PATH, json={"model": "hello", "input": "hi"})).json()
    reply = await rig.http.get(f"{PATH}/{made['id']}?stream=true")
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "stream")
    assert (await rig.http.get(f"{PATH}/{made['id']}?stream=false")).json() == made


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", PATH, "POST"), ("PATCH", f"{PATH}/resp_1", "DELETE, GET"), ("GET", "/v1/rerank", "POST")],
)
async def test_other_methods(rig: Rig, method: str, path: str, allowed: str) -> None:
    reply = await rig.http.request(method, path)
    assert (reply.status_code, reply.headers["allow"], reply.text) == (405, allowed, "405 method not allowed")
