"""Bodies that were packed to be sent: unpacked as they come, some bytes at a time, as a few may become very many.

What the whole may have is for whoever reads it to bound. Codings that are not known are refused, and so are several in a row.
Uploads of blobs are no bodies of this kind: they are taken as they are.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final, Protocol

from corral.core.errors import BadRequestError, UnsupportedEncodingError

_SLICE_BYTES: Final = 512  # at most 16 MiB when unpacked: a block of zstd, 4 bytes or more, has 128 KiB
_MAX_WINDOW_BYTES: Final = 8 << 20  # Source: RFC 9659, of what is sent as zstd
_GZIP_WINDOW: Final = 31
_PLAIN: Final = ("", "identity")


class _Unpacker(Protocol):
    @property
    def eof(self) -> bool:
        """The packed data has come to its end, and another may follow."""
        ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def _gzip() -> tuple[_Unpacker, type[Exception]]:
    return zlib.decompressobj(_GZIP_WINDOW), zlib.error


def _deflate() -> tuple[_Unpacker, type[Exception]]:
    return zlib.decompressobj(), zlib.error


def _zstd() -> tuple[_Unpacker, type[Exception]]:
    import zstandard  # few requests need it

    return zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES).decompressobj(), zstandard.ZstdError


_UNPACKERS: Final[Mapping[str, Callable[[], tuple[_Unpacker, type[Exception]]]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "zstd": _zstd,
}  # how to unpack a piece, and what is raised where it is none


async def unpacked(chunks: AsyncIterator[bytes], encoding: str) -> AsyncIterator[bytes]:
    """The body. `encoding` is what its header says, or "".

    Raises UnsupportedEncodingError before anything is read, BadRequestError for data that is not what the header says.
    """
    name = encoding.strip().lower()
    if name in _PLAIN:
        async for chunk in chunks:
            yield chunk
        return
    if name not in _UNPACKERS:
        raise UnsupportedEncodingError(encoding)
    body = _Packed(name)
    async for chunk in chunks:
        for begin in range(0, len(chunk), _SLICE_BYTES):
            if data := body.unpack(chunk[begin : begin + _SLICE_BYTES]):
                yield data
                await asyncio.sleep(0)
    body.check_end()


class _Packed:
    """A body of one or more packed pieces, one behind another."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._piece: tuple[_Unpacker, type[Exception]] | None = None  # that has begun

    def unpack(self, data: bytes) -> bytes:
        out: list[bytes] = []
        while data:
            unpacker, failure = self._piece = self._piece or _UNPACKERS[self._name]()
            try:
                out.append(unpacker.decompress(data))
            except failure as exc:
                raise BadRequestError(f"the request's body is not the {self._name} data that its header says: {exc}") from exc
            data = b""
            if unpacker.eof:
                data, self._piece = unpacker.unused_data, None
        return b"".join(out)

    def check_end(self) -> None:
        if self._piece:
            raise BadRequestError(f"the request's body ends in the middle of its {self._name} data")
