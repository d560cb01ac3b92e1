"""GET and DELETE /v1/responses/{response_id}: a response that is kept, as it was sent, and its end."""

from typing import Final
from urllib.parse import parse_qs

from corral.api.exchange import PLAIN_JSON, Answer, Exchange, Handler, json_answer
from corral.api.openai.responses.held import HeldResponses
from corral.api.openai.values import refused
from corral.wire.responses import DeletedResponse

_FALSE: Final = ("", "false", "0")


def retrieved(held: HeldResponses) -> Handler:
    async def handle(exchange: Exchange) -> Answer:
        query = parse_qs(exchange.scope["query_string"].decode("latin-1"))
        if query.get("stream", [""])[-1].lower() not in _FALSE:
            raise refused("stream", "a response that is kept has come to its end; leave it out")
        return Answer(held.body(exchange.path_params["response_id"]), content_type=PLAIN_JSON)

    return handle


def deleted(held: HeldResponses) -> Handler:
    async def handle(exchange: Exchange) -> Answer:
        response_id = exchange.path_params["response_id"]
        held.delete(response_id)
        return json_answer(DeletedResponse(id=response_id, object="response", deleted=True), content_type=PLAIN_JSON)

    return handle
