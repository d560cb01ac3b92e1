"""The few asyncio pieces that are not in asyncio. The one place where tasks are made outside a TaskGroup."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
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


class Begun(Generic[T]):
    """Work that has run up to its first wait, or to its end, before anybody awaits it.

    So a loop can see whether more is there at once (`is_waiting` false) or flush what it holds before it waits. Must be
    awaited in the task that made it, also when that task has been cancelled in between: then `throw` the error in first.
    What the work raises on its way to the first wait is raised here.
    """

    def __init__(self, work: Awaitable[T]) -> None:
        self._steps = work.__await__()
        self._error: BaseException | None = None
        self.is_waiting = True
        try:
            self._waits_for: object = next(self._steps)
        except StopIteration as end:
            self._value: T = end.value
            self.is_waiting = False

    def throw(self, error: BaseException) -> "Begun[T]":
        """Ends the wait with this error as soon as it is awaited."""
        self._error = error
        return self

    def __await__(self) -> Generator[Any, Any, T]:
        resume: Callable[[], object] | None = partial(self._steps.throw, self._error) if self._error else None
        while self.is_waiting:
            if resume is None:
                try:
                    sent = yield self._waits_for
                except BaseException as exc:  # a cancellation, on its way to where the work waits
                    resume = partial(self._steps.throw, exc)
                else:
                    resume = partial(self._steps.send, sent)
            try:
                self._waits_for, resume = resume(), None
            except StopIteration as end:
                self._value, self.is_waiting = end.value, False
        return self._value
