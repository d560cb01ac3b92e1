"""How long and how often a pull tries, and how much it does at once."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from corral.registry.failures import RegistryTransientError

T = TypeVar("T")
MIB: Final = 1024 * 1024
MAX_WAIT_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Patience and parallelism. The defaults suit people; tests shrink them."""

    connect_s: float = 3.0  # name lookup, TCP and TLS together
    stall_s: float = 30.0  # without a byte from the server
    manifest_tries: int = 3
    blob_tries: int = 6  # tries in a row that gain nothing
    backoff_s: float = 1.0  # before the second try; doubles with each
    connections: int = 8
    chunk_bytes: int = 32 * MIB
    write_bytes: int = MIB // 4  # what is gathered before it goes to disk

    async def wait(self, failures: int, exc: RegistryTransientError) -> None:
        """Sleeps as long as is due after so many failures in a row, or as the server asked."""
        due_s = max(self.backoff_s * 2 ** (failures - 1), exc.wait_s)
        await asyncio.sleep(min(due_s, MAX_WAIT_S))

    async def retrying(self, tries: int, attempt: Callable[[], Awaitable[T]], *, but: type[Exception] | tuple[()] = ()) -> T:
        """The result of the first `attempt` that works; a transient failure is tried again, except one of kind `but`."""
        for failures in range(1, tries):
            try:
                return await attempt()
            except RegistryTransientError as exc:
                if isinstance(exc, but):
                    raise
                await self.wait(failures, exc)
        return await attempt()
