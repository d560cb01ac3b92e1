"""What one step computes: a token of each job that draws, pieces of prompts, and a part of a span.

A step takes one token of every job that is drawing, and fills up with pieces of prompts: all of the batch while nobody draws,
else only so many that the others' gap between tokens stays short. Which jobs these are, and what comes of it, is the batcher's.
"""

from collections.abc import Callable, Collection, Container, Sequence
from typing import Final, Generic, Protocol, TypeVar

from corral.engine.llamacpp.worker.batch.generation import Generation
from corral.engine.llamacpp.worker.batch.memory import KvContext
from corral.engine.llamacpp.worker.batch.showing import RowContext, Showing
from corral.engine.llamacpp.worker.batch.slots import SlotTable

_GAP_S: Final = 0.08  # a prompt may make running streams wait about this long per step
_LEAST_CHUNK: Final = 32  # tokens of prompts in a step, at least
_LEARN: Final = 0.3  # weight of the newest measurement of speed
_FILLER: Final = 0  # a token, any token
_RUN: Final = (
    64  # tokens that an answer was made to say go into one step with its next draw; more of them are read like a prompt
)


class BatchContext(KvContext, RowContext, Protocol):
    """What a batcher needs of a llama.cpp context. Where its logits are is a matter between it and what draws from them."""

    def adapt(self, scales: tuple[float, ...]) -> None: ...
    def add(self, sequence: int, tokens: Sequence[int], position: int, *, wants_logits: bool = False) -> int: ...
    def decode(self) -> None: ...
    def shift(self, sequence: int, begin: int, end: int, used: int) -> bool: ...


C = TypeVar("C", bound=BatchContext)


class Fills(Protocol):
    """Decides whether a step is filled up with tokens of idle slots: filling.py."""

    def wanted(self, running: int, gaps: int) -> int: ...
    def is_worth_it(self, running: int, gaps: int) -> bool: ...
    def learn(self, running: int, gaps: int, elapsed_s: float, *, is_filled: bool) -> None: ...


class Stepping(Generic[C]):
    """Knows how quick this model reads. The jobs of one step have the same adapters."""

    def __init__(
        self, slots: SlotTable[C], showing: Showing, filling: Fills, *, num_batch: int, now_s: Callable[[], float]
    ) -> None:
        self._slots = slots
        self._showing = showing
        self._filling = filling
        self._num_batch = num_batch
        self._now_s = now_s
        self._tokens_per_s = 0.0  # of prompts, as measured

    def compute(self, group: Collection[Generation], others: Sequence[Generation]) -> tuple[list[tuple[Generation, int]], bool]:
        """One batch of the group's tokens; the `others`, with other adapters, wait meanwhile.

        Gives who is to draw, and from which logits; and whether there was anything to compute, as those who wait for images
        have nothing. Raises EngineError where llama.cpp fails.
        """
        slots, context = self._slots, self._slots.context
        ready, ahead = self._ready(group)
        is_reading = len(ready) < len(group)
        gaps = slots.gaps
        fillers = {} if is_reading or ahead or others else self._fillers(len(group), gaps)
        drawing: list[tuple[Generation, int]] = []
        self._adapt(group)
        for slot in sorted([*ready, *fillers]):  # in order: only neighbours are computed together
            if generation := ready.get(slot):
                begin = generation.computed
                index = context.add(slot, generation.tokens[begin:], generation.position, wants_logits=True)
                drawing.append((generation, index))
            else:
                context.add(slot, [_FILLER], fillers[slot], wants_logits=True)
        is_shared = bool(ready) or _draws_any(others)
        chunk = self._add_prompts(group, ready, ahead, is_shared=is_shared) if is_reading else 0
        began_s = self._now_s()
        try:
            context.decode()
        finally:
            if fillers:
                slots.drop_fillers(fillers)
        if chunk:
            self._learn(chunk + len(drawing) + ahead, self._now_s() - began_s)
        elif not ahead and not others:
            self._filling.learn(len(drawing), gaps, self._now_s() - began_s, is_filled=bool(fillers))
        for generation, _ in drawing:
            generation.computed = len(generation.tokens)
        return drawing, bool(drawing or chunk)

    def show(self, group: Collection[Generation], others: Sequence[Generation]) -> bool:
        """Computes a part of what a job of the group shows, where one has got so far; false where none has."""
        found = self._showing.next(group)
        if not found:
            return False
        generation, rows = found
        is_shared = _draws_any(group) or _draws_any(others)
        self._adapt((generation,))
        began_s = self._now_s()
        size = self._showing.compute(self._slots.context, generation, rows, self._budget(is_shared=is_shared))
        self._learn(size, self._now_s() - began_s)
        generation.computed += size
        self._slots.computed(generation.slot, generation.computed)
        return True

    def _adapt(self, group: Collection[Generation]) -> None:
        if scales := next(iter(group)).scales:  # else the model has no adapters
            self._slots.context.adapt(scales)

    def _ready(self, group: Collection[Generation]) -> tuple[dict[int, Generation], int]:
        """Who draws in this step, by slot, and how many tokens they were made to say before their last ones."""
        ready: dict[int, Generation] = {}
        ahead, left = 0, self._num_batch
        for generation in group:
            missing = len(generation.tokens) - generation.computed - 1
            if missing:
                is_made_to_say = generation.drawn and missing == generation.missing_text
                if not is_made_to_say or missing > _RUN or missing > left - ahead:
                    continue
                ahead += missing
            ready[generation.slot] = generation
        return ready, ahead

    def _fillers(self, running: int, gaps: int) -> dict[int, int]:
        """Idle slots that make this step of drawing jobs quicker, with the positions of their tokens."""
        extra = self._filling.wanted(running, gaps)
        if not extra or not self._filling.is_worth_it(running, gaps):
            return {}
        return self._slots.fillers(extra)

    def _add_prompts(self, group: Collection[Generation], ready: Container[int], ahead: int, *, is_shared: bool) -> int:
        """Puts pieces of prompts into the batch, in equal shares, what a short one leaves for the longer ones."""
        reading = [g for g in group if g.slot not in ready and g.missing_text]
        reading.sort(key=lambda g: g.missing)
        left = budget = min(self._budget(is_shared=is_shared), self._num_batch - ahead)
        for index, generation in enumerate(reading):
            size = min(generation.missing_text, left // (len(reading) - index))
            if not size:
                continue
            begin = generation.computed
            self._slots.context.add(generation.slot, generation.tokens[begin : begin + size], generation.position)
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


def _draws_any(generations: Collection[Generation]) -> bool:
    return any(not generation.missing for generation in generations)
