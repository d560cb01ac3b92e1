"""Long texts are tokenized by a thread beside the one that computes: a megabyte takes a second or two. Worker side.

llama.cpp works on them without Python's lock, so steps go on meanwhile. One thread, so that no more than one core is taken
from them; short texts do not wait for long ones.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Protocol, TypeVar

from corral.core.errors import BadRequestError

MOST_BYTES: Final = 8 << 20  # of a text: more than the longest context; llama.cpp takes a hundred times as much memory for it
_AT_ONCE_CHARS: Final = 16 << 10  # tokenized in 25 ms at worst: text without a space in it

T = TypeVar("T")


class TextTooLargeError(BadRequestError):
    """The text is not tokenized."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the text has {size} bytes or more, and {MOST_BYTES} are read; shorten it")


class Reads(Protocol):
    """What reads texts."""

    def read(self, size_chars: int, work: Callable[[], T]) -> Future[T]:
        """What `work` makes of a text of that size: done already where it is short, else later, after those before it."""
        ...


class Texts:
    """Owns the thread, which is started when first needed."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "texts")

    def read(self, size_chars: int, work: Callable[[], T]) -> Future[T]:
        if size_chars > _AT_ONCE_CHARS:
            return self._thread.submit(work)
        future = Future[T]()
        try:
            future.set_result(work())
        except Exception as error:  # noqa: BLE001  it is raised where the result is asked for, as a thread's is
            future.set_exception(error)
        return future
