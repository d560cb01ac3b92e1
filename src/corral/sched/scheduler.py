"""Who is loaded: loads a model when a request wants it, lends its engine, and lets it go.

A model is loaded once, however many ask. `num_ctx` of a request is a limit inside the engine; the engine is replaced only
when a request needs more than it has, or names other hardware settings. Loading is a task of its own: requests for models
that are already loaded never wait behind it, and it goes on when the client that asked for it leaves.
When memory is short, the idle models with the least keep-alive left are evicted; where busy ones are in the way, the load
waits, and others that fit go ahead of it, but not for ever. A request that is refused changes nothing.
When the server stops nothing is begun any more, and whoever waits or loses its engine is told in one word, ServerStoppingError.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from corral.core.aio import Background
from corral.core.clock import Clock, SystemClock
from corral.core.errors import CorralError, EngineCrashedError, ModelLoadError, ServerStoppingError
from corral.core.options import Options
from corral.core.settings import Settings
from corral.core.types import LoadSpec
from corral.core.units import FOREVER_S, NS_PER_S
from corral.engine import Engine, Launcher, ProgressCallback, padded_context
from corral.sched.placement import (
    DEFAULT_CONTEXT,
    DEFAULT_PARALLEL,
    LEAST_CONTEXT_WITH_IMAGES,
    Memory,
    Placement,
    SystemMemory,
    needed_bytes,
)
from corral.sched.queue import Line, WaitingRoom
from corral.sched.runner import Runner
from corral.store import Model, ModelName

log: Final = logging.getLogger(__name__)
T = TypeVar("T")
_PATIENCE_S: Final = 10.0  # that a load waits for busy models to become idle


@dataclass(frozen=True, slots=True)
class Lease:
    """An engine, and one place on it, for the length of a block."""

    engine: Engine
    num_ctx: int  # tokens this request may use
    load_ns: int  # waited for the model and for the place


@dataclass(frozen=True, slots=True)
class Running:
    """A model in memory, as `ps` shows it."""

    model: Model
    size_bytes: int
    vram_bytes: int
    n_ctx: int
    expires_unix_ns: int | None  # None: never
    is_stopping: bool


class Scheduler:
    """Made once per server. `close` takes no more requests, `aclose` ends every engine too."""

    def __init__(
        self, launcher: Launcher, settings: Settings, *, clock: Clock | None = None, memory: Memory | None = None
    ) -> None:
        self._launcher = launcher
        self._settings = settings
        self._clock: Clock = clock or SystemClock()
        self._placement = Placement(memory or SystemMemory(lambda: launcher.gpu_total_bytes), settings)
        self._runners: dict[ModelName, Runner] = {}
        self._leaving: set[Runner] = set()  # retired, and still loading, finishing requests or closing
        self._waiting = WaitingRoom(settings.max_queue)
        self._lines: list[Line] = []
        self._is_closing = False
        self._background = Background(self._report)
        self._memory_news = asyncio.Event()  # set once, and replaced by the next one, whenever memory may have become free

    @asynccontextmanager
    async def lease(
        self, model: Model, options: Options, *, keep_alive_s: float | None = None, client: str = ""
    ) -> AsyncIterator[Lease]:
        """The model's engine, loaded if need be, and a place on it.

        Raises QueueFullError when too many wait, ModelLoadError when it cannot be loaded, ServerStoppingError when the server
        stops, also instead of an EngineCrashedError in the block.
        """
        if self._is_closing:
            raise ServerStoppingError
        began_ns = self._clock.monotonic_ns()
        wanted = self._spec(model, options)
        keep_s = self._settings.keep_alive_s if keep_alive_s is None else keep_alive_s
        runner = await self._take_place(model, wanted, keep_s, client)
        try:
            engine = runner.ready.result()
            yield Lease(engine, min(wanted.n_ctx, engine.info.n_ctx), self._clock.monotonic_ns() - began_ns)
        except EngineCrashedError as exc:
            if self._is_closing:
                raise ServerStoppingError from exc
            raise
        finally:
            runner.free_place()
            self._drop(runner)

    def line(self, places: int) -> Line:
        """Places for some work before a lease; who waits for one counts among those who wait in this server."""
        line = Line(self._waiting, places)
        if self._is_closing:
            line.close()
        self._lines.append(line)
        return line

    async def unload(self, name: ModelName) -> None:
        """Lets the model go as soon as nobody uses it; at once if nobody does."""
        if runner := self._runners.get(name):
            runner.keep_alive_s = 0.0
            if runner.is_idle:
                self._retire(runner)
                await runner.closed.wait()

    def running(self) -> list[Running]:
        """What is in memory, latest expiry first."""
        alive = [r for r in (*self._runners.values(), *self._leaving) if r.engine and r.engine.is_alive and r.state == "ready"]
        alive.sort(key=lambda r: r.remaining_s, reverse=True)
        return [self._describe(runner) for runner in alive]

    def close(self) -> None:
        """Takes no more requests, and refuses those that wait for a place; those that have one go on."""
        self._is_closing = True
        for line in self._lines:
            line.close()
        for runner in (*self._runners.values(), *self._leaving):
            runner.refuse()

    async def aclose(self) -> None:
        """Closes, and ends every load and every engine; requests still running fail. Safe to call twice."""
        self.close()
        await self._background.aclose()
        async with asyncio.TaskGroup() as tasks:
            for runner in (*self._runners.values(), *self._leaving):
                tasks.create_task(self._end(runner), name=f"close {runner.model.name.short}")

    # Finding or making a runner

    async def _take_place(self, model: Model, wanted: LoadSpec, keep_alive_s: float, client: str) -> Runner:
        """A runner that serves what is wanted, with a hold and a place on it."""
        found = self._find(model, wanted)
        if found and found.try_place():
            found.hold(keep_alive_s)
            return found
        self._waiting.enter()  # refuses before anything is changed
        try:
            runner = found or self._replace(model, wanted)
            runner.hold(keep_alive_s)
            try:
                await runner.take_place(client)
            except BaseException:
                self._drop(runner)
                raise
            return runner
        finally:
            self._waiting.leave()

    def _find(self, model: Model, wanted: LoadSpec) -> Runner | None:
        found = self._runners.get(model.name)
        if found and found.is_usable and found.model.digest == model.digest and _serves(found.spec, wanted):
            return found
        return None

    def _replace(self, model: Model, wanted: LoadSpec) -> Runner:
        """Begins to load the model as wanted. What its name had until now takes no more requests."""
        old = self._runners.get(model.name)
        runner = Runner(model, _grown(old, model, wanted) if old else wanted, clock=self._clock)
        if old:
            self._retire(old)
        self._runners[model.name] = runner
        self._background.start(self._load(runner), name=f"load {model.name.short}")
        return runner

    def _spec(self, model: Model, options: Options) -> LoadSpec:
        trained = model.gguf.context_length or DEFAULT_CONTEXT
        wanted = options.num_ctx or self._settings.context_length or DEFAULT_CONTEXT
        if model.projector_paths:
            wanted = max(wanted, LEAST_CONTEXT_WITH_IMAGES)
        return LoadSpec(
            model_path=str(model.model_path),
            adapter_paths=tuple(map(str, model.adapter_paths)),
            projector_paths=tuple(map(str, model.projector_paths)),
            n_ctx=min(padded_context(wanted), padded_context(trained)),
            n_parallel=self._settings.num_parallel or DEFAULT_PARALLEL,
            num_batch=options.num_batch,
            num_gpu=options.num_gpu,
            main_gpu=options.main_gpu,
            num_thread=options.num_thread,
            use_mmap=options.use_mmap,
            flash_attention=self._settings.flash_attention,
            kv_cache_type=self._settings.kv_cache_type,
        )

    # Loading

    async def _load(self, runner: Runner) -> None:
        """Sees a load to its end, whatever that is: the runner is ready or has failed when this returns."""
        name = runner.model.name.short
        began_ns = self._clock.monotonic_ns()
        try:
            engine = await self._launched(runner)
        except asyncio.CancelledError:
            self._give_up(runner, ServerStoppingError())
            raise
        except (ModelLoadError, ServerStoppingError) as error:
            log.warning("model load failed", extra={"model": name, "error": str(error)})
            self._give_up(runner, error)
        except Exception as error:  # the supervisor of loads: whoever waits for this one is told, whatever went wrong
            log.exception("model load failed", extra={"model": name})
            self._give_up(runner, _as_load_error(error, name))
        else:
            engine.on_change = self._announce_memory
            runner.loaded(engine)
            load_ms = (self._clock.monotonic_ns() - began_ns) // 1_000_000
            log.info("model loaded", extra={"model": name, "size_bytes": engine.info.size_bytes, "load_ms": load_ms})
            self._announce_memory()  # it may have taken less than was thought
            if not runner.users:
                self._settle(runner)

    async def _launched(self, runner: Runner) -> Engine:
        await self._unless_stalled(runner, lambda _tell: self._launcher.devices())  # its GPUs are known then
        model, spec = runner.model, runner.spec
        runner.estimated_bytes = needed_bytes(
            model.gguf,
            model.model_path.stat().st_size,
            n_ctx=spec.n_ctx,
            kv_cache_type=spec.kv_cache_type,
            projector_bytes=sum(path.stat().st_size for path in model.projector_paths),
        )
        await self._make_room(runner)
        spec = msgspec.structs.replace(spec, limit_bytes=self._placement.limit_bytes(runner, self._others(runner)))
        return await self._unless_stalled(runner, lambda tell: self._launcher.launch(spec, tell))

    async def _unless_stalled(self, runner: Runner, work: Callable[[ProgressCallback], Awaitable[T]]) -> T:
        """What the work gives. Raises ModelLoadError when it has told of no progress for too long."""
        stall_s = self._settings.load_timeout_s
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout(None if stall_s == FOREVER_S else stall_s)

        def tell(_share: float) -> None:
            if limit.when() is not None and not limit.expired():
                limit.reschedule(loop.time() + stall_s)

        try:
            async with limit:
                return await work(tell)
        except TimeoutError as exc:
            if not limit.expired():
                raise
            raise ModelLoadError(
                f"loading {runner.model.name.short} made no progress for {stall_s:g} seconds and was given up; "
                "OLLAMA_LOAD_TIMEOUT sets how long to wait"
            ) from exc

    async def _make_room(self, runner: Runner) -> None:
        """Waits for the memory this load needs, evicting idle models. Raises ModelLoadError where it can never be had.

        A model that new requests keep busy all the time would make it wait for ever: after a while such a one takes no more
        of them, ends those it has, and goes.
        """
        began_ns = self._clock.monotonic_ns()
        timer = self._clock.call_later(_PATIENCE_S, self._announce_memory)
        try:
            while not self._placement.fits(runner, others := self._others(runner)):
                is_patient = self._clock.monotonic_ns() - began_ns < _PATIENCE_S * NS_PER_S
                for other in self._placement.in_the_way(runner, others, spares_busy=is_patient):
                    self._retire(other)
                await self._memory_news.wait()
        finally:
            timer.cancel()
        runner.holds_memory = True  # nothing was awaited since it fitted: nobody else has taken that room
        self._share_out()

    def _others(self, runner: Runner) -> list[Runner]:
        """Who else holds memory, or is about to."""
        return [r for r in (*self._runners.values(), *self._leaving) if r is not runner and r.holds_memory]

    def _give_up(self, runner: Runner, error: Exception) -> None:
        self._forget(runner)
        self._leaving.discard(runner)
        runner.failed(error)
        self._announce_memory()

    # Letting go

    def _drop(self, runner: Runner) -> None:
        if runner.drop():
            self._settle(runner)

    def _settle(self, runner: Runner) -> None:
        """Nobody uses it now: keep it for its time, or let it go."""
        if runner.state != "ready" or self._is_closing:
            return
        if runner.is_retired or not runner.is_usable or runner.keep_alive_s <= 0:
            self._retire(runner)
        elif runner.keep_alive_s != FOREVER_S:
            runner.expire_with(self._clock.call_later(runner.keep_alive_s, lambda: self._expire(runner)))
        self._announce_memory()

    def _expire(self, runner: Runner) -> None:
        if not runner.users:
            self._retire(runner)

    def _retire(self, runner: Runner) -> None:
        """It takes no more requests and closes when the last one ends."""
        self._forget(runner)
        runner.is_retired = True
        self._leaving.add(runner)
        if not runner.users and not self._is_closing:
            self._background.start(self._close(runner), name=f"close {runner.model.name.short}")

    async def _close(self, runner: Runner) -> None:
        if runner.state == "loading":
            await asyncio.wait([runner.ready])
        if runner.users or runner.state != "ready":
            return
        await self._end(runner)
        log.info("model unloaded", extra={"model": runner.model.name.short})

    async def _end(self, runner: Runner) -> None:
        """Closes its engine. What goes wrong is told to the log: it concerns nobody else."""
        try:
            await runner.aclose()
        except Exception:
            log.exception("engine did not close as it should", extra={"model": runner.model.name.short})
        self._forget(runner)
        self._leaving.discard(runner)
        self._announce_memory()

    def _forget(self, runner: Runner) -> None:
        if self._runners.get(runner.model.name) is runner:
            del self._runners[runner.model.name]

    def _announce_memory(self) -> None:
        """Every load that waits looks again, in the order in which they came."""
        self._memory_news.set()
        self._memory_news = asyncio.Event()
        self._share_out()

    def _share_out(self) -> None:
        """Tells every engine what it may grow to."""
        for runner in (*self._runners.values(), *self._leaving):
            if runner.engine:
                runner.engine.set_limit(self._placement.limit_bytes(runner, self._others(runner)))

    def _describe(self, runner: Runner) -> Running:
        assert runner.engine is not None
        info = runner.engine.info
        return Running(
            model=runner.model,
            size_bytes=info.size_bytes,
            vram_bytes=info.vram_bytes,
            n_ctx=info.n_ctx,
            expires_unix_ns=runner.expires_unix_ns,
            is_stopping=runner.is_retired or runner.remaining_s <= 0,
        )

    def _report(self, error: BaseException) -> None:
        log.error("scheduler task failed", exc_info=error)


def _serves(have: LoadSpec, want: LoadSpec) -> bool:
    """Can an engine loaded as `have` serve a request that wants `want`?"""
    return have.n_ctx >= want.n_ctx and msgspec.structs.replace(have, n_ctx=want.n_ctx) == want


def _grown(found: Runner, model: Model, spec: LoadSpec) -> LoadSpec:
    """A replacement never has a smaller context than what it replaces: the others who use the model would grow it again."""
    if found.model.digest != model.digest or found.spec.n_ctx <= spec.n_ctx:
        return spec
    return msgspec.structs.replace(spec, n_ctx=found.spec.n_ctx)


def _as_load_error(error: Exception, name: str) -> ModelLoadError:
    if isinstance(error, CorralError):
        return ModelLoadError(str(error))
    return ModelLoadError(f"{name} cannot be loaded: {type(error).__name__}{f': {error}' if str(error) else ''}")
