"""HEAD and POST /api/blobs/{digest}: the files that a create is made of, taken as they arrive and of any size.

A client on this machine may name a file by its path, in the header X-Corral-File, instead of sending it: the store then links
or copies it (`corral.store.local_file`). That is only for who comes from this machine without a proxy in between; to anybody
else, and for whatever reason the store does not take the file, the answer is 403 and the client uploads as ever.
"""

import ipaddress
import os
from typing import Final
from urllib.parse import unquote_to_bytes

from corral.api.exchange import Answer, Exchange, Handler
from corral.api.services import BlobService
from corral.core.errors import NotFoundError
from corral.store import LocalFileError

FILE_HEADER: Final = b"x-corral-file"
_PROXY_HEADERS: Final = (b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via")


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
        digest = exchange.path_params["digest"]
        if path := exchange.header(FILE_HEADER):
            if not _is_local(exchange):
                raise LocalFileError
            is_new = await service.take(digest, os.fsdecode(unquote_to_bytes(path)))
        else:
            is_new = await service.put(digest, exchange.chunks())
        return Answer(status=201 if is_new else 200, content_type=b"")

    return handle


def _is_local(exchange: Exchange) -> bool:
    try:
        address = ipaddress.ip_address(exchange.client)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return mapped.is_loopback and not any(exchange.header(name) for name in _PROXY_HEADERS)
