"""One model on one engine: loading, then ready, then closing, then closed.

A runner counts who uses it and knows when it may go. It decides nothing about other models; the scheduler does.
Invariants: `ready` is settled exactly once; an engine is closed only when nobody uses it, or when the server stops; memory
is held until the engine has ended.
"""

import asyncio
from typing import Literal

from corral.core.clock import Clock, Timer
from corral.core.errors import ServerStoppingError
from corral.core.types import LoadSpec
from corral.core.units import FOREVER_S, NS_PER_S
from corral.engine import Engine
from corral.sched.queue import FairQueue, Place
from corral.store import Model

RunnerState = Literal["loading", "ready", "closing", "closed"]


class Runner:
    """Made for a model that is to be loaded as `spec` says."""

    def __init__(self, model: Model, spec: LoadSpec, *, clock: Clock) -> None:
        self.model = model
        self.spec = spec
        self.estimated_bytes = 0  # of memory, until the engine knows better
        self.state: RunnerState = "loading"
        self.engine: Engine | None = None
        self.ready: asyncio.Future[Engine] = asyncio.get_running_loop().create_future()
        self.closed = asyncio.Event()
        self.keep_alive_s = FOREVER_S
        self.holds_memory = False  # from the moment its load may begin until it is closed
        self.is_retired = False  # it takes no more requests: a better one is coming, or it is asked to go
        self.users = 0  # requests that hold it, waiting ones included
        self.idle_since_ns = clock.monotonic_ns()
        self._places = FairQueue(0)  # whoever comes while it loads waits in it
        self._clock = clock
        self._timer: Timer | None = None

    # Loading

    def loaded(self, engine: Engine) -> None:
        self.engine, self.state = engine, "ready"
        self.ready.set_result(engine)
        self._places.open(engine.info.n_parallel, may_displace=engine.info.can_displace)

    def failed(self, error: Exception) -> None:
        self._end()
        self.ready.set_exception(error)
        self.ready.exception()  # nobody may be waiting any more; that is no news for the log
        self._places.close()

    @property
    def need_bytes(self) -> int:
        """What the engine says that it takes now; before there is one, the estimate."""
        return self.engine.info.size_bytes if self.engine else self.estimated_bytes

    @property
    def reserved_bytes(self) -> int:
        """What it may take of a budget in any case: one full sequence, or more if it has taken more."""
        return max(self.need_bytes, self.estimated_bytes)

    # Use

    @property
    def is_usable(self) -> bool:
        """May a new request join it?"""
        if self.is_retired or self.state in ("closing", "closed"):
            return False
        return self.engine is None or self.engine.is_alive

    @property
    def is_going(self) -> bool:
        """Will it close by itself, and soon?"""
        return self.is_retired and self.users == 0

    @property
    def is_idle(self) -> bool:
        return self.users == 0 and self.state == "ready"

    async def take_place(self, client: str, priority: int) -> Place:
        """Waits until the engine is ready and one of its places is free. Raises what the load ended with."""
        try:
            return await self._places.take(client, priority)
        except ServerStoppingError:
            if self.ready.done() and (error := self.ready.exception()):
                raise error from None
            raise

    def try_place(self, client: str, priority: int) -> Place | None:
        """A place, without waiting, if the engine is ready and one is free."""
        return self._places.take_free(client, priority)

    def free_place(self, place: Place) -> None:
        self._places.give_back(place)

    def refuse(self) -> None:
        """The server stops: nobody gets a place any more, whether it waits for one already or comes."""
        self._places.close()

    # Keep-alive

    @property
    def expires_unix_ns(self) -> int | None:
        """When it goes if nobody comes; None: never. While requests run it is counted from now."""
        if self.keep_alive_s == FOREVER_S:
            return None
        idle_ns = 0 if self.users else self._clock.monotonic_ns() - self.idle_since_ns
        return self._clock.unix_ns() - idle_ns + int(self.keep_alive_s * NS_PER_S)

    @property
    def remaining_s(self) -> float:
        """Seconds of keep-alive left; inf for ever."""
        idle_s = 0.0 if self.users else (self._clock.monotonic_ns() - self.idle_since_ns) / NS_PER_S
        return self.keep_alive_s - idle_s

    def hold(self, keep_alive_s: float) -> None:
        """One more request uses it, and says how long it is to be kept afterwards."""
        self.users += 1
        self.keep_alive_s = keep_alive_s
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def drop(self) -> bool:
        """Gives up a hold; true if that was the last one."""
        self.users -= 1
        self.idle_since_ns = self._clock.monotonic_ns()
        return self.users == 0

    def expire_with(self, timer: Timer | None) -> None:
        """Replaces the timer that will end it."""
        if self._timer:
            self._timer.cancel()
        self._timer = timer

    async def aclose(self) -> None:
        """Ends the engine. Safe to call twice: a second call takes up a close that was cut off by its cancellation."""
        self.is_retired = True
        self.expire_with(None)
        if self.engine is None:
            if not self.ready.done():
                self.failed(ServerStoppingError())
            return
        if self.state == "closed":
            return
        self.state = "closing"
        try:
            await self.engine.aclose()
        except asyncio.CancelledError:
            raise
        except Exception:
            self._end()
            raise
        self._end()

    def _end(self) -> None:
        self.state = "closed"
        self.holds_memory = False
        self.closed.set()
