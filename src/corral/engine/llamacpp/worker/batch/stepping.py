"""What one step computes: a token of each job that draws, what it is guessed to say next, pieces of prompts, a part of a span.

A step takes one token of every job that is drawing, and fills up with pieces of prompts: all of the batch while nobody draws,
else only so many that the others' gap between tokens stays short. Drafts come where nobody reads a prompt. Which jobs these
are, and what comes of it, is the batcher's.
"""

from collections.abc import Callable, Collection, Container, Sequence
from typing import Final, Generic, Protocol, TypeVar

from corral.core.errors import EngineError
from corral.engine.llamacpp.worker.batch.chunks import TILE, Chunks
from corral.engine.llamacpp.worker.batch.generation import Generation
from corral.engine.llamacpp.worker.batch.memory import KvContext
from corral.engine.llamacpp.worker.batch.sharing import shares
from corral.engine.llamacpp.worker.batch.showing import RowContext, Showing
from corral.engine.llamacpp.worker.batch.slots import SlotTable
from corral.engine.llamacpp.worker.speculation.speculation import Speculates

_FILLER: Final = 0  # a token, any token
_RUN: Final = (
    64  # tokens that an answer was made to say go into one step with its next draw; more of them are read like a prompt
)


class BatchContext(KvContext, RowContext, Protocol):
    """What a batcher needs of a llama.cpp context. Where its logits are is a matter between it and what draws from them."""

    @property
    def most_logits(self) -> int:
        """Tokens of a step that logits may be wanted of."""
        ...

    @property
    def is_even(self) -> bool:
        """It takes as many tokens of each sequence in one go."""
        ...

    def adapt(self, scales: tuple[float, ...]) -> None: ...
    def add(
        self, sequence: int, tokens: Sequence[int], position: int, *, wants_logits: bool = False, drafted: int = 0
    ) -> int: ...
    def decode(self) -> None: ...
    def shift(self, sequence: int, begin: int, end: int, used: int) -> bool: ...


C = TypeVar("C", bound=BatchContext)


class Fills(Protocol):
    """Decides whether a step is filled up with tokens of idle slots: filling.py."""

    def wanted(self, running: int, gaps: int) -> int: ...
    def is_worth_it(self, running: int, gaps: int) -> bool: ...
    def learn(self, running: int, gaps: int, elapsed_s: float, *, is_filled: bool) -> None: ...


class Plans(Protocol):
    """Decides what is drafted: speculation.py."""

    is_off: bool

    def plan(self, drawing: Collection[Speculates], *, plain: int, most: int, cells: int, is_even: bool) -> bool: ...
    def learn(self, rows: int, elapsed_s: float) -> None: ...


