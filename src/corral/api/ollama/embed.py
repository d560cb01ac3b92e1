"""POST /api/embed and the older /api/embeddings: texts in, vectors out.

Numbers are written a few thousand at a time, with a turn of the event loop between, so a large answer holds up nobody.
"""

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from corral.api.decode import RequestDecoder
from corral.api.exchange import JSON, Answer, Exchange, Handler, json_answer
from corral.api.ollama.convert import embed_request, embedding_request
from corral.api.ollama.dialect import OLLAMA
from corral.api.services import EmbedService
from corral.core.errors import EngineError
from corral.service.embed import Embeddings, NotFiniteError
from corral.wire import ollama as wire

if TYPE_CHECKING:
    import numpy.typing as npt

_EMBED: Final = RequestDecoder(wire.EmbedRequest, OLLAMA)
_EMBEDDING: Final = RequestDecoder(wire.EmbeddingRequest, OLLAMA)
_EMPTY: Final = b'"embeddings":[]'
_SLICE_FLOATS: Final = 8192  # written in a millisecond or two


def embed(service: EmbedService) -> Handler:
    async def handle(exchange: Exchange) -> Answer | None:
        _, request = await exchange.read(_EMBED, partial(embed_request, client=exchange.client))
        made = await service.embed(request)
        head, tail = _around(request.model, made)
        slices = _slices(made)
        first = next(slices, b"")
        if made.count * made.dimensions <= _SLICE_FLOATS:
            return Answer(b"".join((head, first, tail)))
        await exchange.write(head + first, content_type=JSON)
        for data in slices:
            await asyncio.sleep(0)
            await exchange.write(b"," + data, content_type=JSON)
        await exchange.write(tail, content_type=JSON)
        return None

    return handle


def embeddings(service: EmbedService) -> Handler:
    """One text, and its vector in 64-bit floats."""

    async def handle(exchange: Exchange) -> Answer:
        _, request = await exchange.read(_EMBEDDING, partial(embedding_request, client=exchange.client))
        try:
            made = await service.embed(request)
        except NotFiniteError as exc:
            raise EngineError(str(exc)) from exc
        if not made.count:
            return json_answer(wire.EmbeddingResponse(embedding=[]))
        return Answer(b'{"embedding":%b}' % _written(made, made.pieces[0], double=True))

    return handle


def _around(model: str, made: Embeddings) -> tuple[bytes, bytes]:
    """The answer before and behind its vectors, cut from the Struct itself."""
    response = wire.EmbedResponse(
        model=model,
        embeddings=[],
        total_duration=made.total_ns,
        load_duration=made.load_ns,
        prompt_eval_count=made.prompt_tokens,
    )
    head, tail = msgspec.json.encode(response).split(_EMPTY, 1)
    return head + _EMPTY[:-1], b"]" + tail


def _slices(made: Embeddings) -> Iterator[bytes]:
    """The vectors as JSON, some whole ones at a time."""
    row_bytes = made.dimensions * 4
    step = max(1, _SLICE_FLOATS // max(1, made.dimensions)) * row_bytes
    for piece in made.pieces:
        for begin in range(0, len(piece), step):
            yield _written(made, piece[begin : begin + step])


def _written(made: Embeddings, data: bytes, *, double: bool = False) -> bytes:
    import numpy as np  # the service that made the vectors has imported it

    from corral.api.numbers import float_rows

    rows: npt.NDArray[np.float32] = np.frombuffer(data, "<f4").reshape(-1, made.dimensions)
    return float_rows(rows.astype(np.float64) if double else rows)
