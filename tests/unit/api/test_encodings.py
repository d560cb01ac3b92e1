"""Bodies that were packed: every coding, cut anywhere, broken, and made to burst."""

import gzip
import zlib
from collections.abc import AsyncIterator, Callable

import pytest
import zstandard

from corral.api.bodies import Bodies
from corral.api.encodings import unpacked
from corral.core.errors import BadRequestError, RequestTooLargeError, UnsupportedEncodingError

TEXT = b'{"model": "m", "prompt": "' + b"hello " * 500 + b'"}'


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstd,
}


async def chunks(data: bytes, size: int) -> AsyncIterator[bytes]:
    for begin in range(0, len(data), size):
        yield data[begin : begin + size]


async def whole(data: bytes, encoding: str, size: int = 1 << 16) -> bytes:
    return b"".join([piece async for piece in unpacked(chunks(data, size), encoding)])


@pytest.mark.parametrize("size", [1, 7, 512, 1 << 16])
@pytest.mark.parametrize("name", PACKED)
async def test_a_body_is_unpacked_however_it_is_cut(name: str, size: int) -> None:
    assert await whole(PACKED[name](TEXT), name, size) == TEXT


@pytest.mark.parametrize("name", ["", "identity", "Identity", " "])
async def test_a_body_that_is_not_packed_stays_as_it_is(name: str) -> None:
    assert await whole(TEXT, name) == TEXT


async def test_the_name_of_a_coding_is_read_in_any_case() -> None:
    assert await whole(zstd(TEXT), " ZStd ") == TEXT


@pytest.mark.parametrize("name", ["gzip", "zstd"])
async def test_pieces_behind_each_other_are_one_body(name: str) -> None:
    pack = PACKED[name]
    assert await whole(pack(b"a") + pack(b"") + pack(b"b"), name, 3) == b"ab"


@pytest.mark.parametrize("name", PACKED)
async def test_no_bytes_are_no_body(name: str) -> None:
    assert await whole(b"", name) == b""


@pytest.mark.parametrize("name", ["br", "gzip, zstd", "snappy"])
async def test_an_unknown_coding_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedEncodingError, match="send gzip, deflate or zstd") as caught:
        await whole(TEXT, name)
    assert caught.value.status == 415


@pytest.mark.parametrize("name", PACKED)
async def test_data_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(BadRequestError, match=f"not the {name} data"):
        await whole(TEXT, name)
    with pytest.raises(BadRequestError, match=f"not the {name} data"):
        await whole(PACKED[name](TEXT) + b"and more that is none", name)


@pytest.mark.parametrize("name", PACKED)
async def test_data_that_ends_too_soon_is_refused(name: str) -> None:
    with pytest.raises(BadRequestError, match="ends in the middle"):
        await whole(PACKED[name](TEXT)[:-1], name)


async def test_a_window_beyond_what_is_sent_over_http_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = packer.compress(b"a" * 1000) + packer.flush()
    with pytest.raises(BadRequestError, match="too much memory"):
        await whole(data, "zstd")


@pytest.mark.parametrize("name", ["gzip", "zstd"])
async def test_a_bomb_bursts_in_small_pieces_and_is_refused_at_the_limit(name: str) -> None:
    """Hundreds of megabytes of zeros in some kilobytes: no piece is large, and reading ends at the limit for all bodies."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31) if name == "gzip" else zstandard.ZstdCompressor(level=19).compressobj()
    zeros = bytes(1 << 20)
    bomb = b"".join([*(packer.compress(zeros) for _ in range(300)), packer.flush()])
    assert len(bomb) < 2 << 20
    largest = 0
    read = unpacked(chunks(bomb, 1 << 16), name)

    async def watched() -> AsyncIterator[bytes]:
        nonlocal largest
        async for piece in read:
            largest = max(largest, len(piece))
            yield piece

    with pytest.raises(RequestTooLargeError):
        async with Bodies().held(watched(), str(len(bomb))):
            pass
    assert largest <= 16 << 20
