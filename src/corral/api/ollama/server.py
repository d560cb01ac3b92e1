"""What the server says of itself in Ollama's words, and of the endpoints that it does not have yet."""

from typing import Final

from corral import __version__
from corral.api.exchange import Answer, Exchange, Handler, json_answer
from corral.core.errors import BadRequestError, NotSupportedError
from corral.core.settings import OLLAMA_VERSION
from corral.wire.ollama import VersionResponse

_RUNNING: Final = Answer(b"Ollama is running", content_type=b"text/plain; charset=utf-8")
_VERSION: Final = json_answer(VersionResponse(version=OLLAMA_VERSION, corral=__version__))


async def root(_exchange: Exchange) -> Answer:
    return _RUNNING


async def version(_exchange: Exchange) -> Answer:
    return _VERSION


def missing(path: str) -> Handler:
    """For a documented endpoint that this version lacks: says so, rather than that nobody knows it."""

    async def handle(exchange: Exchange) -> Answer:
        if not exchange.body.strip():
            raise BadRequestError("missing request body")
        raise NotSupportedError(f"{path} is not available in this version of Corral ({__version__})")

    return handle
