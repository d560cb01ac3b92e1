"""Tuning a model: its engine is loaded in several ways, one after the other, each is measured, and the best is kept.

A request for the model goes before: it is served as ever, and the tuning ends with a word of it. Nothing is stored before all
is measured, so that whatever ends a tuning leaves things as they were.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, TypeVar

import msgspec

from corral.core.aio import ThreadLimiter
from corral.core.clock import Clock, SystemClock
from corral.core.errors import BadRequestError, CapabilityError, ModelBusyError
from corral.core.options import Options
from corral.core.settings import Settings
from corral.core.tuning import Machine, Tuned, Tuning, placement_of
from corral.core.types import LoadSpec
from corral.core.units import NS_PER_S
from corral.sched import Scheduler, TunedModels, asked_for, untuned_spec
from corral.service.flights import Flights, Publish
from corral.service.lookup import ModelLookup
from corral.service.requests import Status
from corral.service.tuning.candidates import Candidate, candidates, combined
from corral.service.tuning.choosing import Compared, best_of_each, is_judged, measured, objection
from corral.service.tuning.contest import Contest
from corral.service.tuning.measuring import Bench
from corral.service.tuning.quiet import is_quiet
from corral.service.tuning.sizing import STREAMS, Pace, sized
from corral.store import Model, ModelName, Store, tuning_files
from corral.wire.tuning import Measured, Speeds, TuneReport

T = TypeVar("T")
MOST_ROUNDS: Final = 20
_MOST_BUDGET_S: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneRequest:
    model: str  # as the client spelled it
    rounds: int = 3
    budget_s: float = 180.0
    allow_lossy: bool = False  # settings may be chosen that change the model's answers
    dry_run: bool = False  # nothing is stored
    clear: bool = False  # what is stored is removed, and nothing measured


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneStatus(Status):
    """`total` and `completed` count measurements."""

    report: TuneReport | None = None


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What is chosen, and why that."""

    settings: Tuned
    gain: float
    why: str
    is_decided: bool = True  # False: nothing was compared, and what was chosen before holds


class TuneService:
    """One model at a time, as measurements beside each other tell nothing."""

    def __init__(
        self,
        store: Store,
        scheduler: Scheduler,
        tuned: TunedModels,
        settings: Settings,
        *,
        clock: Clock | None = None,
        is_quiet: Callable[[], Awaitable[bool]] = is_quiet,
    ) -> None:
        self._scheduler = scheduler
        self._tuned = tuned
        self._settings = settings
        self._clock: Clock = clock or SystemClock()
        self._threads = ThreadLimiter("corral-tune", 1)
        self._lookup = ModelLookup(store, self._threads)
        self._flights = Flights("tune")
        self._is_quiet = is_quiet
        self._is_busy = False

    def tune(self, request: TuneRequest) -> AbstractAsyncContextManager[AsyncIterator[Status]]:
        """The statuses of tuning a model, up to `success`, which has the report; joins an equal request that is under way.

        Raises BadRequestError for what is asked wrong at once; the iterator raises ModelNotFoundError, CapabilityError,
        ModelBusyError, EngineError and StoreError. Leaving the block ends it, unless another client still follows.
        """
        if not request.model:
            raise BadRequestError("model is required")
        if not 1 <= request.rounds <= MOST_ROUNDS:
            raise BadRequestError(f"rounds is {request.rounds}; it must be from 1 to {MOST_ROUNDS}")
        if not 0 < request.budget_s <= _MOST_BUDGET_S:
            raise BadRequestError(f"budget is {request.budget_s:g}; it must be seconds, more than 0 and at most a day")
        name = ModelName.parse(request.model)
        return self._flights.join((name.key, replace(request, model="")), lambda publish: self._run(request, publish))

    async def aclose(self) -> None:
        """Ends what is under way."""
        await self._flights.aclose()
        self._threads.close()

    async def _run(self, request: TuneRequest, publish: Publish) -> None:
        model = await self._lookup.find(request.model)
        if request.clear:
            is_removed = await self._tuned.remove(model)
            publish(TuneStatus(status="removed the tuned settings" if is_removed else "there were no tuned settings"))
            publish(TuneStatus(status="success"))
            return
        if model.gguf.pooling_type is not None:
            raise CapabilityError(f"{model.name.short} makes embeddings; tuning measures answers, and it gives none")
        if not tuning_files(model):
            raise BadRequestError(f"{model.name.short} lies in no store of models; create it with corral create first")
        if self._is_busy:
            raise ModelBusyError("a model is being tuned already; try again when that is done")
        self._is_busy = True
        try:
            report = await self._undisturbed(model, lambda: self._tune(model, request, publish))
        finally:
            self._is_busy = False
        publish(TuneStatus(status="success", report=report))

    async def _undisturbed(self, model: Model, work: Callable[[], Awaitable[T]]) -> T:
        """What the work gives. Raises ModelBusyError where the model is used, before or meanwhile."""
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout(None)

        def end() -> None:
            if not limit.expired():
                limit.reschedule(loop.time())

        try:
            async with limit:
                with self._scheduler.alone(model.name, end):
                    await self._scheduler.unload(model.name)
                    return await work()
        except TimeoutError as exc:
            if not limit.expired():
                raise
            raise ModelBusyError(
                f"a request for {model.name.short} came and went first; nothing was stored: try again when it is not in use"
            ) from exc

    async def _tune(self, model: Model, request: TuneRequest, publish: Publish) -> TuneReport:
        began_ns = self._clock.monotonic_ns()
        options = Options.resolve(model.parameters)
        base = _without_disk(untuned_spec(model, options, self._settings))
        machine = await self._tuned.machine()
        tried = [Candidate(), *candidates(base, machine, fixed=asked_for(options, self._settings))]
        bench = Bench(base.n_ctx, model.gguf.eos_token, self._clock)
        publish(TuneStatus(status=f"loading {model.name.short}"))
        pace, streams = await self._pace(model, base, bench)
        load, count = sized(
            pace, budget_s=request.budget_s, rounds=request.rounds, candidates=len(tried), num_ctx=base.n_ctx, streams=streams
        )

        async def measure(candidate: Candidate) -> Speeds:
            async with self._scheduler.trial(model, candidate.settings.applied(base)) as engine:
                return await bench.measure(engine, load)

        def contest(those: list[Candidate]) -> Contest:
            return Contest(
                those,
                load.rounds,
                measure,
                is_over=lambda: self._elapsed_s(began_ns) > request.budget_s,
                tell=lambda text, done, total: publish(TuneStatus(status=text, completed=done, total=total)),
                is_quiet=self._is_quiet,
            )

        first = contest(tried[:count])
        await first.run()
        final, outcome = await _decided(first, contest, allow_lossy=request.allow_lossy)
        is_stored = await self._stored(model, base, machine, outcome, request)
        results = [*_reported(first, tried), *(_reported(final, final.candidates[1:]) if final else ())]
        return TuneReport(
            model=model.name.short,
            machine=machine,
            load=load,
            results=results,
            chosen=outcome.settings,
            gain=round(outcome.gain, 3),
            why=outcome.why,
            is_stored=is_stored,
            is_disturbed=first.is_disturbed,
            elapsed_s=round(self._elapsed_s(began_ns), 1),
        )

    async def _pace(self, model: Model, base: LoadSpec, bench: Bench) -> tuple[Pace, int]:
        """How quick the default settings are, and how many answers they give at once, of those that are wanted."""
        began_ns = self._clock.monotonic_ns()
        async with self._scheduler.trial(model, base) as engine:
            load_s = self._elapsed_s(began_ns)
            prompt_per_s, answer_per_s = await bench.probe(engine)
            return Pace(load_s, prompt_per_s, answer_per_s), min(STREAMS, engine.info.n_parallel)

    async def _stored(self, model: Model, base: LoadSpec, machine: Machine, outcome: _Outcome, request: TuneRequest) -> bool:
        """Keeps what was chosen, or forgets an older choice where nothing was."""
        if request.dry_run or not outcome.is_decided:
            return False
        if not outcome.settings:
            await self._tuned.remove(model)
            return False
        tuning = Tuning(
            files=tuning_files(model),
            machine=machine,
            placement=placement_of(base),
            settings=outcome.settings,
            gain=round(outcome.gain, 3),
            measured_at=datetime.fromtimestamp(self._clock.unix_ns() / NS_PER_S, UTC).isoformat(timespec="seconds"),
        )
        await self._tuned.put(tuning)
        return True

    def _elapsed_s(self, began_ns: int) -> float:
        return (self._clock.monotonic_ns() - began_ns) / NS_PER_S


