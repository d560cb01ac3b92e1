"""The route tables as Starlette routes, and what is said to a request that no row is for: the same in every dialect."""

from collections.abc import Collection, Iterable
from typing import Final

from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from corral.api.bodies import Bodies
from corral.api.dialect import Dialect
from corral.api.exchange import Endpoint
from corral.api.openapi import Api, Operation

_TEXT: Final = "text/plain"


class OperationRoute(Route):
    """A row of the table. A path that is served with other methods is answered as Ollama answers it, in every dialect."""

    def __init__(self, operation: Operation, dialect: Dialect, bodies: Bodies, allowed: Collection[str]) -> None:
        """`allowed` are the methods of all rows for the path."""
        endpoint = Endpoint(operation.handler, dialect, reads_body=not operation.uploads, bodies=bodies)
        super().__init__(operation.path, endpoint, methods=operation.methods, name=operation.summary)
        self.methods = set(operation.methods)  # Starlette adds HEAD to GET
        self._allowed = ", ".join(sorted(allowed))

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.methods and scope["method"] not in self.methods:
            headers = {"Allow": self._allowed, "Content-Type": _TEXT}
            await Response("405 method not allowed", 405, headers)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def routes(apis: Iterable[Api]) -> list[OperationRoute]:
    bodies = Bodies()
    rows = [(operation, api.dialect) for api in apis for operation in api.operations]
    allowed: dict[str, set[str]] = {}
    for operation, _ in rows:
        allowed.setdefault(operation.path, set()).update(operation.methods)
    return [OperationRoute(operation, dialect, bodies, allowed[operation.path]) for operation, dialect in rows]


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
    await Response("404 page not found", 404, {"Content-Type": _TEXT})(scope, receive, send)
