"""The few asyncio pieces that are not in asyncio. The one place where tasks are made outside a TaskGroup."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Generic, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


class ThreadLimiter:
    """A named, bounded pool of threads for one kind of blocking work. When all are busy, callers wait in order."""

    def __init__(self, name: str, max_threads: int) -> None:
        self._pool = ThreadPoolExecutor(max_threads, thread_name_prefix=name)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `work`. A cancelled caller leaves at once; work that has begun runs to its end."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: work(*args, **kwargs))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class Background:
    """Tasks that outlive the request that starts them, held and heard until their owner closes.

    A task that fails ends in `on_error`, never in silence.
    """

    def __init__(self, on_error: Callable[[BaseException], None]) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._on_error = on_error

    def start(self, work: Coroutine[object, object, None], *, name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._on_error(error)

    async def aclose(self) -> None:
        """Cancels what still runs and waits for it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


@asynccontextmanager
async def cancelling(work: Coroutine[object, object, T], *, name: str) -> AsyncIterator["asyncio.Task[T]"]:
    """Runs `work` beside the block and cancels it, if it is not done, when the block ends."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    try:
        yield task
    finally:
        if not task.done():
            task.cancel()
        await asyncio.wait([task])


def begin(work: Awaitable[T]) -> "Begun[T] | Ready[T]":
    """Runs the work up to its first wait, or to its end, before anybody awaits it; raises what it raises on the way there.

    So a loop can see whether more is there at once, or flush what it holds before it waits. A Begun must be awaited in the
    task that made it, once; if that task has been cancelled in between, with the cancellation `thrown` in.
    """
    steps = work.__await__()
    try:
        return Begun(steps, next(steps))
    except StopIteration as end:
        return Ready(end.value)


class Ready(Generic[T]):
    """Work that has ended without a wait."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value


class Begun(Generic[T]):
    """Work that waits for something."""

    __slots__ = ("_steps", "_waits_for")

    def __init__(self, steps: Generator[Any, Any, T], waits_for: object) -> None:
        self._steps = steps
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, T]:
        try:
            yield self._waits_for
        except BaseException as exc:  # noqa: BLE001  thrown on to where the work waits: a cancellation, above all
            return (yield from self._thrown(exc))
        return (yield from self._steps)

    def _thrown(self, error: BaseException) -> Generator[Any, Any, T]:
        try:
            waits_for = self._steps.throw(error)
        except StopIteration as end:
            value: T = end.value
            return value
        return (yield from Begun(self._steps, waits_for).__await__())

    async def thrown(self, error: BaseException) -> T:
        """Ends the wait with this error and awaits the rest."""
        return await _Awaited(self._thrown(error))


class _Awaited(Generic[T]):
    def __init__(self, steps: Generator[Any, Any, T]) -> None:
        self._steps = steps

    def __await__(self) -> Generator[Any, Any, T]:
        return self._steps
