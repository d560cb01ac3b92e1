"""Which sequence computes in which slot of KV memory, and what of their tokens can be used again.

A slot is one sequence of the context. It is running (a job computes in it), parked (its job is over, its tokens are kept for
the next prompt that begins alike) or free. A new prompt goes on in a parked slot whose conversation it continues, or in a
copy of a slot, parked or running, that holds a longer beginning of it than it would be quick to compute. When no slot is
free, memory grows; when it may not, the parked slot that was used longest ago is given up.

The last token of a prompt is never reused: it is computed again, alone, to get its logits. So a prompt gives the same
logits whether its beginning was cached or just computed. Nor is a part of a span: what stands for an image is reused whole.
"""

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from corral.core.errors import EngineError
from corral.engine.llamacpp.worker.batch.memory import KvContext, KvMemory
from corral.engine.llamacpp.worker.batch.radix import RadixTree
from corral.engine.llamacpp.worker.media.spans import NO_SPANS, Spans

_COPY_MIN: Final = 32  # tokens that are worth a copy of a sequence
_WAIT_MIN: Final = 64  # tokens that another job is computing just now and that are worth waiting for
_PARK_MIN: Final = 64  # tokens that are worth more memory, so that a new conversation does not replace them
_TAIL_MAX: Final = 32  # tokens behind a shared beginning that are given up rather than copying it
_PARK_GROWTH: Final = 4  # memory grows to so many slots for the sake of parked ones; beyond that only for running ones
_PATIENCE: Final = 8  # steps that a gap between running slots may last


C = TypeVar("C", bound=KvContext)


@dataclass(frozen=True, slots=True)
class Place:
    """A slot to compute in, and how many of the prompt's tokens it holds."""

    slot: int
    reused: int


@dataclass(frozen=True, slots=True)
class _Donor:
    slot: int
    shared: int  # tokens of the prompt that it holds


