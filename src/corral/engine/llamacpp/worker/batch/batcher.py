"""Continuous batching: which jobs run, and what comes of each step.

A job joins and leaves between steps. Those that run are computed together, but for jobs with other scales of the model's
adapters: such groups take turns.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import Final, Generic, Protocol, TypeVar

from corral.core.errors import BadRequestError, CorralError, EngineError
from corral.core.types import FinishReason, Job, TokenLogprob
from corral.engine.llamacpp.worker.batch import intake
from corral.engine.llamacpp.worker.batch.drawing import Drawing, Draws
from corral.engine.llamacpp.worker.batch.filling import Filling
from corral.engine.llamacpp.worker.batch.generation import STUCK, Generation
from corral.engine.llamacpp.worker.batch.intake import Intake
from corral.engine.llamacpp.worker.batch.place import Delay, Place
from corral.engine.llamacpp.worker.batch.preparing import Guides
from corral.engine.llamacpp.worker.batch.showing import Showing
from corral.engine.llamacpp.worker.batch.slots import SlotTable
from corral.engine.llamacpp.worker.batch.stepping import BatchContext, Fills, Plans, Stepping
from corral.engine.llamacpp.worker.batch.turns import Turns
from corral.engine.llamacpp.worker.batch.waiting import Waiting
from corral.engine.llamacpp.worker.speculation.speculation import Speculation
from corral.engine.llamacpp.worker.texts import Reads, Texts
from corral.wire.link import Frame, Gain, JobFailed, StepFrame

_LOOK_S: Final = 0.01  # that it waits for an image while there is nothing else to do; then it looks who was cancelled
_STALL_S: Final = 0.04  # that those who draw may wait for others to join, with all that is saved and restored for them
_ANSWER_ROOM: Final = 256  # tokens of an answer that room is made for when its job begins; more when it needs more

C = TypeVar("C", bound=BatchContext)


class Words(intake.Words, Protocol):
    """The vocabulary, as far as a batcher needs it."""

    adds_bos: bool

    def piece(self, token: int) -> bytes: ...
    def spelled(self, token: int) -> bytes: ...
    def ends(self, token: int) -> bool: ...


class Batcher(Generic[C]):
    """Owns the jobs. `make_sampler` makes what draws a job's tokens; `most` jobs run at once, the others wait their turn."""

    def __init__(
        self,
        slots: SlotTable[C],
        words: Words,
        make_sampler: Callable[[Job], Draws[C]],
        guides: Guides,
        *,
        most: int,
        num_batch: int,
        adapters: int = 0,
        filling: Fills | None = None,
        speculation: Plans | None = None,
        showing: Showing | None = None,
        texts: Reads | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slots = slots
        self._words = words
        self._make_sampler = make_sampler
        self._most = most
        self._now_s = now_s
        self._showing = showing or Showing()
        self._intake = Intake(words, guides, self._showing, texts or Texts(), adapters=adapters)
        self._waiting = Waiting()
        self._running: OrderedDict[int, Generation] = OrderedDict()
        self._samplers: dict[int, Draws[C]] = {}
        self._turns = Turns(now_s)
        speculation = speculation or Speculation(is_off=not slots.can_drop)
        self._stepping = Stepping(slots, self._showing, filling or Filling(), speculation, num_batch=num_batch, now_s=now_s)
        self._drawing: Drawing[C] = Drawing(words, self._shift)

    @property
    def has_work(self) -> bool:
        return bool(self._running or self._waiting or self._intake.has_work)

    def submit(self, job_id: int, job: Job) -> Frame | None:
        """Takes a job; gives the frame that refuses it, where it cannot be done."""
        return self._intake.submit(job_id, job)

    def cancel(self, job_id: int) -> None:
        """The job leaves before the next step; what it computed stays parked."""
        self._intake.cancel(job_id)
        if waiting := next((g for g in self._waiting if g.job_id == job_id), None):
            self._drop_waiting(waiting)
        if running := self._running.get(job_id):
            self._leave(running)

    def step(self) -> list[Frame]:
        """One engine step: admits who waits, computes one batch, and gives what there is to tell."""
        frames = self._admit()
        gains = self._end_those_without_answer()
        frames += self._make_room()
        frames += self._fail_unseen()
        has_computed = False
        for group, others in self._groups():
            try:
                has_computed = self._compute(group, others, gains, frames)
            except EngineError as error:
                frames += self._fail([g for g in group if g.job_id in self._running], str(error))
            if has_computed:
                break
        if not has_computed and not frames:
            self._wait_a_moment()
        return [StepFrame(gains), *frames] if gains else frames

    def _wait_a_moment(self) -> None:
        """For what is being read or encoded, as there is nothing to compute."""
        if self._is_reading:
            assert self._slots.below
            self._slots.below.wait(_LOOK_S)
        else:
            self._showing.wait(_LOOK_S)

    @property
    def _is_reading(self) -> bool:
        """A job that waits may be waiting for what it can reuse to come from disk."""
        return self._slots.below is not None and self._slots.below.is_reading

    # Joining and leaving

    def _admit(self) -> list[Frame]:
        """Lets jobs join whose turn it is; one that waits for a beginning that another computes keeps its turn."""
        frames: list[Frame] = []
        if self._intake.has_work:
            ready, frames = self._intake.take(waits=not self._running and not self._waiting)
            for each in ready:
                self._waiting.add(each)
        self._waiting.drop_lifts()
        if not self._waiting:
            self._slots.forget_copies()
            return frames
        passed: set[int] = set()
        self._slots.expect(min(self._most, len(self._running) + len(self._waiting)))
        until_s = self._now_s() + _STALL_S if any(not g.missing for g in self._running.values()) else math.inf
        while self._now_s() < until_s and (generation := self._waiting.next(passed)):
            try:
                place = self._place(generation)
            except EngineError as error:
                self._drop_waiting(generation)
                frames.append(JobFailed(generation.job_id, str(error)))
                continue
            if isinstance(place, Delay):
                passed.add(generation.job_id)
            else:
                self._begin(generation, place)
        if not self._waiting:
            self._slots.forget_copies()
        self._notice_losses()
        return frames

    def _place(self, generation: Generation) -> Place | Delay:
        """A slot for it, which another may have to leave; or why it is to wait."""
        tokens, spans, kind = generation.tokens, generation.spans, generation.scales
        room, running = self._room(generation), self._running.values()
        is_full = len(running) >= self._most
        found = Delay.FULL if is_full else self._slots.place(tokens, room=room, spans=spans, kind=kind)
        if isinstance(found, Place) or found is Delay.COMING:
            return found
        if awaited := self._slots.awaited(tokens, spans=spans, kind=kind):
            self._waiting.lift(generation, awaited, running)
            return Delay.AWAITED
        self._notice_losses()
        victim = self._waiting.victim(generation, running) if found is Delay.FULL else None
        if victim is None:
            return found
        if is_full and self._slots.is_coming(tokens, spans=spans, kind=kind):
            return Delay.COMING
        self._displace(victim)
        return self._slots.place(tokens, room=room, spans=spans, kind=kind)

    def _displace(self, generation: Generation) -> None:
        """Its place is for another one now. Its sampler and guide stay as they are, and its tokens in memory, if they can."""
        del self._running[generation.job_id]
        self._turns.leave(generation.scales)
        done = generation.tokens[: generation.computed]
        self._slots.park(generation.slot, done, prompt_tokens=generation.prompt_tokens)
        generation.is_displaced = True
        self._waiting.add(generation)

    def _drop_waiting(self, generation: Generation) -> None:
        """It is not to run any more."""
        self._waiting.remove(generation)
        if generation.is_displaced:
            self._waiting.leave(generation)
        self._showing.drop(generation.job_id)
        if sampler := self._samplers.pop(generation.job_id, None):
            sampler.close()

    def _begin(self, generation: Generation, place: Place) -> None:
        self._waiting.take(generation, place.reused)
        if generation.is_displaced:
            generation.go_on(place.slot, place.reused)
        else:
            generation.begin(place.slot, place.reused)
            generation.marks.extend(place.marks)
            sampler = self._make_sampler(generation.job)
            sampler.see(generation.tokens)
            self._samplers[generation.job_id] = sampler
        self._running[generation.job_id] = generation
        self._turns.join(generation.scales)
        self._showing.begin(generation)

    def _room(self, generation: Generation) -> int:
        """Cells for the prompt and the beginning of its answer."""
        wanted = generation.prompt_tokens + min(generation.limit, _ANSWER_ROOM)
        return min(generation.job.num_ctx, max(wanted, len(generation.tokens)))

    def _make_room(self) -> list[Frame]:
        """Keeps the running jobs' slots together, and large enough for their next tokens."""
        if moved := self._slots.gather():
            old, new = moved
            next(g for g in self._running.values() if g.slot == old).slot = new
        most = max([len(g.tokens) for g in self._running.values()], default=0)
        frames: list[Frame] = []
        try:
            self._slots.reserve(most)
        except EngineError as error:
            cells = self._slots.context.cells
            frames = self._fail([g for g in self._running.values() if len(g.tokens) > cells], str(error))
        self._notice_losses()
        return frames

    def _notice_losses(self) -> None:
        """A sequence that was lost when memory grew is computed again."""
        for generation in self._running.values():
            generation.computed = min(generation.computed, self._slots.held(generation.slot))

    def _end_those_without_answer(self) -> list[Gain]:
        ended = [g for g in self._running.values() if not g.limit and not g.missing]
        return [self._end(generation, "", "length") for generation in ended]

    def _leave(self, generation: Generation) -> None:
        del self._running[generation.job_id]
        self._turns.leave(generation.scales)
        self._waiting.leave(generation)
        self._showing.drop(generation.job_id)
        self._samplers.pop(generation.job_id).close()
        try:
            self._stepping.forget_draft(generation)
        except EngineError:
            self._slots.spoil(generation.slot)
        done = generation.tokens[: generation.computed]
        self._slots.park(generation.slot, done, prompt_tokens=generation.prompt_tokens)

    def _end(self, generation: Generation, shown: str, reason: FinishReason, logprobs: tuple[TokenLogprob, ...] = ()) -> Gain:
        self._leave(generation)
        return Gain(generation.job_id, shown, generation.finish(reason), logprobs, generation.tell_begun())

    def _fail(self, generations: Sequence[Generation], reason: str) -> list[Frame]:
        """These jobs cannot go on, and what they have computed is not to be trusted."""
        for generation in generations:
            self._slots.spoil(generation.slot)
            self._leave(generation)
        return [JobFailed(generation.job_id, reason) for generation in generations]

    def _fail_unseen(self) -> list[Frame]:
        """Ends the jobs whose images could not be encoded. What they have computed is sound."""
        failed = self._showing.failed(list(self._running.values()))
        for generation, _ in failed:
            self._leave(generation)
        return [frame for _, frame in failed]

    def _give_up(self, generation: Generation, reason: str, *, is_asked_wrong: bool = False) -> Frame:
        """It cannot go on; what it has computed is sound."""
        self._leave(generation)
        return JobFailed(generation.job_id, reason, is_asked_wrong)

    # Computing

    def _groups(self) -> list[tuple[Collection[Generation], Sequence[Generation]]]:
        """The jobs that may be computed now, and those that wait meanwhile; whose turn it is first."""
        jobs = self._running.values()
        if not self._turns.is_mixed:
            return [(jobs, ())] if jobs else []
        groups = ([g for g in jobs if g.scales == scales] for scales in self._turns.order())
        return [(group, [g for g in jobs if g.scales != group[0].scales]) for group in groups]

    def _compute(
        self, group: Collection[Generation], others: Sequence[Generation], gains: list[Gain], frames: list[Frame]
    ) -> bool:
        """Adds the gains of those who drew, and what else there is to tell; false where nothing was computed."""
        drawing, has_computed = self._stepping.compute(group, others)
        self._take_checkpoints(group)
        context = self._slots.context
        for generation, index in drawing:
            try:
                self._draw_on(context, generation, index, gains)
            except CorralError as error:
                frames.append(self._give_up(generation, str(error), is_asked_wrong=isinstance(error, BadRequestError)))
                continue
            if generation.is_stuck and generation.job_id in self._running:
                frames.append(self._give_up(generation, STUCK))
        return self._stepping.show(group, others) or has_computed

    def _draw_on(self, context: C, generation: Generation, index: int, gains: list[Gain]) -> None:
        """Draws from the logits of that index, and from those that follow as long as the draft is what the answer says."""
        first = index - generation.computed
        while True:
            begin = len(generation.tokens)
            if gain := self._draw(context, generation, first + generation.computed):
                gains.append(gain)
            if generation.job_id not in self._running:
                return
            if not generation.draft or not generation.confirm(begin) or generation.is_stuck:
                break
        self._stepping.forget_draft(generation)
        self._slots.computed(generation.slot, generation.computed)

    def _draw(self, context: C, generation: Generation, index: int) -> Gain | None:
        shown, reason, logprobs = self._drawing.draw(context, generation, self._samplers[generation.job_id], index)
        if reason:
            return self._end(generation, shown, reason, logprobs)
        return Gain(generation.job_id, shown, None, logprobs, generation.tell_begun()) if shown or logprobs else None

    def _take_checkpoints(self, group: Collection[Generation]) -> None:
        for generation in group:
            if generation.marks and generation.pass_mark():
                self._slots.checkpoint(generation.slot, generation.tokens[: generation.computed])

    def _shift(self, generation: Generation) -> bool:
        """Makes room in a full context by dropping the older half of what need not be kept."""
        if not generation.job.shift or generation.spans:  # a span that was cut would show half of an image
            return False
        self._stepping.forget_draft(generation)
        keep = generation.kept_at_front(adds_bos=self._words.adds_bos)
        gone = (generation.computed - keep) // 2
        if gone <= 0 or not self._slots.context.shift(generation.slot, keep, keep + gone, generation.computed):
            return False
        generation.drop(keep, keep + gone)
        generation.is_shifted = True
        self._slots.spoil(generation.slot)
        return True
