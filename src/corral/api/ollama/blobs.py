"""HEAD and POST /api/blobs/{digest}: the files that a create is made of, taken as they arrive and of any size."""

from corral.api.exchange import Answer, Exchange, Handler
from corral.api.services import BlobService
from corral.core.errors import NotFoundError


def head(service: BlobService) -> Handler:
    async def handle(exchange: Exchange) -> Answer:
        digest = exchange.path_params["digest"]
        if not await service.has(digest):
            raise NotFoundError(f'blob "{digest}" not found')
        return Answer(content_type=b"")

    return handle


def upload(service: BlobService) -> Handler:
    """201 where the blob is new, 200 where it was there already: then its bytes are not looked at."""

    async def handle(exchange: Exchange) -> Answer:
        is_new = await service.put(exchange.path_params["digest"], exchange.chunks())
        return Answer(status=201 if is_new else 200, content_type=b"")

    return handle
