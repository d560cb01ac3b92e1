"""What the server says of itself, in Ollama's words."""

from typing import Final

from corral import __version__
from corral.api.exchange import Answer, Exchange, json_answer
from corral.core.settings import OLLAMA_VERSION
from corral.wire.ollama import VersionResponse

_RUNNING: Final = Answer(b"Ollama is running", content_type=b"text/plain; charset=utf-8")
_VERSION: Final = json_answer(VersionResponse(version=OLLAMA_VERSION, corral=__version__))


async def root(_exchange: Exchange) -> Answer:
    return _RUNNING


async def version(_exchange: Exchange) -> Answer:
    return _VERSION
