import json
from dataclasses import replace
from typing import Any

import pytest

from corral.api import admin
from corral.api.exchange import Answer, Exchange
from corral.api.ollama import OLLAMA
from corral.api.openapi import Api, Operation, document
from corral.wire import ollama as wire


async def nothing(_exchange: Exchange) -> Answer:
    return Answer()


def operation(**fields: Any) -> Operation:
    return replace(Operation(path="/api/x", methods=("POST",), handler=nothing, summary="X", tag="t"), **fields)


def made(*operations: Operation) -> dict[str, Any]:
    doc: dict[str, Any] = json.loads(json.dumps(document([Api(OLLAMA, operations)], title="Corral", version="1.2.3")))
    return doc


def test_every_reference_has_a_schema() -> None:
    doc = made(operation(request=wire.ChatRequest, response=wire.ChatResponse, streams=True))
    schemas = doc["components"]["schemas"]
    text = json.dumps(doc)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in schemas
    assert {"ChatRequest", "Message", "ToolCall", "ChatResponse", "ErrorResponse"} <= set(schemas)


def test_a_stream_is_documented_as_lines_and_as_one_object() -> None:
    op = made(operation(response=wire.ProgressResponse, streams=True))["paths"]["/api/x"]["post"]
    assert set(op["responses"]["200"]["content"]) == {"application/x-ndjson", "application/json"}


def test_wire_names_are_documented_not_ours() -> None:
    schemas = made(operation(request=wire.CreateRequest))["components"]["schemas"]
    assert "from" in schemas["CreateRequest"]["properties"]
    assert "from_model" not in schemas["CreateRequest"]["properties"]


def test_path_parameters_and_uploads_are_documented() -> None:
    op = made(operation(path="/api/blobs/{digest}", uploads=True))["paths"]["/api/blobs/{digest}"]["post"]
    assert op["parameters"] == [{"name": "digest", "in": "path", "required": True, "schema": {"type": "string"}}]
    assert "application/octet-stream" in op["requestBody"]["content"]


@pytest.mark.parametrize(("methods", "shown"), [(("GET", "HEAD"), {"get"}), (("HEAD",), {"head"})])
def test_head_is_shown_only_where_there_is_no_get(methods: tuple[str, ...], shown: set[str]) -> None:
    assert set(made(operation(methods=methods))["paths"]["/api/x"]) == shown


def test_what_is_not_served_yet_is_not_documented() -> None:
    assert made(operation(is_documented=False))["paths"] == {}


@pytest.fixture
def page() -> Operation:
    (found,) = [op for op in admin.operations(list) if op.path == "/docs"]
    return found


async def test_the_page_works_offline(page: Operation) -> None:
    answer = await page.handler(None)  # type: ignore[arg-type]  # it looks at nothing
    assert answer is not None
    assert answer.content_type == b"text/html; charset=utf-8"
    for mark in (b"http://", b"https://", b"//cdn", b"@import", b"<link"):
        assert mark not in answer.body
