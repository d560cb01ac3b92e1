"""The JSON bodies that the server holds: each is bounded, and all of them together are.

A body counts from its first byte until its request is answered, but for its first megabyte: so big bodies never keep the
small ones, which nearly all are, from being read. What does not fit is refused at once; if it waited, several bodies that
are half read could wait for each other. Uploads of blobs go to the disk as they come, and are not counted.

A big body is put together as it comes, and worked on in threads, two at a time: joining its parts at the end, or decoding it
here, would hold up every other answer.
"""

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from corral.core.aio import ThreadLimiter
from corral.core.errors import BodiesFullError, RequestTooLargeError

MAX_BODY_BYTES: Final = (
    144 << 20
)  # a file of 100 MB in base64 and some: JSON of that size is decoded in a tenth of a second, in one go
MAX_HELD_BYTES: Final = 1 << 30
FREE_BYTES: Final = 1 << 20  # of each body that are not counted
_BUSY_THREADS: Final = 2  # more would make the event loop wait for its turns


class Bodies:
    """What a server holds of its requests' bodies at this moment."""

    def __init__(self, *, max_held_bytes: int = MAX_HELD_BYTES) -> None:
        self._max_held_bytes = max_held_bytes
        self._held_bytes = 0
        self.threads: Final = ThreadLimiter("corral-bodies", _BUSY_THREADS)

    @asynccontextmanager
    async def held(self, chunks: AsyncIterator[bytes], length: str) -> AsyncIterator[bytes]:
        """The whole body, which is counted until the block ends. `length` is what its header says, or "".

        Raises RequestTooLargeError beyond MAX_BODY_BYTES, BodiesFullError where there is no room for it now.
        """
        if length.isdecimal() and int(length) > MAX_BODY_BYTES:
            raise RequestTooLargeError(int(length), MAX_BODY_BYTES)
        body = io.BytesIO()
        size_bytes, counted_bytes = 0, 0
        try:
            async for data in chunks:
                size_bytes += len(data)
                if size_bytes > MAX_BODY_BYTES:
                    raise RequestTooLargeError(size_bytes, MAX_BODY_BYTES)
                if size_bytes > FREE_BYTES:
                    self._count(size_bytes - FREE_BYTES - counted_bytes)
                    counted_bytes = size_bytes - FREE_BYTES
                body.write(data)
            yield body.getvalue()
        finally:
            self._held_bytes -= counted_bytes

    def _count(self, more_bytes: int) -> None:
        if self._held_bytes + more_bytes > self._max_held_bytes:
            raise BodiesFullError(self._max_held_bytes)
        self._held_bytes += more_bytes
