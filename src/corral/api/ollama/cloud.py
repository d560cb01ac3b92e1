"""Ollama's account and its cloud: Corral has neither, and says so in the words of an Ollama whose cloud is switched off.

Source: ollama@v0.32 server/routes.go, the handlers of these routes where nobody is signed in; server/cloud_proxy.go.
"""

from corral.api.exchange import Answer, Exchange, Handler, json_answer
from corral.core.errors import ForbiddenError, UnauthorizedError
from corral.wire.ollama import CloudStatus, RecommendationsResponse, StatusResponse

_STATUS = json_answer(StatusResponse(cloud=CloudStatus(disabled=True, source="config")))
_NOTHING = json_answer(RecommendationsResponse())


async def status(_exchange: Exchange) -> Answer:
    return _STATUS


async def recommendations(_exchange: Exchange) -> Answer:
    """Ollama's come from its cloud; there are none."""
    return _NOTHING


async def who_am_i(_exchange: Exchange) -> Answer:
    raise UnauthorizedError("unauthorized")


async def sign_out(_exchange: Exchange) -> Answer:
    raise UnauthorizedError("you are not currently signed in")


def unavailable(what: str) -> Handler:
    async def refuse(_exchange: Exchange) -> Answer:
        raise ForbiddenError(f"ollama cloud is disabled: {what} is unavailable")

    return refuse
