"""The JSON bodies that the server holds: each is bounded, and all of them together are.

A body counts from its first byte until its request is answered, but for its first megabyte: so big bodies never keep the
small ones, which nearly all are, from being read. What does not fit is refused at once; if it waited, several bodies that
are half read could wait for each other. Uploads of blobs go to the disk as they come, and are not counted.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from corral.core.errors import BodiesFullError, RequestTooLargeError

MAX_BODY_BYTES: Final = 256 << 20  # a few hundred images
MAX_HELD_BYTES: Final = 1 << 30
FREE_BYTES: Final = 1 << 20  # of each body that are not counted


class Bodies:
    """What a server holds of its requests' bodies at this moment."""

    def __init__(self, *, max_held_bytes: int = MAX_HELD_BYTES) -> None:
        self._max_held_bytes = max_held_bytes
        self._held_bytes = 0

    @asynccontextmanager
    async def held(self, chunks: AsyncIterator[bytes], length: str) -> AsyncIterator[bytes]:
        """The whole body, which is counted until the block ends. `length` is what its header says, or "".

        Raises RequestTooLargeError beyond MAX_BODY_BYTES, BodiesFullError where there is no room for it now.
        """
        if length.isdecimal() and int(length) > MAX_BODY_BYTES:
            raise RequestTooLargeError(int(length), MAX_BODY_BYTES)
        parts: list[bytes] = []
        size_bytes, counted_bytes = 0, 0
        try:
            async for data in chunks:
                size_bytes += len(data)
                if size_bytes > MAX_BODY_BYTES:
                    raise RequestTooLargeError(size_bytes, MAX_BODY_BYTES)
                if size_bytes > FREE_BYTES:
                    self._count(size_bytes - FREE_BYTES - counted_bytes)
                    counted_bytes = size_bytes - FREE_BYTES
                parts.append(data)
            if len(parts) > 1:
                parts = [b"".join(parts)]
            yield parts[0] if parts else b""
        finally:
            self._held_bytes -= counted_bytes

    def _count(self, more_bytes: int) -> None:
        if self._held_bytes + more_bytes > self._max_held_bytes:
            raise BodiesFullError(self._max_held_bytes)
        self._held_bytes += more_bytes
