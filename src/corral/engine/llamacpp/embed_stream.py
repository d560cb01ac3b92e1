"""One embedding job as the server sees it: its texts go to the worker a few at a time, its vectors come back in their order.

What is on its way is bounded, and nothing more is sent than is read: a job of any size holds little memory on both sides, and
a reader that stops stops the worker's work for it. No native code here.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final

from corral.core.errors import CorralError
from corral.core.types import EmbedJob, Vectors
from corral.wire.link import Embed, Frame

_TEXTS_OUT: Final = 512  # that the worker has and nobody has read the vectors of: two steps' worth of short ones
_CHARS_OUT: Final = 1 << 20  # the same in characters; a longer text goes alone
_TEXTS_PER_FRAME: Final = 128


class EmbedStream:
    """Job `number`; `send` takes its frames to the worker."""

    def __init__(self, number: int, job: EmbedJob, send: Callable[[Frame], None]) -> None:
        self._number = number
        self._job = job
        self._send = send
        self._sent = 0
        self._read = 0
        self._came = 0
        self._chars_out = 0
        self._vectors: deque[Vectors] = deque()
        self._error: CorralError | None = None
        self._news = asyncio.Event()
        self.is_taken = False  # the worker has it
        self.has_begun = False  # never: it is answered as a whole

    @property
    def is_idle(self) -> bool:
        """The worker has nothing of it."""
        return self._came == self._sent

    def take(self, vectors: Vectors) -> None:
        self._came += vectors.count
        self._vectors.append(vectors)
        self._news.set()

    def fail(self, error: CorralError) -> None:
        self._error = self._error or error
        self._news.set()

    async def vectors(self) -> AsyncIterator[Vectors]:
        texts = self._job.texts
        self._top_up()
        while self._read < len(texts):
            await self._news.wait()
            self._news.clear()
            while self._vectors:
                came = self._vectors.popleft()
                begin, self._read = self._read, self._read + came.count
                self._chars_out -= sum(map(len, texts[begin : self._read]))
                self._top_up()
                yield came
            if self._error:
                raise self._error

    def _top_up(self) -> None:
        """Sends what there is room for, in frames that are worth sending."""
        while batch := self._next_batch():
            self._sent += len(batch)
            self._chars_out += sum(map(len, batch))
            self._send(Embed(self._number, batch, self._job.num_ctx, self._job.truncate, self._job.query))

    def _next_batch(self) -> list[str]:
        texts = self._job.texts
        room = min(_TEXTS_PER_FRAME, len(texts) - self._sent)
        if self._sent + room - self._read > _TEXTS_OUT:
            return []
        chars, batch = self._chars_out, list[str]()
        for text in texts[self._sent : self._sent + room]:
            chars += len(text)
            if chars > _CHARS_OUT and (batch or self._chars_out):
                break
            batch.append(text)
        return batch