class Stepping(Generic[C]):
    """The jobs of one step have the same adapters."""

    def __init__(
        self,
        slots: SlotTable[C],
        showing: Showing,
        filling: Fills,
        speculation: Plans,
        *,
        num_batch: int,
        now_s: Callable[[], float],
    ) -> None:
        self._slots = slots
        self._showing = showing
        self._filling = filling
        self._speculation = speculation
        self._num_batch = num_batch
        self._now_s = now_s
        self._chunks = Chunks(num_batch)

    def compute(self, group: Collection[Generation], others: Sequence[Generation]) -> tuple[list[tuple[Generation, int]], bool]:
        """One batch of the group's tokens; the `others`, with other adapters, wait meanwhile.

        Gives who is to draw, and from which logits, where those behind its draft follow; and whether there was anything to
        compute, as those who wait for images have nothing. Raises EngineError where llama.cpp fails.
        """
        slots, context = self._slots, self._slots.context
        ready, ahead = self._ready(group)
        is_reading = len(ready) < len(group)
        gaps = slots.gaps
        is_plain = not (is_reading or ahead or others)
        fillers = self._fillers(len(group), gaps) if is_plain else {}
        is_drafted = is_plain and self._plan(ready.values(), len(fillers))
        if is_drafted:
            fillers = {}
        drawing: list[tuple[Generation, int]] = []
        self._adapt(group)
        for slot in sorted([*ready, *fillers]):  # in order: only neighbours are computed together
            if generation := ready.get(slot):
                begin = generation.computed
                tokens, draft = generation.tokens[begin:], generation.draft
                index = context.add(
                    slot, tokens + draft if draft else tokens, generation.position, wants_logits=True, drafted=len(draft)
                )
                drawing.append((generation, index))
            else:
                context.add(slot, [_FILLER], fillers[slot], wants_logits=True)
        is_shared = bool(ready) or _draws_any(others)
        chunk, has_tiles = self._add_prompts(group, ready, ahead, is_shared=is_shared) if is_reading else (0, False)
        began_s = self._now_s()
        try:
            context.decode()
        finally:
            if fillers:
                slots.drop_fillers(fillers)
        if chunk:
            self._chunks.learn(chunk, self._now_s() - began_s, is_shared=is_shared, has_tiles=has_tiles)
        elif is_plain and drawing:
            self._learn_plain(drawing, len(fillers), gaps, self._now_s() - began_s)
        for generation, _ in drawing:
            generation.computed = len(generation.tokens)
            generation.drafted += len(generation.draft)
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
        size = self._showing.compute(self._slots.context, generation, rows, self._chunks.budget(is_shared=is_shared))
        self._chunks.learn(size, self._now_s() - began_s, is_shared=is_shared)
        generation.computed += size
        self._slots.computed(generation.slot, generation.computed)
        return True

    def forget_draft(self, generation: Generation) -> None:
        """What is left of the draft was not said: it is taken out of KV memory. Raises EngineError where that cannot be."""
        if not generation.draft:
            return
        generation.draft = []
        if self._slots.context.cut(generation.slot, generation.position):
            return
        self._speculation.is_off = True
        self._slots.context.forget(generation.slot)
        generation.computed = 0
        if generation.spans or generation.is_shifted:
            raise EngineError("llama.cpp could not forget what an answer was wrongly guessed to say")

    def _plan(self, drawing: Collection[Generation], fillers: int) -> bool:
        context = self._slots.context
        plain, most = len(drawing) + fillers, min(context.most_logits, self._num_batch)
        return self._speculation.plan(drawing, plain=plain, most=most, cells=context.cells, is_even=context.is_even)

    def _learn_plain(self, drawing: Sequence[tuple[Generation, int]], fillers: int, gaps: int, elapsed_s: float) -> None:
        """What a step of nothing but draws took."""
        drafts = [len(generation.draft) for generation, _ in drawing]
        if not any(drafts):
            self._chunks.learn_plain(elapsed_s)
            self._filling.learn(len(drawing), gaps, elapsed_s, is_filled=bool(fillers))
            self._speculation.learn(len(drawing) + fillers, elapsed_s)
        elif not self._slots.context.is_even or min(drafts) == max(drafts):  # else it was computed in more than one go
            self._speculation.learn(sum(drafts) + len(drawing), elapsed_s)

    def _adapt(self, group: Collection[Generation]) -> None:
        if scales := next(iter(group)).scales:  # else the model has no adapters
            self._slots.context.adapt(scales)

    def _ready(self, group: Collection[Generation]) -> tuple[dict[int, Generation], int]:
        """Who draws in this step, by slot, and how many tokens they were made to say before their last ones."""
        ready: dict[int, Generation] = {}
        ahead, left = 0, self._chunks.budget(is_shared=False)
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

    def _add_prompts(
        self, group: Collection[Generation], ready: Container[int], ahead: int, *, is_shared: bool
    ) -> tuple[int, bool]:
        """Puts pieces of prompts into the batch; gives how many tokens they have, and whether they are tiles of one prompt."""
        reading = [g for g in group if g.slot not in ready and g.missing_text]
        has_tiles = len(reading) == 1 and reading[0].missing_text >= TILE
        budget = self._chunks.budget(is_shared=is_shared, has_tiles=has_tiles)
        chunk = 0
        for generation, size in shares(reading, min(budget, self._num_batch - ahead)):
            begin = generation.computed
            self._slots.context.add(generation.slot, generation.tokens[begin : begin + size], generation.position)
            generation.computed += size
            self._slots.computed(generation.slot, generation.computed)
            chunk += size
        return chunk, has_tiles


def _draws_any(generations: Collection[Generation]) -> bool:
    return any(not generation.missing for generation in generations)
