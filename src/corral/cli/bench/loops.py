"""Ways to send many requests: a closed loop, an open one, and long prompts beside running streams.

No request is dropped: when time is up no more are sent, and those that run are heard to their end or their own time limit.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from corral.cli.bench.sending import Sample, Sent
from corral.cli.bench.sources import Source
from corral.cli.bench.texts import drawing
from corral.cli.bench.workloads import Ask
from corral.core.units import NS_PER_S

_RUNNING_PIECES: Final = 8  # of an answer, after which a stream counts as running
_AFTER_FAILURE_S: Final = 0.1  # a client waits so long after a failure: a server that refuses at once is not stormed


class Send(Protocol):
    async def __call__(self, ask: Ask, *, client: int = ..., nth: int = ..., heard: Callable[[], None] = ...) -> Sent: ...


@dataclass(frozen=True, slots=True)
class Until:
    """When to stop sending, in monotonic nanoseconds; 0: when there is nothing more to send."""

    at_ns: int = 0

    @classmethod
    def after(cls, duration_s: float) -> "Until":
        return cls(time.monotonic_ns() + int(duration_s * NS_PER_S) if duration_s else 0)

    @property
    def is_over(self) -> bool:
        return bool(self.at_ns) and time.monotonic_ns() >= self.at_ns


async def closed_loop(send: Send, source: Source, clients: int, until: Until) -> list[Sample]:
    """Each client sends its next request when its last one is answered."""
    samples: list[Sample] = []

    async def client(number: int) -> None:
        nth = 0
        while not until.is_over and (ask := await source.take()):
            sent = await send(ask, client=number, nth=nth)
            source.answered(ask, sent.text)
            samples.append(sent.sample)
            nth += 1
            if sent.sample.failure:
                await asyncio.sleep(_AFTER_FAILURE_S)

    async with asyncio.TaskGroup() as tasks:
        for number in range(clients):
            tasks.create_task(client(number), name=f"client-{number}")
    return samples


def arrivals_s(rate: float, key: str) -> Iterator[float]:
    """Times of arrival from the beginning on: a Poisson process of so many a second, the same for the same key."""
    draw, at_s = drawing(key, "arrivals"), 0.0
    while True:
        at_s += draw.expovariate(rate)
        yield at_s


async def open_loop(send: Send, source: Source, times_s: Iterator[float], until: Until) -> list[Sample]:
    """Each request is sent at its time, whatever has become of those before it."""
    samples: list[Sample] = []

    async def one(ask: Ask) -> None:
        sent = await send(ask)
        source.answered(ask, sent.text)
        samples.append(sent.sample)

    begin_ns = time.monotonic_ns()
    async with asyncio.TaskGroup() as tasks:
        while ask := await source.take():
            due_ns = begin_ns + int(next(times_s) * NS_PER_S)
            if until.at_ns and due_ns >= until.at_ns:
                break
            await asyncio.sleep((due_ns - time.monotonic_ns()) / NS_PER_S)
            tasks.create_task(one(ask), name="arrival")
    return samples


class _Streams:
    """Whether every client is in the middle of an answer."""

    def __init__(self, clients: int) -> None:
        self._heard = [0] * clients
        self._all_run = asyncio.Event()

    def hear(self, client: int, pieces: int = 1) -> None:
        self._heard[client] += pieces
        if min(self._heard) >= _RUNNING_PIECES:
            self._all_run.set()

    async def wait(self) -> None:
        """Returns when each has said a few more pieces, or has had an answer too short for that."""
        self._heard = [0] * len(self._heard)
        self._all_run.clear()
        await self._all_run.wait()


async def beside_streams(send: Send, streams: Source, long_prompts: Source, clients: int, until: Until) -> list[Sample]:
    """Long prompts, one after the other, each sent when all clients are in the middle of an answer; and the clients' answers.

    The clients go on with new requests until the last long prompt is answered.
    """
    samples: list[Sample] = []
    running = _Streams(clients)
    is_over = False

    async def client(number: int) -> None:
        nth = 0
        while not is_over and (ask := await streams.take()):
            sent = await send(ask, client=number, nth=nth, heard=lambda: running.hear(number))
            running.hear(number, _RUNNING_PIECES)
            samples.append(sent.sample)
            nth += 1
            if sent.sample.failure:
                await asyncio.sleep(_AFTER_FAILURE_S)

    async with asyncio.TaskGroup() as tasks:
        for number in range(clients):
            tasks.create_task(client(number), name=f"client-{number}")
        while not until.is_over and (ask := await long_prompts.take()):
            await running.wait()
            samples.append((await send(ask)).sample)
        is_over = True
    return samples
