"""Starts workers and loads models in them. One worker always stands by: started, native code in memory, no model yet."""

import asyncio
import logging
from typing import Final

from corral.core.aio import Background
from corral.core.errors import CorralError, EngineCrashedError, EngineError, ModelLoadError
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
            self.hello.set_exception(EngineError(f"the worker process could not start: {words or 'no reason given'}"))
            self.hello.exception()


class LlamaCppLauncher:
    """Meets corral.engine.Launcher. `aclose` ends the standby worker; loaded engines are their owners' to close."""

    def __init__(self, *, debug: bool = False, keeps_standby: bool = True) -> None:
        self._debug = debug
        self._keeps_standby = keeps_standby
        self._standby: _Standby | None = None
        self._starting = asyncio.Lock()
        self._background = Background(lambda error: log.error("worker start failed", exc_info=error))
        self._hello: Hello | None = None

    @property
    def has_gpu(self) -> bool:
        """Known once the first worker is up; false until then."""
        return self._hello is not None and self._hello.has_gpu

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
            info = await _load(worker, spec, on_progress)
            engine = LlamaCppEngine(worker, info)
            if not worker.is_alive:
                raise EngineCrashedError
        except CorralError:
            await worker.aclose()
            raise
        except asyncio.CancelledError:
            await worker.kill()
            await worker.aclose()
            raise
        finally:
            if self._keeps_standby:
                self._background.start(self._stand_by(), name="standby worker")
        return engine

    async def aclose(self) -> None:
        await self._background.aclose()
        if self._standby:
            await self._standby.worker.aclose()
            self._standby = None

    async def _ready(self) -> _Standby:
        if self._standby and self._standby.worker.is_alive:
            return self._standby
        standby = _Standby(await WorkerProcess.start(debug=self._debug))
        standby.hello.add_done_callback(self._note)
        return standby

    def _note(self, hello: "asyncio.Future[Hello]") -> None:
        if not hello.cancelled() and not hello.exception():
            self._hello = hello.result()

    async def _stand_by(self) -> None:
        await asyncio.sleep(_REST_S)
        async with self._starting:
            self._standby = await self._ready()


async def _load(worker: WorkerProcess, spec: LoadSpec, on_progress: ProgressCallback) -> EngineInfo:
    done: asyncio.Future[EngineInfo] = asyncio.get_running_loop().create_future()

    def take(frame: FromWorker) -> None:
        match frame:
            case Progress():
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
        raise EngineCrashedError
    worker.send(Load(spec))
    return await done
