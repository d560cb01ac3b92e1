"""Continuous batching: which tokens the next engine step computes, and what comes of it.

A job joins and leaves between steps. Each step takes one token of every job that is drawing, and fills up with pieces of
prompts: all of the batch while nobody draws, else only so many that the others' gap between tokens stays short.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

from corral.core.errors import EngineError
from corral.core.types import FinishReason, Job, TokenChance, TokenLogprob
from corral.engine.llamacpp.filling import Filling
from corral.engine.llamacpp.generation import STUCK, Generation
from corral.engine.llamacpp.memory import KvContext
from corral.engine.llamacpp.slots import Place, SlotTable
from corral.wire.link import Frame, Gain, JobFailed, Overflow, StepFrame

_GAP_S: Final = 0.08  # a prompt may make running streams wait about this long per step
_LEAST_CHUNK: Final = 32  # tokens of prompts in a step, at least
_LEARN: Final = 0.3  # weight of the newest measurement of speed
_FILLER: Final = 0  # a token, any token
_ANSWER_ROOM: Final = 256  # tokens of an answer that room is made for when its job begins; more when it needs more


class BatchContext(KvContext, Protocol):
    """What a batcher needs of a llama.cpp context. Where its logits are is a matter between it and what draws from them."""

    def add(self, sequence: int, tokens: Sequence[int], position: int, *, wants_logits: bool = False) -> int: ...
    def decode(self) -> None: ...
    def shift(self, sequence: int, begin: int, end: int, used: int) -> bool: ...


C = TypeVar("C", bound=BatchContext)
DrawnFrom = TypeVar("DrawnFrom", contravariant=True)


class Draws(Protocol[DrawnFrom]):
    def see(self, prompt: list[int]) -> None: ...
    def draw(self, context: DrawnFrom, index: int) -> int: ...
    def chances(self, context: DrawnFrom, index: int, token: int, top: int) -> tuple[float, list[tuple[int, float]]]: ...
    def close(self) -> None: ...


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
        *,
        most: int,
        num_batch: int,
        filling: Fills | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slots = slots
        self._words = words
        self._make_sampler = make_sampler
        self._most = most
        self._num_batch = num_batch
        self._now_s = now_s
        self._waiting: deque[Generation] = deque()
        self._running: OrderedDict[int, Generation] = OrderedDict()
        self._samplers: dict[int, Draws[C]] = {}
        self._tokens_per_s = 0.0  # of prompts, as measured
        self._filling: Fills = filling or Filling()

    @property
    def has_work(self) -> bool:
        return bool(self._waiting or self._running)

    def submit(self, job_id: int, job: Job) -> Frame | None:
        """Takes a job; gives the frame that refuses it, where it cannot be done."""
        for token in job.prefix_tokens:
            if not 0 <= token < self._words.size:
                reason = f"the context has a token {token}, and the model has none of that number"
                return JobFailed(job_id, reason, is_asked_wrong=True)
        try:
            own = self._own_tokens(job)
        except EngineError as error:
            return JobFailed(job_id, str(error))
        if own is None:
            return JobFailed(job_id, "the model has no tokens to ask for what goes before a suffix", is_asked_wrong=True)
        tokens = [*job.prefix_tokens, *own]
        if len(tokens) >= job.num_ctx:
            return Overflow(job_id, len(tokens), job.num_ctx)
        if not tokens:
            return JobFailed(job_id, "the prompt has no tokens", is_asked_wrong=True)
        self._waiting.append(Generation(job_id, job, tokens))
        return None

    def _own_tokens(self, job: Job) -> list[int] | None:
        """What comes after the prefix; None where the model cannot ask for it."""
        begins_text = not job.prefix_tokens
        if job.suffix:
            return self._words.infill(job.prompt, job.suffix, add_special=begins_text)
        return self._words.tokenize(job.prompt, add_special=begins_text)

    def cancel(self, job_id: int) -> None:
        """The job leaves before the next step; what it computed stays parked."""
        for generation in self._waiting:
            if generation.job_id == job_id:
                self._waiting.remove(generation)
                return
        if running := self._running.get(job_id):
            self._leave(running)

    def step(self) -> list[Frame]:
        """One engine step: admits who waits, computes one batch, and gives what there is to tell."""
        frames = self._admit()
        gains = self._end_those_without_answer()
        frames += self._make_room()
        if self._running:
            try:
                gains += self._compute()
            except EngineError as error:
                frames += self._fail(list(self._running.values()), str(error))
        frames += self._give_up_stuck()
        return [StepFrame(gains), *frames] if gains else frames

    # Joining and leaving

    def _admit(self) -> list[Frame]:
        """Lets jobs join in their order; one that waits for a beginning that another computes keeps its turn."""
        if not self._waiting:
            self._slots.forget_copies()
            return []
        frames: list[Frame] = []
        passed: list[Generation] = []
        self._slots.expect(min(self._most, len(self._running) + len(self._waiting)))
        while self._waiting and len(self._running) < self._most:
            generation = self._waiting.popleft()
            try:
                place = self._slots.place(generation.tokens, room=self._room(generation))
            except EngineError as error:
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

    def _room(self, generation: Generation) -> int:
        """Cells for the prompt and the beginning of its answer."""
        return min(generation.job.num_ctx, generation.prompt_tokens + min(generation.limit, _ANSWER_ROOM))

    def _make_room(self) -> list[Frame]:
        """Keeps the running jobs' slots together, and large enough for their next tokens."""
        if moved := self._slots.gather():
            old, new = moved
            next(g for g in self._running.values() if g.slot == old).slot = new
        most = max((g.computed for g in self._running.values()), default=0)
        frames: list[Frame] = []
        try:
            self._slots.reserve(most + 1)
        except EngineError as error:
            cells = self._slots.context.cells
            frames = self._fail([g for g in self._running.values() if g.computed >= cells], str(error))
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
        self._samplers.pop(generation.job_id).close()
        done = generation.tokens[: generation.computed]
        self._slots.park(generation.slot, done, prompt_tokens=generation.prompt_tokens)

    def _end(self, generation: Generation, shown: str, reason: FinishReason, logprobs: tuple[TokenLogprob, ...] = ()) -> Gain:
        self._leave(generation)
        return Gain(generation.job_id, shown, generation.finish(reason), logprobs)

    def _fail(self, generations: Sequence[Generation], reason: str) -> list[Frame]:
        """These jobs cannot go on, and what they have computed is not to be trusted."""
        for generation in generations:
            self._slots.spoil(generation.slot)
            self._leave(generation)
        return [JobFailed(generation.job_id, reason) for generation in generations]

    def _give_up_stuck(self) -> list[Frame]:
        """Ends the answers that say one token for ever. What they have computed is sound."""
        stuck = [generation for generation in self._running.values() if generation.is_stuck]
        for generation in stuck:
            self._leave(generation)
        return [JobFailed(generation.job_id, STUCK) for generation in stuck]

    # Computing

    def _compute(self) -> list[Gain]:
        context = self._slots.context
        ready = {g.slot: g for g in self._running.values() if not g.missing}
        is_reading = len(ready) < len(self._running)
        gaps = self._slots.gaps
        fillers = {} if is_reading else self._fillers(gaps)
        drawing: list[tuple[Generation, int]] = []
        for slot in sorted([*ready, *fillers]):  # in order: only neighbours are computed together
            if generation := ready.get(slot):
                index = context.add(slot, generation.tokens[-1:], generation.computed, wants_logits=True)
                drawing.append((generation, index))
            else:
                context.add(slot, [_FILLER], fillers[slot], wants_logits=True)
        chunk = self._add_prompts(context, is_shared=bool(drawing))
        began_s = self._now_s()
        try:
            context.decode()
        finally:
            self._slots.drop_fillers(fillers)
        if chunk:
            self._learn(chunk + len(drawing), self._now_s() - began_s)
        else:
            self._filling.learn(len(drawing), gaps, self._now_s() - began_s, is_filled=bool(fillers))
        gains: list[Gain] = []
        for generation, index in drawing:
            generation.computed += 1
            sampler = self._samplers[generation.job_id]
            token = sampler.draw(context, index)
            logprobs = self._logprobs(sampler, context, index, token, generation.job.logprobs)
            if gain := self._draw(generation, token, logprobs):
                gains.append(gain)
        return gains

    def _logprobs(self, sampler: Draws[C], context: C, index: int, token: int, top: int) -> tuple[TokenLogprob, ...]:
        """How likely the drawn token was, and which others; nothing for the token that ends an answer, which nobody sees."""
        if top < 0 or self._words.ends(token):
            return ()
        logprob, likeliest = sampler.chances(context, index, token, top)
        chances = tuple(TokenChance(self._words.spelled(other), value) for other, value in likeliest)
        return (TokenLogprob(self._words.spelled(token), logprob, chances),)

    def _fillers(self, gaps: int) -> dict[int, int]:
        """Idle slots that make this step of drawing jobs quicker, with the positions of their tokens."""
        running = len(self._running)
        extra = self._filling.wanted(running, gaps)
        if not extra or not self._filling.is_worth_it(running, gaps):
            return {}
        return self._slots.fillers(extra)

    def _add_prompts(self, context: C, *, is_shared: bool) -> int:
        """Puts pieces of prompts into the batch, in equal shares, what a short one leaves for the longer ones."""
        reading = sorted((g for g in self._running.values() if g.missing), key=lambda g: g.missing)
        left = budget = self._budget(is_shared=is_shared)
        for index, generation in enumerate(reading):
            size = min(generation.missing, left // (len(reading) - index))
            if not size:
                continue
            begin = generation.computed
            context.add(generation.slot, generation.tokens[begin : begin + size], begin)
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

    def _draw(self, generation: Generation, token: int, logprobs: tuple[TokenLogprob, ...]) -> Gain | None:
        piece = None if self._words.ends(token) else self._words.piece(token)
        shown, reason = generation.take(token, piece)
        if reason is None and generation.is_full and not self._shift(generation):
            shown, reason = shown + generation.text.close(), "length"
        if reason:
            return self._end(generation, shown, reason, logprobs)
        self._slots.computed(generation.slot, generation.computed)
        return Gain(generation.job_id, shown, None, logprobs) if shown or logprobs else None

    def _shift(self, generation: Generation) -> bool:
        """Makes room in a full context by dropping the older half of what need not be kept."""
        if not generation.job.shift:
            return False
        keep = generation.kept_at_front(adds_bos=self._words.adds_bos)
        gone = (generation.computed - keep) // 2
        if gone <= 0 or not self._slots.context.shift(generation.slot, keep, keep + gone, generation.computed):
            return False
        generation.drop(keep, keep + gone)
        self._slots.spoil(generation.slot)
        return True
