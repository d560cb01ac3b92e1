"""How long a load may make no progress."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from corral.core.errors import ModelLoadError
from corral.core.units import FOREVER_S
from corral.engine import ProgressCallback

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """With the load of the model of that name, for `stall_s` at a time."""

    name: str
    stall_s: float

    async def run(self, work: Callable[[ProgressCallback], Awaitable[T]]) -> T:
        """What the work gives. Raises ModelLoadError when it has told of no progress for too long."""
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout(None if self.stall_s == FOREVER_S else self.stall_s)

        def tell(_share: float) -> None:
            if limit.when() is not None and not limit.expired():
                limit.reschedule(loop.time() + self.stall_s)

        try:
            async with limit:
                return await work(tell)
        except TimeoutError as exc:
            if not limit.expired():
                raise
            raise ModelLoadError(
                f"loading {self.name} made no progress for {self.stall_s:g} seconds and was given up; "
                "OLLAMA_LOAD_TIMEOUT sets how long to wait"
            ) from exc
