"""Long texts that are read when a test says so."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from corral.engine.llamacpp.worker.texts import Texts

T = TypeVar("T")
_LONG_CHARS = 100


class HeldTexts:
    """Texts of 100 characters or more are read by `release`, all others at once."""

    def __init__(self) -> None:
        self._short = Texts()
        self._works: list[Callable[[], None]] = []

    def read(self, size_chars: int, work: Callable[[], T]) -> Future[T]:
        if size_chars < _LONG_CHARS:
            return self._short.read(size_chars, work)
        future = Future[T]()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                future.set_result(work())

        self._works.append(run)
        return future

    def release(self) -> None:
        works, self._works = self._works, []
        for work in works:
            work()