async def _decided(
    first: Contest, contest: Callable[[list[Candidate]], Contest], *, allow_lossy: bool
) -> tuple[Contest | None, _Outcome]:
    """The choice; of several settings that gain only where they gain together too, which a second contest tells."""
    if not first.is_decided:
        why = "the time was too short to compare anything; give it a larger budget"
        return None, _Outcome(Tuned(), 1.0, why, is_decided=False)
    found = first.found()
    chosen = best_of_each(found, allow_lossy=allow_lossy, is_disturbed=first.is_disturbed)
    if not chosen:
        return None, _Outcome(Tuned(), 1.0, "nothing gains more than noise over the default settings")
    best = found[chosen[0]]
    single = _Outcome(chosen[0].settings, best.score, f"it gains most{_span(best)}")
    if len(chosen) == 1:
        return None, single
    together = combined(chosen)
    second = contest([first.candidates[0], together])
    await second.run()
    both = second.found().get(together)
    if not second.is_decided or both is None or objection(both) or both.score < best.score:
        return second, replace(single, why=f"{single.why}; with the others it gains no more")
    return second, _Outcome(together.settings, both.score, f"together they gain most{_span(both)}")


def _without_disk(spec: LoadSpec) -> LoadSpec:
    """What an engine before it has read is not to be found there: it would be measured in place of this one."""
    return msgspec.structs.replace(spec, kv_dir="", kv_disk_bytes=0)


def _span(found: Compared) -> str:
    return f": {found.score:.2f} times the default's speed ({min(found.scores):.2f} to {max(found.scores):.2f} in the rounds)"


def _reported(contest: Contest, tried: Sequence[Candidate]) -> list[Measured]:
    found = contest.found()
    return [measured(one, found.get(one), _verdict(one, found.get(one), contest)) for one in tried]


def _verdict(candidate: Candidate, found: Compared | None, contest: Contest) -> str:
    if candidate in contest.failed:
        return f"failed: {contest.failed[candidate]}"
    if found is None:
        return "not measured: the time was over"
    if candidate is contest.candidates[0]:
        return ""
    if not is_judged(candidate, is_disturbed=contest.is_disturbed):
        return "not judged: other programs use the machine"
    against = objection(found)
    if not against and candidate.is_lossy:
        return "gains, and changes answers: to be allowed"
    return against or "gains"
