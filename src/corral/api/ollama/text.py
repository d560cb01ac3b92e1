"""POST /api/tokenize, /api/detokenize and /api/apply-template: what the text of a request is to a model, without loading it."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from corral.api.decode import RequestDecoder
from corral.api.exchange import Answer, Exchange, Handler, json_answer
from corral.api.ollama.convert import message, tokens_of
from corral.api.ollama.dialect import OLLAMA
from corral.api.services import InferenceService, TokenService
from corral.api.values import keep_alive, think
from corral.core.errors import BadRequestError
from corral.service.requests import ChatRequest, Rendered
from corral.service.tokens import DetokenizeRequest, TokenizeRequest
from corral.wire import text as wire

_TOKENIZE: Final = RequestDecoder(wire.TokenizeRequest, OLLAMA)
_DETOKENIZE: Final = RequestDecoder(wire.DetokenizeRequest, OLLAMA)
_APPLY: Final = RequestDecoder(wire.ApplyTemplateRequest, OLLAMA)


def tokenize(service: TokenService) -> Handler:
    async def handle(exchange: Exchange) -> Answer:
        _, request = await exchange.read(_TOKENIZE, partial(_tokenize_request, client=exchange.client))
        made = await service.tokenize(request)
        return json_answer(
            wire.TokenizeResponse(
                model=request.model,
                tokens=made.tokens,
                pieces=_pieces(made.pieces) if made.pieces is not None else None,
                total_duration=made.total_ns,
                load_duration=made.load_ns,
            )
        )

    return handle


def _tokenize_request(given: wire.TokenizeRequest, *, client: str) -> TokenizeRequest:
    text = next((text for text in (given.content, given.text, given.prompt) if text is not None), None)
    if text is None:
        raise BadRequestError("content is required")
    return TokenizeRequest(
        model=given.model or "",
        text=text,
        add_special=bool(given.add_special),
        parse_special=given.parse_special is not False,
        with_pieces=bool(given.with_pieces),
        keep_alive_s=keep_alive(given.keep_alive),
        client=client,
    )


def _pieces(pieces: Sequence[bytes]) -> list[wire.Piece]:
    """Each as text, or as numbers where it is no whole text."""
    shown: list[wire.Piece] = []
    for piece in pieces:
        try:
            shown.append(piece.decode())
        except UnicodeDecodeError:
            shown.append(list(piece))
    return shown


def detokenize(service: TokenService) -> Handler:
    async def handle(exchange: Exchange) -> Answer:
        _, request = await exchange.read(_DETOKENIZE, partial(_detokenize_request, client=exchange.client))
        made = await service.detokenize(request)
        return json_answer(
            wire.DetokenizeResponse(
                model=request.model, content=made.text, total_duration=made.total_ns, load_duration=made.load_ns
            )
        )

    return handle


def _detokenize_request(given: wire.DetokenizeRequest, *, client: str) -> DetokenizeRequest:
    return DetokenizeRequest(
        model=given.model or "",
        tokens=tokens_of(given.tokens or (), "DetokenizeRequest.tokens"),
        keep_alive_s=keep_alive(given.keep_alive),
        client=client,
    )


def apply_template(inference: InferenceService) -> Handler:
    """The prompt of a chat, by the road of a chat, as far as it is rendered."""

    async def handle(exchange: Exchange) -> Answer:
        _, request = await exchange.read(_APPLY, partial(_render_request, client=exchange.client))
        async with inference.chat(request) as events:
            rendered = await anext(events)
        assert isinstance(rendered, Rendered), "there are messages, so there is a prompt"
        return json_answer(wire.ApplyTemplateResponse(model=request.model, prompt=rendered.prompt))

    return handle


def _render_request(given: wire.ApplyTemplateRequest, *, client: str) -> ChatRequest:
    if not given.messages:
        raise BadRequestError("messages are required")
    return ChatRequest(
        model=given.model or "",
        messages=tuple(map(message, given.messages)),
        tools=tuple(given.tools or ()),
        think=think(given.think),
        debug_render_only=True,
        client=client,
    )
