"""What is served about the server itself: that it lives, what it serves, and a page to read that on."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from corral import __version__
from corral.api.exchange import Answer, Exchange
from corral.api.openapi import Api, Operation, document


class HealthResponse(msgspec.Struct, frozen=True):
    status: str


_HEALTHY: Final = Answer(msgspec.json.encode(HealthResponse(status="ok")))
_PAGE: Final = Answer(Path(__file__).with_name("docs.html").read_bytes(), content_type=b"text/html; charset=utf-8")


async def health(_exchange: Exchange) -> Answer:
    return _HEALTHY


async def docs(_exchange: Exchange) -> Answer:
    return _PAGE


def operations(apis: Callable[[], Sequence[Api]]) -> list[Operation]:
    """The server's own rows. `apis` gives all that is served, these rows included, when the document is first asked for."""

    @cache
    def body() -> bytes:
        return msgspec.json.encode(document(apis(), title="Corral", version=__version__))

    async def openapi(_exchange: Exchange) -> Answer:
        return Answer(body())

    read = ("GET", "HEAD")
    return [
        Operation(
            path="/health",
            methods=read,
            handler=health,
            summary="Whether the server answers",
            tag="server",
            response=HealthResponse,
        ),
        Operation(path="/openapi.json", methods=read, handler=openapi, summary="This document", tag="server"),
        Operation(
            path="/docs",
            methods=read,
            handler=docs,
            summary="A page that shows this document",
            tag="server",
            content_type="text/html",
        ),
    ]
