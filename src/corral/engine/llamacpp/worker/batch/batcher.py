"""Continuous batching: which tokens the next engine step computes, and what comes of it.

A job joins and leaves between steps. Each step takes one token of every job that is drawing, and fills up with pieces of
prompts: all of the batch while nobody draws, else only so many that the others' gap between tokens stays short.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Container, Sequence
from typing import Final, Generic, Protocol, TypeVar

from corral.core.errors import BadRequestError, CorralError, EngineError
from corral.core.types import FinishReason, Job, TokenLogprob
from corral.engine.llamacpp.worker.batch.drawing import Drawing, Draws
from corral.engine.llamacpp.worker.batch.filling import Filling
from corral.engine.llamacpp.worker.batch.generation import STUCK, Generation
from corral.engine.llamacpp.worker.batch.memory import KvContext
from corral.engine.llamacpp.worker.batch.preparing import Guides, Preparing
from corral.engine.llamacpp.worker.batch.showing import RowContext, Showing
from corral.engine.llamacpp.worker.batch.slots import Place, SlotTable
from corral.wire.link import Frame, Gain, JobFailed, Overflow, StepFrame

_GAP_S: Final = 0.08  # a prompt may make running streams wait about this long per step
_LEAST_CHUNK: Final = 32  # tokens of prompts in a step, at least
_LEARN: Final = 0.3  # weight of the newest measurement of speed
_FILLER: Final = 0  # a token, any token
_LOOK_S: Final = 0.01  # that it waits for an image while there is nothing else to do; then it looks who was cancelled
_RUN: Final = (
    64  # tokens that an answer was made to say go into one step with its next draw; more of them are read like a prompt
)
_ANSWER_ROOM: Final = 256  # tokens of an answer that room is made for when its job begins; more when it needs more


class BatchContext(KvContext, RowContext, Protocol):
    """What a batcher needs of a llama.cpp context. Where its logits are is a matter between it and what draws from them."""

    def add(self, sequence: int, tokens: Sequence[int], position: int, *, wants_logits: bool = False) -> int: ...
    def decode(self) -> None: ...
    def shift(self, sequence: int, begin: int, end: int, used: int) -> bool: ...


C = TypeVar("C", bound=BatchContext)


class Words(Protocol):
    """The vocabulary, as far as a batcher needs it."""

    adds_bos: bool
    size: int  # token ids are below it

    def tokenize(self, text: str, *, add_special: bool) -> list[int]: ...
    def infill(self, before: str, after: str, *, add_special: bool) -> list[int] | None: ...
    def piece(self, token: int) -> bytes: ...
    def spelled(self, token: int) -> bytes: ...
    def ends(self, token: int) -> bool: ...


class Fills(Protocol):
    """Decides whether a step is filled up with tokens of idle slots: filling.py."""

    def wanted(self, running: int, gaps: int) -> int: ...
    def is_worth_it(self, running: int, gaps: int) -> bool: ...
    def learn(self, running: int, gaps: int, elapsed_s: float, *, is_filled: bool) -> None: ...


class Batcher(Generic[C]):
    """Owns the jobs. `make_sampler` makes what draws a job's tokens; `most` jobs run at once, the others wait in order."""

    def __init__(
        self,
        slots: SlotTable[C],
        words: Words,
        make_sampler: Callable[[Job], Draws[C]],
        guides: Guides,
        *,
        most: int,
        num_batch: int,
        filling: Fills | None = None,
        showing: Showing | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slots = slots
        self._words = words
        self._make_sampler = make_sampler
        self._most = most
        self._num_batch = num_batch
        self._now_s = now_s
        self._preparing = Preparing(guides)
        self._waiting: deque[Generation] = deque()
        self._running: OrderedDict[int, Generation] = OrderedDict()
        self._samplers: dict[int, Draws[C]] = {}
        self._tokens_per_s = 0.0  # of prompts, as measured
        self._filling: Fills = filling or Filling()
        self._drawing: Drawing[C] = Drawing(words, self._shift)
        self._showing = showing or Showing()
        self._has_computed = False  # anything, in this step

    @property
    def has_work(self) -> bool:
        return bool(self._running or self._waiting or self._preparing or self._showing.has_work)

    def submit(self, job_id: int, job: Job) -> Frame | None:
        """Takes a job; gives the frame that refuses it, where it cannot be done."""
        for token in job.prefix_tokens:
            if not 0 <= token < self._words.size:
                reason = f"the context has a token {token}, and the model has none of that number"
                return JobFailed(job_id, reason, is_asked_wrong=True)
        if job.media:
            return self._showing.submit(job_id, job)
        try:
            own = self._own_tokens(job)
        except EngineError as error:
            return JobFailed(job_id, str(error))
        if own is None:
            return JobFailed(job_id, "the model has no tokens to ask for what goes before a suffix", is_asked_wrong=True)
        return self._wait(Generation(job_id, job, [*job.prefix_tokens, *own]))

    def _wait(self, generation: Generation) -> Frame | None:
        """Lets it wait for its turn, where it can have one."""
        if generation.prompt_tokens >= generation.job.num_ctx:
            self._showing.drop(generation.job_id)
            return Overflow(generation.job_id, generation.prompt_tokens, generation.job.num_ctx)
        if not generation.prompt_tokens:
            return JobFailed(generation.job_id, "the prompt has no tokens", is_asked_wrong=True)
        if not self._preparing.add(generation):
            self._waiting.append(generation)
        return None

    def _take_shown(self) -> list[Frame]:
        """Those whose images have been read wait for their turn, too."""
        outcomes = [each if isinstance(each, JobFailed) else self._wait(each) for each in self._showing.fetch()]
        return [frame for frame in outcomes if frame]

    def _own_tokens(self, job: Job) -> list[int] | None:
        """What comes after the prefix; None where the model cannot ask for it."""
        begins_text = not job.prefix_tokens
        if job.suffix:
            return self._words.infill(job.prompt, job.suffix, add_special=begins_text)
        return self._words.tokenize(job.prompt, add_special=begins_text)

    def cancel(self, job_id: int) -> None:
        """The job leaves before the next step; what it computed stays parked."""
        self._preparing.cancel(job_id)
        self._showing.drop(job_id)
        for generation in self._waiting:
            if generation.job_id == job_id:
                self._waiting.remove(generation)
                return
        if running := self._running.get(job_id):
            self._leave(running)

    def step(self) -> list[Frame]:
        """One engine step: admits who waits, computes one batch, and gives what there is to tell."""
        self._has_computed = False
        frames = [*self._take_shown(), *self._admit()]
        gains = self._end_those_without_answer()
        frames += self._make_room()
        frames += self._fail_unseen()
        if self._running:
            try:
                gains += self._compute(frames)
                self._show()
            except EngineError as error:
                frames += self._fail(list(self._running.values()), str(error))
        if not self._has_computed and not frames:
            self._showing.wait(_LOOK_S)
        return [StepFrame(gains), *frames] if gains else frames

    # Joining and leaving

    def _admit(self) -> list[Frame]:
        """Lets jobs join in their order; one that waits for a beginning that another computes keeps its turn."""
        frames: list[Frame] = []
        if self._preparing:
            ready, failed = self._preparing.take(waits=not self._running and not self._waiting)
            self._waiting += ready
            frames += failed
            for frame in failed:
                self._showing.drop(frame.job_id)
        if not self._waiting:
            self._slots.forget_copies()
            return frames
        passed: list[Generation] = []
        self._slots.expect(min(self._most, len(self._running) + len(self._waiting)))
        while self._waiting and len(self._running) < self._most:
            generation = self._waiting.popleft()
            try:
                place = self._slots.place(generation.tokens, room=self._room(generation), spans=generation.spans)
            except EngineError as error:
                self._showing.drop(generation.job_id)
                frames.append(JobFailed(generation.job_id, str(error)))
                continue
            if place is None:
                passed.append(generation)
            else:
                self._begin(generation, place)
        self._waiting.extendleft(reversed(passed))
        if not self._waiting:
            self._slots.forget_copies()
        self._notice_losses()
        return frames

    def _begin(self, generation: Generation, place: Place) -> None:
        generation.begin(place.slot, place.reused)
        sampler = self._make_sampler(generation.job)
        sampler.see(generation.tokens)
        self._samplers[generation.job_id] = sampler
        self._running[generation.job_id] = generation
        self._showing.begin(generation)

    def _room(self, generation: Generation) -> int:
        """Cells for the prompt and the beginning of its answer."""
        return min(generation.job.num_ctx, generation.prompt_tokens + min(generation.limit, _ANSWER_ROOM))

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
        self._showing.drop(generation.job_id)
        self._samplers.pop(generation.job_id).close()
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

    def _compute(self, frames: list[Frame]) -> list[Gain]:
        """Gives the gains of those who drew; what else there is to tell goes to `frames`."""
        context = self._slots.context
        ready, ahead = self._ready()
        is_reading = len(ready) < len(self._running)
        gaps = self._slots.gaps
        fillers = {} if is_reading or ahead else self._fillers(gaps)
        drawing: list[tuple[Generation, int]] = []
        for slot in sorted([*ready, *fillers]):  # in order: only neighbours are computed together
            if generation := ready.get(slot):
                begin = generation.computed
                index = context.add(slot, generation.tokens[begin:], generation.position, wants_logits=True)
                drawing.append((generation, index))
            else:
                context.add(slot, [_FILLER], fillers[slot], wants_logits=True)
        chunk = self._add_prompts(context, ready, ahead) if is_reading else 0
        began_s = self._now_s()
        try:
            context.decode()
        finally:
            if fillers:
                self._slots.drop_fillers(fillers)
        self._has_computed = bool(drawing or chunk)  # else all of them wait for images
        if chunk:
            self._learn(chunk + len(drawing) + ahead, self._now_s() - began_s)
        elif not ahead:
            self._filling.learn(len(drawing), gaps, self._now_s() - began_s, is_filled=bool(fillers))
        gains: list[Gain] = []
        for generation, index in drawing:
            generation.computed = len(generation.tokens)
            try:
                gain = self._draw(context, generation, index)
            except CorralError as error:
                frames.append(self._give_up(generation, str(error), is_asked_wrong=isinstance(error, BadRequestError)))
                continue
            if gain:
                gains.append(gain)
            if generation.is_stuck and generation.job_id in self._running:
                frames.append(self._give_up(generation, STUCK))
        return gains

    def _show(self) -> None:
        """Computes a part of what a job shows, where one has got so far."""
        found = self._showing.next(self._running.values())
        if not found:
            return
        generation, rows = found
        is_shared = any(not other.missing for other in self._running.values())
        began_s = self._now_s()
        size = self._showing.compute(self._slots.context, generation, rows, self._budget(is_shared=is_shared))
        self._learn(size, self._now_s() - began_s)
        generation.computed += size
        self._slots.computed(generation.slot, generation.computed)
        self._has_computed = True

    def _ready(self) -> tuple[dict[int, Generation], int]:
        """Who draws in this step, by slot, and how many tokens they were made to say before their last ones."""
        ready: dict[int, Generation] = {}
        ahead, left = 0, self._num_batch
        for generation in self._running.values():
            missing = len(generation.tokens) - generation.computed - 1
            if missing:
                is_made_to_say = generation.drawn and missing == generation.missing_text
                if not is_made_to_say or missing > _RUN or missing > left - ahead:
                    continue
                ahead += missing
            ready[generation.slot] = generation
        return ready, ahead

    def _fillers(self, gaps: int) -> dict[int, int]:
        """Idle slots that make this step of drawing jobs quicker, with the positions of their tokens."""
        running = len(self._running)
        extra = self._filling.wanted(running, gaps)
        if not extra or not self._filling.is_worth_it(running, gaps):
            return {}
        return self._slots.fillers(extra)

    def _add_prompts(self, context: C, ready: Container[int], ahead: int) -> int:
        """Puts pieces of prompts into the batch, in equal shares, what a short one leaves for the longer ones."""
        reading = [g for g in self._running.values() if g.slot not in ready and g.missing_text]
        reading.sort(key=lambda g: g.missing)
        left = budget = min(self._budget(is_shared=bool(ready)), self._num_batch - ahead)
        for index, generation in enumerate(reading):
            size = min(generation.missing_text, left // (len(reading) - index))
            if not size:
                continue
            begin = generation.computed
            context.add(generation.slot, generation.tokens[begin : begin + size], generation.position)
            generation.computed += size
            self._slots.computed(generation.slot, generation.computed)
            left -= size
        return budget - left

    def _budget(self, *, is_shared: bool) -> int:
        if not is_shared or not self._tokens_per_s:
            return self._num_batch
        return min(self._num_batch, max(_LEAST_CHUNK, int(self._tokens_per_s * _GAP_S)))

    def _learn(self, tokens: int, elapsed_s: float) -> None:
        speed = tokens / max(elapsed_s, 1e-6)
        self._tokens_per_s = speed if not self._tokens_per_s else (1 - _LEARN) * self._tokens_per_s + _LEARN * speed

    def _draw(self, context: C, generation: Generation, index: int) -> Gain | None:
        shown, reason, logprobs = self._drawing.draw(context, generation, self._samplers[generation.job_id], index)
        if reason:
            return self._end(generation, shown, reason, logprobs)
        self._slots.computed(generation.slot, generation.computed)
        return Gain(generation.job_id, shown, None, logprobs, generation.tell_begun()) if shown or logprobs else None

    def _shift(self, generation: Generation) -> bool:
        """Makes room in a full context by dropping the older half of what need not be kept."""
        if not generation.job.shift or generation.spans:  # a span that was cut would show half of an image
            return False
        keep = generation.kept_at_front(adds_bos=self._words.adds_bos)
        gone = (generation.computed - keep) // 2
        if gone <= 0 or not self._slots.context.shift(generation.slot, keep, keep + gone, generation.computed):
            return False
        generation.drop(keep, keep + gone)
        self._slots.spoil(generation.slot)
        return True
