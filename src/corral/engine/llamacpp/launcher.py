"""Starts workers and loads models in them. One worker always stands by: started, native code in memory, no model yet."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from corral.core.aio import Background
from corral.core.errors import EngineCrashedError, ModelLoadError, ServerStoppingError
from corral.core.types import EngineInfo, LoadSpec
from corral.engine.api import ProgressCallback
from corral.engine.llamacpp.engine import LlamaCppEngine
from corral.engine.llamacpp.process import WorkerProcess
from corral.wire.link import FromWorker, Hello, Load, Loaded, LoadFailed, Progress

log: Final = logging.getLogger(__name__)
_REST_S: Final = 3.0  # between a load and the start of the next standby, which takes a core for a moment: answers come first


class _Standby:
    """A worker that is up, or will be: its Hello."""

    def __init__(self, worker: WorkerProcess) -> None:
        self.worker = worker
        self.hello: asyncio.Future[Hello] = asyncio.get_running_loop().create_future()
        worker.on_frame = self._take
        worker.on_death = self._die

    def _take(self, frame: FromWorker) -> None:
        if isinstance(frame, Hello) and not self.hello.done():
            self.hello.set_result(frame)

    def _die(self) -> None:
        if not self.hello.done():
            words = " ".join(list(self.worker.last_words)[-3:])
            self.hello.set_exception(ModelLoadError(f"the worker process could not start: {words or 'no reason given'}"))
            self.hello.exception()


class LlamaCppLauncher:
    """Meets corral.engine.Launcher. `aclose` ends the standby worker; loaded engines are their owners' to close.

    `start` begins a worker process, and may raise OSError.
    """

    def __init__(
        self, *, debug: bool = False, keeps_standby: bool = True, start: Callable[[], Awaitable[WorkerProcess]] | None = None
    ) -> None:
        self._start = start or partial(WorkerProcess.start, debug=debug)
        self._keeps_standby = keeps_standby
        self._standby: _Standby | None = None
        self._starting = asyncio.Lock()
        self._background = Background(lambda error: log.error("worker start failed", exc_info=error))
        self._hello: Hello | None = None
        self._is_closed = False

    @property
    def gpu_total_bytes(self) -> int:
        """Known once the first worker is up; 0 until then."""
        return self._hello.gpu_total_bytes if self._hello else 0

    async def devices(self) -> tuple[str, ...]:
        async with self._starting:
            standby = self._standby = await self._ready()
        return (await asyncio.shield(standby.hello)).devices

    async def launch(self, spec: LoadSpec, on_progress: ProgressCallback) -> LlamaCppEngine:
        async with self._starting:
            standby, self._standby = await self._ready(), None
        worker = standby.worker
        try:
            await asyncio.shield(standby.hello)  # a caller that is cancelled leaves it to the others who wait
            return await _load(worker, spec, on_progress)
        except BaseException:
            await worker.kill()
            raise
        finally:
            if self._keeps_standby and not self._is_closed:
                self._background.start(self._stand_by(), name="standby worker")

    async def aclose(self) -> None:
        """No worker is started from now on."""
        self._is_closed = True
        await self._background.aclose()
        async with self._starting:
            standby, self._standby = self._standby, None
        if standby:
            await standby.worker.aclose()

    async def _ready(self) -> _Standby:
        """The worker that stands by, or one that is being started. Raises ModelLoadError; ServerStoppingError once closed."""
        if self._is_closed:
            raise ServerStoppingError
        if self._standby and self._standby.worker.is_alive:
            return self._standby
        try:
            standby = _Standby(await self._start())
        except OSError as exc:
            raise ModelLoadError(f"no worker process can be started: {exc.strerror or exc}") from exc
        standby.hello.add_done_callback(self._note)
        return standby

    def _note(self, hello: "asyncio.Future[Hello]") -> None:
        if not hello.cancelled() and not hello.exception():
            self._hello = hello.result()

    async def _stand_by(self) -> None:
        await asyncio.sleep(_REST_S)
        async with self._starting:
            self._standby = await self._ready()


async def _load(worker: WorkerProcess, spec: LoadSpec, on_progress: ProgressCallback) -> LlamaCppEngine:
    done: asyncio.Future[EngineInfo] = asyncio.get_running_loop().create_future()

    def take(frame: FromWorker) -> None:
        match frame:
            case Progress() if not done.done():  # nobody waits for it any more when the load was given up
                on_progress(frame.share)
            case Loaded() if not done.done():
                done.set_result(frame.info)
            case LoadFailed() if not done.done():
                done.set_exception(ModelLoadError(frame.reason))

    def die() -> None:
        if not done.done():
            words = "; ".join(list(worker.last_words)[-3:])
            done.set_exception(
                ModelLoadError(f"the worker died while it loaded {spec.model_path}: {words or 'out of memory?'}")
            )

    worker.on_frame, worker.on_death = take, die
    if not worker.is_alive:
        die()
    worker.send(Load(spec))
    engine = LlamaCppEngine(worker, await done)
    if not worker.is_alive:
        raise EngineCrashedError
    return engine
