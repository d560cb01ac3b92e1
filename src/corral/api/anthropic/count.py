"""POST /v1/messages/count_tokens: how many tokens the prompt of a conversation has, as the model would read it.

The prompt is rendered by the road of a chat, and its text taken apart without loading the model. What images and sounds take
only the model can tell: with them the prompt is read, and is there when the conversation is asked to go on.
"""

from dataclasses import replace
from functools import partial
from typing import Final

from corral.api.anthropic.convert import render_request
from corral.api.anthropic.dialect import ANTHROPIC
from corral.api.decode import RequestDecoder
from corral.api.exchange import PLAIN_JSON, Answer, Exchange, Handler, json_answer
from corral.api.services import InferenceService, TokenService
from corral.service.requests import ChatRequest, Rendered, Started
from corral.service.tokens import TokenizeRequest
from corral.wire import anthropic as wire

_REQUEST: Final = RequestDecoder(wire.CountTokensRequest, ANTHROPIC)


def count_tokens(inference: InferenceService, tokens: TokenService) -> Handler:
    async def handle(exchange: Exchange) -> Answer:
        _, request = await exchange.read(_REQUEST, partial(render_request, client=exchange.client))
        async with inference.chat(request) as events:
            rendered = await anext(events)
        assert isinstance(rendered, Rendered), "there are messages, so there is a prompt"
        if rendered.image_count:
            count = await _read(inference, request)
        else:
            prompt = TokenizeRequest(model=request.model, text=rendered.prompt, add_special=True, client=exchange.client)
            count = len((await tokens.tokenize(prompt)).tokens)
        return json_answer(wire.CountTokensResponse(count), content_type=PLAIN_JSON)

    return handle


async def _read(inference: InferenceService, request: ChatRequest) -> int:
    reading = replace(request, debug_render_only=False, needs_start=True, truncate=False, options={"num_predict": 1})
    async with inference.chat(reading) as events:
        started = await anext(events)
        assert isinstance(started, Started), "it was asked for"
        return started.prompt_tokens
