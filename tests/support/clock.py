"""A clock that stands still until a test moves it."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class FakeTimer:
    call: Callable[[], None] | None

    def cancel(self) -> None:
        self.call = None


@dataclass(slots=True)
class FakeClock:
    """Meets corral.core.clock.Clock. `advance` runs the timers that fall due, in order."""

    now_ns: int = 1_000_000_000
    _timers: list[tuple[int, int, FakeTimer]] = field(default_factory=list)

    def monotonic_ns(self) -> int:
        return self.now_ns

    def unix_ns(self) -> int:
        return 1_800_000_000_000_000_000 + self.now_ns

    def call_later(self, delay_s: float, call: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(call)
        heapq.heappush(self._timers, (self.now_ns + int(delay_s * 1e9), len(self._timers), timer))
        return timer

    def advance(self, seconds: float) -> None:
        until = self.now_ns + int(seconds * 1e9)
        while self._timers and self._timers[0][0] <= until:
            self.now_ns, _, timer = heapq.heappop(self._timers)
            if timer.call:
                timer.call()
        self.now_ns = until
