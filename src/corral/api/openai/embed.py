"""POST /v1/embeddings: texts in, vectors out, as numbers or as the bytes of 32-bit floats in base64.

Vectors are written some at a time, with a turn of the event loop between, so a large answer holds up nobody.
"""

import asyncio
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from corral.api.clients import named, priority_of
from corral.api.decode import RequestDecoder
from corral.api.errors import FieldError
from corral.api.exchange import PLAIN_JSON, Answer, Exchange, Handler
from corral.api.openai.dialect import OPENAI
from corral.api.openai.prompts import Prompt, prompts, texts
from corral.api.services import EmbedService, TokenService
from corral.api.values import keep_alive
from corral.core.errors import BadRequestError
from corral.service.embed import Embeddings, EmbedRequest
from corral.wire.openai_embed import EmbeddingsRequest, EmbeddingsUsage

if TYPE_CHECKING:
    import numpy.typing as npt

_REQUEST: Final = RequestDecoder(EmbeddingsRequest, OPENAI)
MAX_LISTS: Final = 2048  # of tokens. Source: OpenAI's API reference
_FORMATS: Final = ("float", "base64")
_SLICE_FLOATS: Final = 8192  # written in a millisecond or two
_FLOAT_BYTES: Final = 4


def embeddings(service: EmbedService, tokens: TokenService) -> Handler:
    async def handle(exchange: Exchange) -> Answer | None:
        given, (inputs, request) = await exchange.read(_REQUEST, partial(_asked, client=exchange.client))
        said = await texts(inputs, tokens, model=request.model, keep_alive_s=request.keep_alive_s, client=request.client)
        made = await service.embed(replace(request, texts=tuple(said)))
        slices = _slices(made, packed=given.encoding_format == "base64")
        head, tail = b'{"object":"list","data":[', _tail(request.model, made)
        first = next(slices)
        if made.count * made.dimensions <= _SLICE_FLOATS:
            return Answer(head + first + tail, content_type=PLAIN_JSON)
        await exchange.write(head + first, content_type=PLAIN_JSON)
        for data in slices:
            await asyncio.sleep(0)
            await exchange.write(b"," + data, content_type=PLAIN_JSON)
        await exchange.write(tail, content_type=PLAIN_JSON)
        return None

    return handle


def _asked(given: EmbeddingsRequest, *, client: str) -> tuple[list[Prompt], EmbedRequest]:
    return inputs_of(given.input), embed_request(given, client=client)


def embed_request(given: EmbeddingsRequest, *, client: str) -> EmbedRequest:
    """Without its texts. Raises BadRequestError."""
    if given.encoding_format not in (None, "", *_FORMATS):
        raise BadRequestError(
            f"Invalid value for 'encoding_format' = {given.encoding_format}. Supported values: ['float', 'base64']."
        )
    return EmbedRequest(
        model=given.model or "",
        truncate=given.truncate is not False,
        dimensions=max(0, given.dimensions or 0),
        options=given.options or {},
        keep_alive_s=keep_alive(given.keep_alive),
        client=named(client, given.user),
        priority=priority_of(given.priority),
    )


def inputs_of(given: Any) -> list[Prompt]:
    """One text, which may be empty, or list of tokens for each vector that is wanted."""
    found = prompts(given)
    if not found:
        raise BadRequestError("invalid input")
    if len(found) > MAX_LISTS and any(not isinstance(one, str) for one in found):
        raise FieldError(
            "input", f"input has {len(found)} lists of tokens, and {MAX_LISTS} are taken; send them in several requests"
        )
    return found


def _tail(model: str, made: Embeddings) -> bytes:
    used = EmbeddingsUsage(prompt_tokens=made.prompt_tokens, total_tokens=made.prompt_tokens)
    return b'],"model":%b,"usage":%b}' % (msgspec.json.encode(model), msgspec.json.encode(used))


def _slices(made: Embeddings, *, packed: bool) -> Iterator[bytes]:
    """The items of the list, some whole ones at a time."""
    row_bytes = made.dimensions * _FLOAT_BYTES
    step = max(1, _SLICE_FLOATS // max(1, made.dimensions)) * row_bytes
    index = 0
    for piece in made.pieces:
        for begin in range(0, len(piece), step):
            rows = _packed(piece[begin : begin + step], row_bytes) if packed else _written(made, piece[begin : begin + step])
            yield b",".join(
                b'{"object":"embedding","embedding":%b,"index":%d}' % (row, index + i) for i, row in enumerate(rows)
            )
            index += len(rows)


def _packed(data: bytes, row_bytes: int) -> Sequence[bytes]:
    rows = range(0, len(data), row_bytes)
    return [b'"%b"' % binascii.b2a_base64(data[begin : begin + row_bytes], newline=False) for begin in rows]


def _written(made: Embeddings, data: bytes) -> Sequence[bytes]:
    import numpy as np  # the service that made the vectors has imported it

    from corral.api.numbers import float_rows

    rows: npt.NDArray[np.float32] = np.frombuffer(data, "<f4").reshape(-1, made.dimensions)
    return [b"[%b]" % row for row in float_rows(rows)[1:-1].split(b"],[")]
