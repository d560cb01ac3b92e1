"""Continuous batching: which tokens the next engine step computes, and what comes of it.

A job joins and leaves between steps. Each step takes one token of every job that is drawing, and fills up with pieces of
prompts: all of the batch while nobody draws, else only so many that the others' gap between tokens stays short.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from corral.core.errors import EngineError
from corral.core.types import FinishReason, Job
from corral.engine.llamacpp.generation import Generation
from corral.engine.llamacpp.slots import SlotTable
from corral.wire.link import Frame, Gain, JobFailed, Overflow, StepFrame

_GAP_S: Final = 0.08  # a prompt may make running streams wait about this long per step
_LEAST_CHUNK: Final = 32  # tokens of prompts in a step, at least
_LEARN: Final = 0.3  # weight of the newest measurement of speed


class Draws(Protocol):
    def see(self, prompt: list[int]) -> None: ...
    def draw(self, context: Any, index: int) -> int: ...
    def close(self) -> None: ...


class Words(Protocol):
    """The vocabulary, as far as a batcher needs it."""

    adds_bos: bool

    def tokenize(self, text: str, *, add_special: bool) -> list[int]: ...
    def piece(self, token: int) -> bytes: ...
    def ends(self, token: int) -> bool: ...


class Batcher:
    """Owns the jobs. `make_sampler` makes what draws a job's tokens; `most` jobs run at once, the others wait in order."""

    def __init__(
        self, slots: SlotTable, words: Words, make_sampler: Callable[[Job], Draws], *, most: int, num_batch: int
    ) -> None:
        self._slots = slots
        self._words = words
        self._make_sampler = make_sampler
        self._most = most
        self._num_batch = num_batch
        self._waiting: deque[Generation] = deque()
        self._running: OrderedDict[int, Generation] = OrderedDict()
        self._samplers: dict[int, Draws] = {}
        self._tokens_per_s = 0.0  # of prompts, as measured

    @property
    def has_work(self) -> bool:
        return bool(self._waiting or self._running)

    def submit(self, job_id: int, job: Job) -> Frame | None:
        """Takes a job; gives the frame that refuses it, where it cannot be done."""
        begins_text = not job.prefix_tokens
        tokens = [*job.prefix_tokens, *self._words.tokenize(job.prompt, add_special=begins_text)]
        if len(tokens) >= job.num_ctx:
            return Overflow(job_id, len(tokens), job.num_ctx)
        if not tokens:
            return JobFailed(job_id, "the prompt has no tokens")
        self._waiting.append(Generation(job_id, job, tokens))
        return None

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
        self._admit()
        gains = self._end_those_without_answer()
        if self._running:
            try:
                gains += self._compute()
            except EngineError as error:
                return [*([StepFrame(gains)] if gains else []), *self._fail_all(str(error))]
        return [StepFrame(gains)] if gains else []

    # Joining and leaving

    def _admit(self) -> None:
        for _ in range(len(self._waiting)):
            if len(self._running) >= self._most:
                return
            generation = self._waiting.popleft()
            place = self._slots.place(generation.tokens)
            if place is None:
                self._waiting.append(generation)
                continue
            generation.begin(place.slot, place.reused)
            self._refresh_after_growth()
            sampler = self._make_sampler(generation.job)
            sampler.see(generation.tokens)
            self._samplers[generation.job_id] = sampler
            self._running[generation.job_id] = generation
        if not self._waiting:
            self._slots.forget_copies()

    def _refresh_after_growth(self) -> None:
        for other in self._running.values():
            other.computed = min(other.computed, self._slots.held(other.slot))

    def _end_those_without_answer(self) -> list[Gain]:
        ended = [g for g in self._running.values() if not g.limit and not g.missing]
        return [self._end(generation, "", "length") for generation in ended]

    def _leave(self, generation: Generation) -> None:
        del self._running[generation.job_id]
        self._samplers.pop(generation.job_id).close()
        self._slots.park(generation.slot, generation.tokens[: generation.computed])

    def _end(self, generation: Generation, shown: str, reason: FinishReason) -> Gain:
        self._leave(generation)
        return Gain(generation.job_id, shown, generation.finish(reason))

    def _fail_all(self, reason: str) -> list[Frame]:
        failed = list(self._running.values())
        for generation in failed:
            self._slots.spoil(generation.slot)
            self._leave(generation)
        return [JobFailed(generation.job_id, reason) for generation in failed]

    # Computing

    def _compute(self) -> list[Gain]:
        context: Any = self._slots.context
        drawing = [
            (g, context.add(g.slot, g.tokens[-1:], g.computed, wants_logits=True))
            for g in self._running.values()
            if not g.missing
        ]
        chunk = self._add_prompts(context, is_shared=bool(drawing))
        began_s = time.monotonic()
        context.decode()
        if chunk:
            self._learn(chunk + len(drawing), time.monotonic() - began_s)
        gains: list[Gain] = []
        for generation, index in drawing:
            generation.computed += 1
            token = self._samplers[generation.job_id].draw(context.pointer, index)
            if gain := self._draw(generation, token):
                gains.append(gain)
        return gains

    def _add_prompts(self, context: Any, *, is_shared: bool) -> int:
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

    def _draw(self, generation: Generation, token: int) -> Gain | None:
        piece = None if self._words.ends(token) else self._words.piece(token)
        shown, reason = generation.take(token, piece)
        if reason is None and generation.is_full and not self._shift(generation):
            shown, reason = shown + generation.text.close(), "length"
        if reason:
            return self._end(generation, shown, reason)
        self._slots.computed(generation.slot, generation.computed)
        return Gain(generation.job_id, shown) if shown else None

    def _shift(self, generation: Generation) -> bool:
        """Makes room in a full context by dropping the older half of what need not be kept."""
        if not generation.job.shift:
            return False
        keep = generation.kept_at_front(adds_bos=self._words.adds_bos)
        gone = (generation.computed - keep) // 2
        context: Any = self._slots.context
        if gone <= 0 or not context.shift(generation.slot, keep, keep + gone, generation.computed):
            return False
        generation.drop(keep, keep + gone)
        self._slots.spoil(generation.slot)
        return True
