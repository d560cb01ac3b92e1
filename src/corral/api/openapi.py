"""The OpenAPI 3.1 document, made from the route table and the wire types: what is documented is what is served."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from corral.api.dialect import Dialect
from corral.api.exchange import Handler

_REF: Final = "#/components/schemas/{name}"

Refs: TypeAlias = Mapping[type[msgspec.Struct], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A row of the route table: what is served where, and what it takes and gives."""

    path: str  # with `{name}` for each parameter, `{name:path}` where it may hold slashes
    methods: tuple[str, ...]
    handler: Handler
    summary: str
    tag: str
    request: type[msgspec.Struct] | None = None
    response: type[msgspec.Struct] | None = None  # None: no body, or one that is no JSON
    streams: bool = False  # may answer with a stream
    event: type[msgspec.Struct] | None = None  # what its stream is made of; None: of responses
    events: tuple[type[msgspec.Struct], ...] = ()  # the same, where it is made of several, told apart by their "type"
    content_type: str = "application/json"  # of a response that is no Struct, "" for none
    uploads: bool = False  # the body is a file, taken as it arrives
    is_documented: bool = True


@dataclass(frozen=True, slots=True)
class Api:
    """All that is served in one dialect."""

    dialect: Dialect
    operations: Sequence[Operation]


def document(apis: Sequence[Api], *, title: str, version: str) -> dict[str, Any]:
    """The whole document. HEAD stands for itself only where there is no GET."""
    refs, components = _schemas(apis)
    paths: dict[str, dict[str, Any]] = {}
    for api in apis:
        for op in (op for op in api.operations if op.is_documented):
            for method in op.methods:
                if method != "HEAD" or "GET" not in op.methods:
                    paths.setdefault(_path(op), {})[method.lower()] = _operation(op, method, api.dialect, refs)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": components},
    }


def _schemas(apis: Iterable[Api]) -> tuple[Refs, dict[str, Any]]:
    """A reference for each type that is asked for or answered, and the schemas that they refer to."""
    kinds: set[type[msgspec.Struct]] = set()
    for api in apis:
        kinds.add(api.dialect.error)
        kinds |= {kind for op in api.operations for kind in (op.request, op.response, op.event, *op.events) if kind}
    ordered = sorted(kinds, key=lambda kind: (kind.__name__, kind.__module__))
    refs, components = msgspec.json.schema_components(ordered, ref_template=_REF)
    return dict(zip(ordered, refs, strict=True)), components


def _operation(op: Operation, method: str, dialect: Dialect, refs: Refs) -> dict[str, Any]:
    out: dict[str, Any] = {"summary": op.summary, "tags": [op.tag], "operationId": _operation_id(op, method)}
    if names := [part[1:-1] for part in _path(op).split("/") if part.startswith("{")]:
        out["parameters"] = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    if op.request:
        out["requestBody"] = {"required": True, "content": {"application/json": {"schema": refs[op.request]}}}
        out["description"] = inspect.cleandoc(op.request.__doc__ or "")
    elif op.uploads and method != "HEAD":
        out["requestBody"] = {"required": True, "content": {"application/octet-stream": {}}}
    success: dict[str, Any] = {"description": "Success"}
    if content := _content(op, dialect, refs):
        success["content"] = content
    failure = {"description": "An error", "content": {"application/json": {"schema": refs[dialect.error]}}}
    return out | {"responses": {"200": success, "default": failure}}


def _content(op: Operation, dialect: Dialect, refs: Refs) -> Mapping[str, Any]:
    if op.response is None:
        return {op.content_type: {}} if op.content_type else {}
    whole = {"application/json": {"schema": refs[op.response]}}
    if not op.streams:
        return whole
    event = {"oneOf": [refs[kind] for kind in op.events]} if op.events else refs[op.event or op.response]
    return {dialect.stream_type.decode(): {"schema": event}, **whole}


def _path(op: Operation) -> str:
    """The path as the document has it: without how a parameter is matched."""
    return op.path.replace(":path}", "}")


def _operation_id(op: Operation, method: str) -> str:
    words = [word.strip("{}.") for word in _path(op).split("/") if word] or ["root"]
    return "_".join([method.lower(), *words]).replace(".", "_")
