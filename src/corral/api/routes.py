"""The route table as Starlette routes, and what is said to a request that no row is for."""

from collections.abc import Iterable
from typing import Final

from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from corral.api.bodies import Bodies
from corral.api.errors import Dialect
from corral.api.exchange import Endpoint
from corral.api.openapi import Operation

_TEXT: Final = "text/plain"


class OperationRoute(Route):
    """A row of the table. A path that is served with other methods is answered as Ollama answers it."""

    def __init__(self, operation: Operation, dialect: Dialect, bodies: Bodies) -> None:
        endpoint = Endpoint(operation.handler, dialect, reads_body=not operation.uploads, bodies=bodies)
        super().__init__(operation.path, endpoint, methods=operation.methods, name=operation.summary)
        self.methods = set(operation.methods)  # Starlette adds HEAD to GET

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.methods and scope["method"] not in self.methods:
            allowed = {"Allow": ", ".join(sorted(self.methods)), "Content-Type": _TEXT}
            await Response("405 method not allowed", 405, allowed)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def routes(operations: Iterable[Operation], dialect: Dialect) -> list[OperationRoute]:
    bodies = Bodies()
    return [OperationRoute(operation, dialect, bodies) for operation in operations]


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
    await Response("404 page not found", 404, {"Content-Type": _TEXT})(scope, receive, send)
