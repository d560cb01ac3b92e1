"""Who is loaded: loads a model when a request wants it, lends its engine, and lets it go.

A model is loaded once, however many ask. `num_ctx` of a request is a limit inside the engine; the engine is replaced only
when a request needs more than it has, or names other hardware settings. Loading is a task of its own: requests for models
that are already loaded never wait behind it, and it goes on when the client that asked for it leaves.
When memory is short, the idle model with the least keep-alive left is evicted; when none is idle, the load waits.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import msgspec

from corral.core.aio import Background
from corral.core.clock import Clock, SystemClock
from corral.core.errors import EngineCrashedError, ModelLoadError
from corral.core.options import Options
from corral.core.settings import Settings
from corral.core.types import LoadSpec
from corral.core.units import FOREVER_S
from corral.engine import Engine, Launcher
from corral.sched.placement import DEFAULT_CONTEXT, DEFAULT_PARALLEL, Memory, SystemMemory, needed_bytes, padded_context
from corral.sched.queue import WaitingRoom
from corral.sched.runner import Runner
from corral.store import Model, ModelName

log: Final = logging.getLogger(__name__)


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
    """Made once per server. `aclose` ends every engine."""

    def __init__(
        self, launcher: Launcher, settings: Settings, *, clock: Clock | None = None, memory: Memory | None = None
    ) -> None:
        self._launcher = launcher
        self._settings = settings
        self._clock: Clock = clock or SystemClock()
        self._memory: Memory = memory or SystemMemory(lambda: launcher.has_gpu)
        self._runners: dict[ModelName, Runner] = {}
        self._leaving: set[Runner] = set()  # retired, and still finishing requests or closing
        self._room = WaitingRoom(settings.max_queue)
        self._background = Background(self._report)
        self._memory_freed = asyncio.Condition()
        self._placing = asyncio.Lock()  # one load at a time decides what to evict; loading itself is not under it

    @asynccontextmanager
    async def lease(
        self, model: Model, options: Options, *, keep_alive_s: float | None = None, client: str = ""
    ) -> AsyncIterator[Lease]:
        """The model's engine, loaded if need be, and a place on it.

        Raises QueueFullError when too many wait, ModelLoadError when it cannot be loaded.
        """
        began_ns = self._clock.monotonic_ns()
        num_ctx = self._context(model, options)
        runner = self._runner_for(model, options, num_ctx)
        runner.keep_alive_s = self._settings.keep_alive_s if keep_alive_s is None else keep_alive_s
        runner.hold()
        try:
            engine = await self._place_on(runner, client)
            try:
                yield Lease(engine, min(num_ctx, engine.info.n_ctx), self._clock.monotonic_ns() - began_ns)
            finally:
                runner.free_place()
        finally:
            if runner.drop():
                self._settle(runner)

    async def unload(self, name: ModelName) -> None:
        """Lets the model go as soon as nobody uses it; at once if nobody does."""
        if runner := self._runners.get(name):
            runner.keep_alive_s = 0.0
            if runner.is_idle:
                self._retire(runner)
                await runner.closed.wait()

    def running(self) -> list[Running]:
        """What is in memory, latest expiry first."""
        alive = [r for r in (*self._runners.values(), *self._leaving) if r.engine and r.engine.is_alive and r.state != "closed"]
        alive.sort(key=lambda r: r.remaining_s, reverse=True)
        return [self._describe(runner) for runner in alive]

    async def aclose(self) -> None:
        """Ends every load and every engine; requests still running fail with EngineCrashedError."""
        await self._background.aclose()
        runners = [*self._runners.values(), *self._leaving]
        self._runners.clear()
        self._leaving.clear()
        async with asyncio.TaskGroup() as tasks:
            for runner in runners:
                tasks.create_task(runner.aclose(), name=f"close {runner.model.name.short}")

    # Finding or making a runner

    def _context(self, model: Model, options: Options) -> int:
        trained = model.gguf.context_length or DEFAULT_CONTEXT
        wanted = options.num_ctx or self._settings.context_length or DEFAULT_CONTEXT
        return min(padded_context(wanted), padded_context(trained))

    def _runner_for(self, model: Model, options: Options, num_ctx: int) -> Runner:
        spec = self._spec(model, options, num_ctx)
        found = self._runners.get(model.name)
        if found and found.is_usable and found.model.digest == model.digest and _serves(found.spec, spec):
            return found
        if found:
            spec = _grown(found, model, spec)
            self._retire(found)
        need = needed_bytes(
            model.gguf, model.model_path.stat().st_size, n_ctx=spec.n_ctx, kv_cache_type=self._settings.kv_cache_type
        )
        runner = Runner(model, spec, need, clock=self._clock)
        self._runners[model.name] = runner
        self._background.start(self._load(runner), name=f"load {model.name.short}")
        return runner

    def _spec(self, model: Model, options: Options, num_ctx: int) -> LoadSpec:
        return LoadSpec(
            model_path=str(model.model_path),
            adapter_paths=tuple(map(str, model.adapter_paths)),
            n_ctx=num_ctx,
            n_parallel=self._settings.num_parallel or DEFAULT_PARALLEL,
            num_batch=options.num_batch,
            num_gpu=options.num_gpu,
            main_gpu=options.main_gpu,
            num_thread=options.num_thread,
            use_mmap=options.use_mmap,
            flash_attention=self._settings.flash_attention,
            kv_cache_type=self._settings.kv_cache_type,
        )

    async def _place_on(self, runner: Runner, client: str) -> Engine:
        if runner.engine and runner.try_place():
            return runner.engine
        self._room.enter()
        try:
            return await runner.take_place(client)
        finally:
            self._room.leave()

    # Loading

    async def _load(self, runner: Runner) -> None:
        name = runner.model.name.short
        began_ns = self._clock.monotonic_ns()
        try:
            await self._make_room(runner)
            runner.holds_memory = True
            engine = await self._launch(runner)
        except asyncio.CancelledError:
            self._forget(runner)
            runner.failed(EngineCrashedError())
            raise
        except (ModelLoadError, EngineCrashedError) as error:
            log.warning("model load failed", extra={"model": name, "error": str(error)})
            self._forget(runner)
            runner.failed(error)
            await self._announce_memory()
            return
        runner.loaded(engine)
        load_ms = (self._clock.monotonic_ns() - began_ns) // 1_000_000
        log.info("model loaded", extra={"model": name, "size_bytes": engine.info.size_bytes, "load_ms": load_ms})
        if not runner.users:
            self._settle(runner)

    async def _launch(self, runner: Runner) -> Engine:
        stall_s = self._settings.load_timeout_s
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout(None if stall_s == FOREVER_S else stall_s)
        try:
            async with limit:
                return await self._launcher.launch(
                    runner.spec, lambda _share: limit.reschedule(None if stall_s == FOREVER_S else loop.time() + stall_s)
                )
        except TimeoutError:
            raise ModelLoadError(
                f"loading {runner.model.name.short} made no progress for {stall_s:g} seconds and was given up; "
                "OLLAMA_LOAD_TIMEOUT sets how long to wait"
            ) from None

    async def _make_room(self, runner: Runner) -> None:
        """Waits for the memory this load needs, evicting idle models. Raises ModelLoadError where it can never be had."""
        async with self._placing:
            while not self._fits(runner):
                others = self._others(runner)
                most = self._free_bytes(others) + sum(r.need_bytes for r in others)
                if runner.need_bytes > most:
                    raise ModelLoadError(
                        f"model requires more system memory ({_gib(runner.need_bytes)}) than is available ({_gib(most)}); "
                        "use a smaller model or a smaller num_ctx, or free memory"
                    )
                idle = [r for r in others if r.is_idle and not r.is_retired]
                if idle:
                    self._retire(min(idle, key=lambda r: r.remaining_s))
                async with self._memory_freed:
                    if not self._fits(runner):
                        await self._memory_freed.wait()

    def _others(self, runner: Runner) -> list[Runner]:
        """Who else holds memory, or is about to."""
        return [r for r in (*self._runners.values(), *self._leaving) if r is not runner and r.holds_memory]

    def _fits(self, runner: Runner) -> bool:
        others = self._others(runner)
        if 0 < self._settings.max_loaded_models <= len(others):
            return False
        return runner.need_bytes <= self._free_bytes(others)

    def _free_bytes(self, others: Sequence[Runner]) -> int:
        loading = sum(r.need_bytes for r in others if r.state == "loading")
        free = self._memory.available_bytes() - loading
        if budget := self._settings.memory_budget_bytes:
            free = min(free, budget - sum(r.need_bytes for r in others))
        return free

    # Letting go

    def _settle(self, runner: Runner) -> None:
        """Nobody uses it now: keep it for its time, or let it go."""
        if runner.state != "ready":
            return
        if runner.is_retired or not runner.is_usable or runner.keep_alive_s <= 0:
            self._retire(runner)
        elif runner.keep_alive_s != FOREVER_S:
            runner.expire_with(self._clock.call_later(runner.keep_alive_s, lambda: self._expire(runner)))
        self._background.start(self._announce_memory(), name="announce memory")

    def _expire(self, runner: Runner) -> None:
        if not runner.users:
            self._retire(runner)

    def _retire(self, runner: Runner) -> None:
        """It takes no more requests and closes when the last one ends."""
        self._forget(runner)
        runner.is_retired = True
        self._leaving.add(runner)
        if not runner.users:
            self._background.start(self._close(runner), name=f"close {runner.model.name.short}")

    async def _close(self, runner: Runner) -> None:
        if runner.state == "loading":
            await asyncio.wait([runner.ready])
        if runner.users or runner.state == "closed":
            return
        await runner.aclose()
        self._leaving.discard(runner)
        log.info("model unloaded", extra={"model": runner.model.name.short})
        await self._announce_memory()

    def _forget(self, runner: Runner) -> None:
        if self._runners.get(runner.model.name) is runner:
            del self._runners[runner.model.name]

    async def _announce_memory(self) -> None:
        async with self._memory_freed:
            self._memory_freed.notify_all()

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


def _gib(size_bytes: int) -> str:
    return f"{max(size_bytes, 0) / (1 << 30):.1f} GiB"
