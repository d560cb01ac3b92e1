"""How long and how often a pull or a push tries, and how much it does at once."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from corral.registry.failures import RegistryTransientError

T = TypeVar("T")
MIB: Final = 1024 * 1024
MAX_WAIT_S: Final = 30.0
DEFAULT_CONNECTIONS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Patience and parallelism. The defaults suit people; tests shrink them."""

    connect_s: float = 3.0  # name lookup, TCP and TLS together
    stall_s: float = 30.0  # without a byte from the server, or without it taking one
    slow_bytes: int = 64 * 1024  # a connection that brings less in `stall_s` is made anew
    answer_s: float = 60.0  # for a manifest, a token or another small answer, whole
    commit_s: float = 600.0  # for a registry to check what was pushed to it
    manifest_tries: int = 3
    blob_tries: int = 6  # tries in a row that gain nothing
    backoff_s: float = 1.0  # before the second try; doubles with each
    connections: int = DEFAULT_CONNECTIONS
    chunk_bytes: int = 32 * MIB  # of a blob that is fetched in ranges
    max_chunks: int = 64  # of one blob: a large blob has larger chunks
    write_bytes: int = MIB // 4  # what is gathered before it goes to disk
    checkpoint_s: float = 1.0  # between two times that a download is made sure of
    checkpoint_bytes: int = 16 * MIB  # of one blob, after which it is made sure of at once; a kill costs twice that at most
    look_again_s: float = 0.5  # while another server fetches the same blob into the same store
    part_bytes: tuple[int, int] = (100_000_000, 1_000_000_000)  # of a blob that is pushed: at least, at most
    max_parts: int = 16

    def chunk_bytes_of(self, blob_bytes: int) -> int:
        """How large the ranges are that a blob is fetched in."""
        return max(1, self.chunk_bytes, -(-blob_bytes // self.max_chunks))

    def part_bytes_of(self, blob_bytes: int) -> int:
        """How large the parts are that a blob is pushed in; registries of Ollama's kind count on these.

        >>> Limits().part_bytes_of(3_000_000), Limits().part_bytes_of(40_000_000_000)
        (100000000, 1000000000)
        """
        least, most = self.part_bytes
        return max(1, least, min(most, blob_bytes // self.max_parts))

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