class SlotTable(Generic[C]):
    """`can_drop`: this memory can forget the end of a sequence; without that only whole sequences are continued."""

    def __init__(self, memory: KvMemory[C], *, can_drop: bool) -> None:
        self._memory = memory
        self._can_drop = can_drop
        self._tree: RadixTree[int] = RadixTree()
        self._held: dict[int, int] = {}  # tokens computed, of running and parked slots
        self._spans: dict[int, Spans] = {}  # of the slots whose sequences have some
        self._parked: OrderedDict[int, int] = OrderedDict()  # used longest ago first; with the length of their prompts
        self._copied: tuple[int, int, Any] | None = (
            None  # the last copied slot, its tokens, its state: for many copies in a row
        )
        self._steps_with_gap = 0

    @property
    def context(self) -> C:
        return self._memory.context

    def place(self, tokens: Sequence[int], *, room: int, spans: Spans = NO_SPANS, kind: Hashable = ()) -> Place | None:
        """A slot for this prompt, whose spans are these, with cells for `room` tokens, running from now on.

        What was computed of another kind, which is with other scales of the model's adapters, is of no use to it.
        None when it should wait: for a beginning that is being computed, or for a slot. Raises EngineError when there is no
        memory for so many tokens.
        """
        self.reserve(room)
        donor, is_wait_worth = self._donor(tokens, spans, kind)
        if is_wait_worth:
            return None
        if donor and self._is_continued(donor):
            slot, reused = donor.slot, self._kept(donor.slot, donor.shared, spans)
        elif place := self._new_slot(donor, tokens, spans, kind):
            slot, reused = place
        else:
            return None
        self._forget_copy_of(slot)
        self._parked.pop(slot, None)
        self._held[slot] = reused
        self._have_spans(slot, spans)
        self._tree.put(slot, tokens, kind)
        return Place(slot, reused)

    def expect(self, jobs: int) -> None:
        """Makes room for so many running slots at once, if there is memory for it, so that memory need not grow one by one."""
        if jobs > self.context.sequences:
            self._grow(sequences=jobs)

    def reserve(self, cells: int) -> None:
        """Makes every slot able to hold as many tokens. Raises EngineError when there is no memory for it."""
        if cells > self.context.cells:
            self._grow(cells=cells)
        if cells > self.context.cells:
            raise EngineError(
                f"not enough memory for a context of {cells} tokens; lower num_ctx or send fewer requests at once"
            )

    def computed(self, slot: int, count: int) -> None:
        """The slot's first `count` tokens are in KV memory now."""
        self._held[slot] = count

    def spoil(self, slot: int) -> None:
        """What the slot holds is not a beginning of anything any more."""
        self._tree.remove(slot)

    def park(self, slot: int, tokens: Sequence[int], *, prompt_tokens: int) -> None:
        """The slot's job is over; these tokens are in KV memory."""
        if slot in self._tree and tokens:
            self._tree.put(slot, tokens, self._tree.kind(slot))
            self._held[slot] = len(tokens)
            self._parked[slot] = min(prompt_tokens, len(tokens))
        else:
            self._release(slot)

    def held(self, slot: int) -> int:
        """Tokens of a running slot that are computed; fewer than before when memory has grown and lost them."""
        return self._held[slot]

    def forget_copies(self) -> None:
        """Gives the memory of the last copy back; for when no more prompts wait."""
        self._copied = None

    # Finding a slot

    def _donor(self, tokens: Sequence[int], spans: Spans, kind: Hashable) -> tuple[_Donor | None, bool]:
        """Who holds most of the prompt, and whether somebody is about to hold so much more that it is worth waiting for."""
        length, holders = self._tree.longest(tokens[:-1], kind)
        length = spans.border(length)
        shared = {slot: spans.border(min(length, self._held[slot])) for slot in holders}
        if not self._can_drop:
            shared = {slot: size for slot, size in shared.items() if size == self._held[slot]}
        best = max(shared, key=lambda slot: (shared[slot], slot in self._parked, self._has_copy_of(slot)), default=None)
        reused = 0 if best is None else shared[best]
        is_coming = self._can_drop and any(slot not in self._parked for slot in holders)
        donor = None if best is None or not reused else _Donor(best, reused)
        return donor, is_coming and length - reused >= _WAIT_MIN

    def _is_continued(self, donor: _Donor) -> bool:
        """Is the prompt what comes after the donor's conversation, or the same again, so that no copy need stay behind?"""
        prompt_tokens = self._parked.get(donor.slot)
        if prompt_tokens is None:
            return False
        return donor.shared >= prompt_tokens - _TAIL_MAX or self._held[donor.slot] - donor.shared <= _TAIL_MAX

    def _new_slot(self, donor: _Donor | None, tokens: Sequence[int], spans: Spans, kind: Hashable) -> tuple[int, int] | None:
        """A slot of its own, with a copy of what the donor shares if that is worth it; None where all slots run."""
        if self._make_free(spare=donor.slot if donor else None):
            donor, _ = self._donor(tokens, spans, kind)  # memory has grown, and may have lost what there was
        free = self._free_slots()
        if not free:
            is_parked = donor is not None and donor.slot in self._parked
            return (donor.slot, self._kept(donor.slot, donor.shared, spans)) if donor and is_parked else None
        running = self._running()
        slot = min(free, key=lambda s: (min((abs(s - r) for r in running), default=0), s))
        if donor and donor.shared >= _COPY_MIN and self._copy(donor.slot, slot):
            return slot, self._kept(slot, donor.shared, spans)
        return slot, 0

    def _free_slots(self) -> list[int]:
        return [slot for slot in range(self.context.sequences) if slot not in self._held]

    def _make_free(self, *, spare: int | None) -> bool:
        """Sees to it that a slot is free; the parked `spare` is not given up for it. True when memory has grown."""
        if self._free_slots():
            return False
        sequences = self.context.sequences
        oldest = next((slot for slot in self._parked if slot != spare), None)
        may_grow = oldest is None or (sequences < _PARK_GROWTH and self._held[oldest] >= _PARK_MIN)
        if may_grow:
            self._grow(sequences=sequences + 1)
        if oldest is not None and not self._free_slots():
            self._release(oldest)
        return self.context.sequences > sequences

    def _kept(self, slot: int, count: int, spans: Spans) -> int:
        """Cuts the slot down to `count` tokens, which it shares with a prompt of these spans; gives how many it holds then."""
        if count < self._held[slot] and not self.context.cut(slot, spans.position(count)):
            self.context.forget(slot)
            return 0
        return count

    def _copy(self, source: int, target: int) -> bool:
        held = self._held[source]
        if not self._has_copy_of(source):
            try:
                self._copied = (source, held, self.context.save(source))
            except EngineError:
                return False
        assert self._copied is not None
        if not self.context.restore(target, self._copied[2]):
            return False
        self._held[target] = held
        return True

    def _has_copy_of(self, slot: int) -> bool:
        return self._copied is not None and self._copied[:2] == (slot, self._held[slot])

    def _forget_copy_of(self, slot: int) -> None:
        if self._copied and self._copied[0] == slot:
            self._copied = None

    def _release(self, slot: int) -> None:
        self._forget_copy_of(slot)
        self.context.forget(slot)
        self._tree.remove(slot)
        self._parked.pop(slot, None)
        self._held.pop(slot, None)
        self._spans.pop(slot, None)

    def _have_spans(self, slot: int, spans: Spans) -> None:
        self._spans.pop(slot, None)
        if spans:
            self._spans[slot] = spans

    def _grow(self, *, sequences: int = 0, cells: int = 0) -> None:
        self._copied = None
        for slot in self._memory.grow([slot for slot, held in self._held.items() if held], sequences=sequences, cells=cells):
            if slot in self._parked:
                self._release(slot)
            else:
                self._held[slot] = 0  # its job computes its tokens again

    # Filling up a step

    @property
    def gaps(self) -> int:
        """Idle slots between the running ones."""
        if len(self._held) - len(self._parked) < 2:
            return 0
        running = self._running()
        return running[-1] - running[0] + 1 - len(running)

    def fillers(self, count: int) -> dict[int, int]:
        """So many idle slots that close the gaps between running ones and lie beside them, with the position of a next token.

        None at all where these do not have the room, or hold so much that computing with them would be work.
        """
        running = self._running()
        if not running or not self._can_drop:
            return {}
        low, high = running[0], running[-1]
        inside = [slot for slot in range(low, high + 1) if slot not in running]
        beside = [*range(high + 1, self.context.sequences), *range(low - 1, -1, -1)]
        chosen = [*inside, *beside][:count]
        most = min(self.context.cells, max(self._held[slot] for slot in running) + 1)
        if len(chosen) < count or any(self._held.get(slot, 0) >= most for slot in chosen):
            return {}
        return {slot: self._position(slot) for slot in sorted(chosen)}

    def _position(self, slot: int) -> int:
        """Of the next token there."""
        return self._spans.get(slot, NO_SPANS).position(self._held.get(slot, 0))

    def drop_fillers(self, positions: Mapping[int, int]) -> None:
        """Takes the tokens out again that were computed at these positions of idle slots."""
        for slot, position in positions.items():
            if not position:
                self.context.forget(slot)
            elif not self.context.cut(slot, position):
                self._release(slot)

    def _running(self) -> list[int]:
        return sorted(slot for slot in self._held if slot not in self._parked)

    # Keeping running slots together

    def gather(self) -> tuple[int, int] | None:
        """Moves a running slot beside the others when a gap between them lasts; gives its old and its new number.

        llama.cpp computes a batch in one piece only where the sequences in it are neighbours.
        """
        if not self.gaps:
            self._steps_with_gap = 0
            return None
        running = self._running()
        self._steps_with_gap += 1
        if self._steps_with_gap < _PATIENCE:
            return None
        size = len(running)
        best = max(running, key=lambda begin: sum(begin <= slot < begin + size for slot in running))
        begin = min(best, self.context.sequences - size)
        outside = next(slot for slot in running if not begin <= slot < begin + size)
        hole = next(slot for slot in range(begin, begin + size) if slot not in running)
        return (outside, hole) if self._swap(outside, hole) else None

    def _swap(self, running: int, other: int) -> bool:
        """The running slot moves to the other's place; what is parked there moves the other way."""
        self._copied = None
        context = self.context
        try:
            state = context.save(running) if self._held[running] else None
            parked = context.save(other) if other in self._parked else None
        except EngineError:
            return False
        context.forget(running)
        self._held[other], held_there = self._held[running], self._held.pop(other, 0)
        if state is None or not context.restore(other, state):
            context.forget(other)
            self._held[other] = 0
        del self._held[running]
        self._tree.swap(running, other)
        ours, theirs = self._spans.get(running, NO_SPANS), self._spans.get(other, NO_SPANS)
        self._have_spans(running, theirs)
        self._have_spans(other, ours)
        prompt_tokens = self._parked.pop(other, 0)
        if parked is not None:
            if context.restore(running, parked):
                self._held[running], self._parked[running] = held_there, prompt_tokens
            else:
                self._release(running)
        return True
