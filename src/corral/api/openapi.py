"""The OpenAPI 3.1 document, made from the route table and the wire types: what is documented is what is served."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from corral.api.exchange import Handler
from corral.wire.ollama import ErrorResponse

_REF: Final = "#/components/schemas/{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A row of the route table: what is served where, and what it takes and gives."""

    path: str  # with `{name}` for each parameter
    methods: tuple[str, ...]
    handler: Handler
    summary: str
    tag: str
    request: type[msgspec.Struct] | None = None
    response: type[msgspec.Struct] | None = None  # None: no body, or one that is no JSON
    streams: bool = False  # answers with one response a line unless `stream` is false
    content_type: str = "application/json"  # of a response that is no Struct, "" for none
    uploads: bool = False  # the body is a file, taken as it arrives
    is_documented: bool = True


def document(operations: Sequence[Operation], *, title: str, version: str) -> dict[str, Any]:
    """The whole document. HEAD stands for itself only where there is no GET."""
    kinds = {kind for op in operations for kind in (op.request, op.response) if kind} | {ErrorResponse}
    ordered = sorted(kinds, key=lambda kind: kind.__name__)
    _, components = msgspec.json.schema_components(ordered, ref_template=_REF)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "paths": _paths(operations),
        "components": {"schemas": components},
    }


def _paths(operations: Iterable[Operation]) -> dict[str, dict[str, Any]]:
    paths: dict[str, dict[str, Any]] = {}
    for op in (op for op in operations if op.is_documented):
        for method in op.methods:
            if method != "HEAD" or "GET" not in op.methods:
                paths.setdefault(op.path, {})[method.lower()] = _operation(op, method)
    return paths


def _operation(op: Operation, method: str) -> dict[str, Any]:
    out: dict[str, Any] = {"summary": op.summary, "tags": [op.tag], "operationId": _operation_id(op, method)}
    if names := [part[1:-1] for part in op.path.split("/") if part.startswith("{")]:
        out["parameters"] = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    if op.request:
        out["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(op.request)}}}
        out["description"] = inspect.cleandoc(op.request.__doc__ or "")
    elif op.uploads and method != "HEAD":
        out["requestBody"] = {"required": True, "content": {"application/octet-stream": {}}}
    success: dict[str, Any] = {"description": "Success"}
    if content := _content(op):
        success["content"] = content
    failure = {"description": "An error", "content": {"application/json": {"schema": _ref(ErrorResponse)}}}
    return out | {"responses": {"200": success, "default": failure}}


def _content(op: Operation) -> Mapping[str, Any]:
    if op.response is None:
        return {op.content_type: {}} if op.content_type else {}
    schema = {"schema": _ref(op.response)}
    return {"application/x-ndjson": schema, "application/json": schema} if op.streams else {"application/json": schema}


def _operation_id(op: Operation, method: str) -> str:
    words = [word.strip("{}.") for word in op.path.split("/") if word] or ["root"]
    return "_".join([method.lower(), *words]).replace(".", "_")


def _ref(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REF.format(name=kind.__name__)}
