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
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

import msgspec

from corral.core.aio import Background
from corral.core.clock import Clock, SystemClock
from corral.core.errors import CorralError, EngineCrashedError, ModelBusyError, ModelLoadError, ServerStoppingError
from corral.core.options import Options
from corral.core.settings import Settings
from corral.core.tuning import placement_of
from corral.core.types import LoadSpec
from corral.core.units import FOREVER_S, NS_PER_S
from corral.engine import Engine, Launcher
from corral.sched.patience import Patience
from corral.sched.placement import Memory, Placement, SystemMemory, needed_bytes
from corral.sched.queue import Line, Place, WaitingRoom
from corral.sched.runner import Runner
from corral.sched.specs import asked_for, no_smaller, serves, untuned_spec
from corral.sched.tuned import TunedModels
from corral.store import Model, ModelName

log: Final = logging.getLogger(__name__)
_PATIENCE_S: Final = 10.0  # that a load waits for busy models to become idle


@dataclass(frozen=True, slots=True)
class Lease:
    """An engine, and one place on it, for the length of a block."""

    engine: Engine
    num_ctx: int  # tokens this request may use
    load_ns: int  # waited for the model and for the place
    place: Place  # it is told there what the request cost


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
        self,
        launcher: Launcher,
        settings: Settings,
        *,
        clock: Clock | None = None,
        memory: Memory | None = None,
        tuned: TunedModels | None = None,
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
        self._tuned = tuned
        self._told_of_requests: dict[ModelName, Callable[[], None]] = {}
        self._background = Background(self._report)
        self._memory_news = asyncio.Event()  # set once, and replaced by the next one, whenever memory may have become free

    @asynccontextmanager
    async def lease(
        self, model: Model, options: Options, *, keep_alive_s: float | None = None, client: str = "", priority: int = 0
    ) -> AsyncIterator[Lease]:
        """The model's engine, loaded if need be, and a place on it. Of those who wait, lower priorities go first.

        Raises QueueFullError when too many wait, ModelLoadError when it cannot be loaded, ServerStoppingError when the server
        stops, also instead of an EngineCrashedError in the block.
        """
        if self._is_closing:
            raise ServerStoppingError
        began_ns = self._clock.monotonic_ns()
        wanted = await self._wanted(model, options)
        if self._is_closing:
            raise ServerStoppingError
        if told := self._told_of_requests.get(model.name):
            told()  # nothing is awaited from here until a runner is held: who is alone from now on sees its user
        keep_s = self._settings.keep_alive_s if keep_alive_s is None else keep_alive_s
        runner, place = await self._take_place(model, wanted, keep_s, client, priority)
        try:
            engine = runner.ready.result()
            yield Lease(engine, min(wanted.n_ctx, engine.info.n_ctx), self._clock.monotonic_ns() - began_ns, place)
        except EngineCrashedError as exc:
            if self._is_closing:
                raise ServerStoppingError from exc
            raise
        finally:
            runner.free_place(place)
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

    @contextmanager
    def alone(self, name: ModelName, on_request: Callable[[], None]) -> Iterator[None]:
        """A block in which nobody uses the model; `on_request` is called when a request for it comes, which is served.

        Raises ModelBusyError where somebody uses it already.
        """
        others = [r for r in (*self._runners.values(), *self._leaving) if r.model.name == name and r.users]
        if others or name in self._told_of_requests:
            raise ModelBusyError(f"{name.short} is in use; try again when no request for it runs or waits")
        self._told_of_requests[name] = on_request
        try:
            yield
        finally:
            del self._told_of_requests[name]

    @asynccontextmanager
    async def trial(self, model: Model, spec: LoadSpec) -> AsyncIterator[Engine]:
        """An engine that no request gets, loaded as `spec` says, for the length of the block. Raises as `lease`."""
        if self._is_closing:
            raise ServerStoppingError
        runner = Runner(model, spec, clock=self._clock)
        runner.is_retired = True
        runner.hold(0.0)
        self._leaving.add(runner)
        try:
            engine = await self._launched(runner)
            engine.on_change = self._announce_memory
            runner.loaded(engine)
            self._announce_memory()
            yield engine
        finally:
            runner.drop()  # whoever is cancelled again while it closes leaves, and it closes all the same
            await asyncio.shield(self._background.start(self._end(runner), name=f"close {model.name.short}"))

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

    async def _take_place(
        self, model: Model, wanted: LoadSpec, keep_alive_s: float, client: str, priority: int
    ) -> tuple[Runner, Place]:
        """A runner that serves what is wanted, with a hold and a place on it."""
        found = self._find(model, wanted)
        if found and (free := found.try_place(client, priority)):
            found.hold(keep_alive_s)
            return found, free
        self._waiting.enter(client)  # refuses before anything is changed
        try:
            runner = found or self._replace(model, wanted)
            runner.hold(keep_alive_s)
            try:
                place = await runner.take_place(client, priority)
            except BaseException:
                self._drop(runner)
                raise
            return runner, place
        finally:
            self._waiting.leave(client)

    def _find(self, model: Model, wanted: LoadSpec) -> Runner | None:
        found = self._runners.get(model.name)
        if found and found.is_usable and found.model.digest == model.digest and serves(found.spec, wanted):
            return found
        return None

    def _replace(self, model: Model, wanted: LoadSpec) -> Runner:
        """Begins to load the model as wanted. What its name had until now takes no more requests."""
        old = self._runners.get(model.name)
        if old and old.model.digest == model.digest:
            wanted = no_smaller(wanted, old.spec)
        runner = Runner(model, wanted, clock=self._clock)
        if old:
            self._retire(old)
        self._runners[model.name] = runner
        self._background.start(self._load(runner), name=f"load {model.name.short}")
        return runner

    async def _wanted(self, model: Model, options: Options) -> LoadSpec:
        """With what was measured to be best for the model, where nobody has chosen otherwise."""
        spec = untuned_spec(model, options, self._settings)
        if self._tuned is None:
            return spec
        tuned = await self._tuned.settings(model, placement_of(spec))
        return tuned.applied(spec, keeps=asked_for(options, self._settings))

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
            told = {"model": name, "size_bytes": engine.info.size_bytes, "load_ms": load_ms}
            log.info("model loaded", extra=told | self._tuned_in(runner))
            self._announce_memory()  # it may have taken less than was thought
            if not runner.users:
                self._settle(runner)

    def _tuned_in(self, runner: Runner) -> dict[str, str]:
        """For the log: the measured settings that it is loaded with."""
        settings = self._tuned.known(runner.model) if self._tuned else None
        return {"tuned": str(settings)} if settings and settings.applied(runner.spec) == runner.spec else {}

    async def _launched(self, runner: Runner) -> Engine:
        model, spec = runner.model, runner.spec
        patience = Patience(model.name.short, self._settings.load_timeout_s)
        await patience.run(lambda _tell: self._launcher.devices())  # its GPUs are known then
        runner.estimated_bytes = needed_bytes(
            model.gguf,
            model.model_path.stat().st_size,
            n_ctx=spec.n_ctx,
            kv_cache_type=spec.kv_cache_type,
            projector_bytes=sum(path.stat().st_size for path in model.projector_paths),
        )
        await self._make_room(runner)
        spec = msgspec.structs.replace(spec, limit_bytes=self._placement.limit_bytes(runner, self._others(runner)))
        return await patience.run(lambda tell: self._launcher.launch(spec, tell))

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


def _as_load_error(error: Exception, name: str) -> ModelLoadError:
    if isinstance(error, CorralError):
        return ModelLoadError(str(error))
    return ModelLoadError(f"{name} cannot be loaded: {type(error).__name__}{f': {error}' if str(error) else ''}")
