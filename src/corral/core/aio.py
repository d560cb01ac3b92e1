"""The few asyncio pieces that are not in asyncio. The one place where tasks are made outside a TaskGroup."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import ParamSpec, TypeVar

from corral.core.errors import ServerStoppingError

T = TypeVar("T")
P = ParamSpec("P")


class ThreadLimiter:
    """A named, bounded pool of threads for one kind of blocking work. When all are busy, callers wait in order."""

    def __init__(self, name: str, max_threads: int) -> None:
        self._pool = ThreadPoolExecutor(max_threads, thread_name_prefix=name)
        self._is_closed = False

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `work`. A cancelled caller leaves at once; work that has begun runs to its end.

        Raises ServerStoppingError where the pool is closed before it has begun.
        """
        if self._is_closed:
            raise ServerStoppingError
        future = self._pool.submit(lambda: work(*args, **kwargs))
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._is_closed and future.cancelled() and task and not task.cancelling():  # by `close`, not by the caller's end
                raise ServerStoppingError from None
            raise

    def close(self) -> None:
        self._is_closed = True
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
        """Cancels what still runs, and what that starts in its last moments, and waits for it."""
        while self._tasks:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
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


async def to_its_end(work: Coroutine[object, object, T], *, name: str) -> T:
    """The result of `work`, which is not cancelled with its caller: a cancelled caller leaves once it is done."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # else asyncio complains that nobody asked for it
        raise
