"""Time as a thing that is passed in, so that tests can move it."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    def cancel(self) -> None: ...


class Clock(Protocol):
    def monotonic_ns(self) -> int: ...

    def unix_ns(self) -> int: ...

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Timer: ...


class SystemClock:
    """The machine's own clock, on the running event loop."""

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def unix_ns(self) -> int:
        return time.time_ns()

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(delay_s, call)
