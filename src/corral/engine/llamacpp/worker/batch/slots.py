"""Which sequence computes in which slot of KV memory, and what of their tokens can be used again.

A slot is one sequence of the context. It is running (a job computes in it), parked (its job is over, its tokens are kept for
the next prompt that begins alike) or free. A new prompt goes on in a parked slot whose conversation it continues, or in a
copy of a slot, parked or running, that holds a longer beginning of it than it would be quick to compute. When no slot is
free, memory grows; when it may not, the parked slot that was used longest ago gives way: what it holds goes to the tiers of the
cache below KV memory, and comes back for a prompt that begins alike.

The last token of a prompt is never reused: it is computed again, alone, to get its logits. So a prompt gives the same
logits whether its beginning was cached or just computed. Nor is a part of a span: what stands for an image is reused whole.
"""

import time
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from corral.core.errors import EngineError
from corral.engine.llamacpp.worker.batch.below import Below, Found, Keep, is_worth_it, marks
from corral.engine.llamacpp.worker.batch.copies import Copies
from corral.engine.llamacpp.worker.batch.memory import KvContext, KvMemory
from corral.engine.llamacpp.worker.batch.neighbours import beside, gap_count, move, nearest
from corral.engine.llamacpp.worker.batch.place import Delay, Place
from corral.engine.llamacpp.worker.batch.radix import RadixTree
from corral.engine.llamacpp.worker.media.spans import NO_SPANS, Spans

_COPY_MIN: Final = 32  # tokens that are worth a copy of a sequence
_WAIT_MIN: Final = 64  # tokens that another job is computing just now and that are worth waiting for
_PARK_MIN: Final = 64  # tokens that are worth more memory, so that a new conversation does not replace them
_TAIL_MAX: Final = 32  # tokens behind a shared beginning that are given up rather than copying it
_PARK_GROWTH: Final = 4  # memory grows to so many slots for the sake of parked ones; beyond that only for running ones
_OTHER_MIN: Final = 8  # tokens at the end of another conversation that are worth keeping when they are cut off
_PATIENCE: Final = 8  # steps that a gap between running slots may last

C = TypeVar("C", bound=KvContext)


@dataclass(frozen=True, slots=True)
class _Donor:
    slot: int
    shared: int  # tokens of the prompt that it holds


class SlotTable(Generic[C]):
    """`can_drop`: this memory can forget the end of a sequence; without that only whole sequences are continued."""

    def __init__(self, memory: KvMemory[C], *, can_drop: bool, below: Below[C] | None = None) -> None:
        self._memory = memory
        self._can_drop = can_drop
        self.below = below
        self._tree: RadixTree[int] = RadixTree()
        self._held: dict[int, int] = {}  # tokens computed, of running and parked slots
        self._spans: dict[int, Spans] = {}  # of the slots whose sequences have some
        self._parked: OrderedDict[int, int] = OrderedDict()  # used longest ago first; with the length of their prompts
        self._saved: dict[int, int] = {}  # of parked slots, how many tokens the tiers below have of them
        self._copies: Copies[C] = Copies()
        self._steps_with_gap = 0

    @property
    def context(self) -> C:
        return self._memory.context

    @property
    def can_drop(self) -> bool:
        """The end of a sequence may be forgotten."""
        return self._can_drop

    def place(self, tokens: Sequence[int], *, room: int, spans: Spans = NO_SPANS, kind: Hashable = ()) -> Place | Delay:
        """A slot for this prompt, whose spans are these, with cells for `room` tokens, running from now on.

        What was computed of another kind, which is with other scales of the model's adapters, is of no use to it.
        Or why it should wait. Raises EngineError when there is no memory for so many tokens.
        """
        self.reserve(room)
        donor, is_wait_worth = self._donor(tokens, spans, kind)
        if is_wait_worth:
            return Delay.AWAITED
        held = donor.shared if donor else 0
        found = self.below.find(tokens[:-1], spans, kind, beyond=held) if self.below else None
        if found and found.is_coming:
            return Delay.COMING
        known = max(self._tree.longest(tokens[:-1], kind)[0], found.known) if found else 0
        is_in_place = donor is not None and self._is_continued(donor)
        if found and is_worth_it(found.count, held, is_in_place=is_in_place):
            target = self._target(donor, found.count)
            if target is None:
                return Delay.FULL
            slot, reused = target, self._come_back(target, found)
        elif donor and is_in_place:
            self._keep_other(donor)
            slot, reused = donor.slot, self._kept(donor.slot, donor.shared, spans) if donor.slot in self._held else 0
        elif place := self._new_slot(donor, tokens, spans, kind):
            slot, reused = place
        else:
            return Delay.FULL
        if not reused and found and is_worth_it(found.count, 0):  # what KV memory had of it was of no use
            reused = self._come_back(slot, found)
        self._copies.forget(slot)
        self._parked.pop(slot, None)
        self._held[slot] = reused
        self._have_spans(slot, spans)
        self._tree.put(slot, tokens, kind)
        return Place(slot, reused, marks(len(tokens), known, reused, spans) if found and not self._can_drop else ())

    def checkpoint(self, slot: int, tokens: Sequence[int]) -> None:
        """Keeps what the running slot holds now, these tokens, in the tiers below."""
        self._keep(slot, tokens=tokens)

    @property
    def chore(self) -> int | None:
        """A parked slot to keep in idle time: that which gives way next; any one, where what is kept outlives the worker."""
        if not self.below or not (self.below.is_lasting or not self._free_slots()):
            return None
        parked = list(self._parked)[: None if self.below.is_lasting else 1]
        return next((slot for slot in parked if self._saved.get(slot) != self._held[slot]), None)

    def tidy(self) -> None:
        """Does what there is to do in idle time, one slot at a time."""
        if (slot := self.chore) is not None:
            self._keep(slot, "at leisure")

    def close(self, within_s: float) -> None:
        """The worker ends: has what is parked outlive it, what was used last first, as far as there is time for it."""
        until_s = time.monotonic() + within_s
        for slot in reversed(list(self._parked)):
            if self.below and self.below.is_lasting and time.monotonic() < until_s - within_s / 2:
                self._keep(slot, "leaving")
        if self.below:
            self.below.close(until_s - time.monotonic())

    def awaited(self, tokens: Sequence[int], *, spans: Spans = NO_SPANS, kind: Hashable = ()) -> frozenset[int]:
        """The running slots that are computing a beginning of this prompt that it should wait for."""
        if not self._donor(tokens, spans, kind)[1]:
            return frozenset()
        _, holders = self._tree.longest(tokens[:-1], kind)
        return frozenset(slot for slot in holders if slot not in self._parked)

    def is_coming(self, tokens: Sequence[int], *, spans: Spans = NO_SPANS, kind: Hashable = ()) -> bool:
        """A beginning of this prompt is being read from disk, and worth waiting for."""
        donor, _ = self._donor(tokens, spans, kind)
        held = donor.shared if donor else 0
        return self.below is not None and self.below.find(tokens[:-1], spans, kind, beyond=held).is_coming

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
            self._saved.pop(slot, None)
            self._held[slot] = len(tokens)
            self._parked[slot] = min(prompt_tokens, len(tokens))
        else:
            self._release(slot)

    def held(self, slot: int) -> int:
        """Tokens of a running slot that are computed; fewer than before when memory has grown and lost them."""
        return self._held[slot]

    def forget_copies(self) -> None:
        """Gives the memory of the last copy back; for when no more prompts wait."""
        self._copies.clear()

    # The tiers below KV memory

    def _target(self, donor: _Donor | None, count: int) -> int | None:
        """A slot for what comes back; None where all run. That of the same conversation, if there is one, is no loss."""
        if donor and self._is_continued(donor) and self._held[donor.slot] <= count:
            self._parked.pop(donor.slot)
            return donor.slot
        self._make_free(spare=None)
        free = self._free_slots()
        return nearest(free, self._running()) if free else None

    def _come_back(self, slot: int, found: Found) -> int:
        """Puts what was found into the slot; gives how many tokens it holds then."""
        assert self.below
        self._copies.forget(slot)
        self._spans.pop(slot, None)
        if self.below.restore(self.context, slot, found):
            return found.count
        self.context.forget(slot)
        return 0

    def _give_way(self, slot: int) -> None:
        """The parked slot is for others now; what it holds goes a tier down."""
        self._keep(slot, "leaving")
        self._release(slot)

    def _keep_other(self, donor: _Donor) -> None:
        """The prompt is of another conversation than the donor's, whose end is about to be cut off."""
        if donor.shared < self._parked[donor.slot] - 1 and self._held[donor.slot] - donor.shared >= _OTHER_MIN:
            self._keep(donor.slot, "at leisure")

    def _keep(self, slot: int, how: Keep = "here", tokens: Sequence[int] | None = None) -> None:
        """Saves what the slot holds: all its tokens, or these, where it is not parked."""
        if not self.below or slot not in self._tree:
            return
        spans, kind = self._spans.get(slot, NO_SPANS), self._tree.kind(slot)
        if tokens is None:
            tokens = self._tree.tokens(slot)
            self._saved[slot] = self._held[slot]
        if not self.below.keep(self.context, slot, tokens, spans, kind, how=how):
            self._release(slot)

    # Finding a slot

    def _donor(self, tokens: Sequence[int], spans: Spans, kind: Hashable) -> tuple[_Donor | None, bool]:
        """Who holds most of the prompt, and whether somebody is about to hold so much more that it is worth waiting for."""
        length, holders = self._tree.longest(tokens[:-1], kind)
        length = spans.border(length)
        shared = {slot: spans.border(min(length, self._held[slot])) for slot in holders}
        if not self._can_drop:
            shared = {slot: size for slot, size in shared.items() if size == self._held[slot]}
        best = max(
            shared,
            key=lambda slot: (shared[slot], slot in self._parked, self._copies.has(slot, self._held[slot])),
            default=None,
        )
        reused = 0 if best is None else shared[best]
        is_coming = self._can_drop and any(slot not in self._parked for slot in holders)
        donor = None if best is None or not reused else _Donor(best, reused)
        is_nearly_there = best not in self._parked and reused >= _COPY_MIN  # the rest comes with its next step
        return donor, is_coming and (length - reused >= _WAIT_MIN or (is_nearly_there and length > reused))

    def _is_continued(self, donor: _Donor) -> bool:
        """Is the prompt what comes after the donor's conversation, or the same again, so that no copy need stay behind?"""
        prompt_tokens = self._parked.get(donor.slot)
        if prompt_tokens is None:
            return False
        return donor.shared >= prompt_tokens - _TAIL_MAX or self._held[donor.slot] - donor.shared <= _TAIL_MAX

    def _new_slot(self, donor: _Donor | None, tokens: Sequence[int], spans: Spans, kind: Hashable) -> tuple[int, int] | None:
        """A slot of its own, with a copy of what the donor shares if that is worth it; None where all slots run."""
        if self._make_free(spare=donor.slot if donor else None):
            donor, _ = self._donor(tokens, spans, kind)  # memory may have lost what there was
        free = self._free_slots()
        if not free:
            if donor is None or donor.slot not in self._parked:
                return None
            self._keep(donor.slot)
            return donor.slot, self._kept(donor.slot, donor.shared, spans)
        slot = nearest(free, self._running())
        if donor and donor.shared >= _COPY_MIN and self._copies.make(self.context, donor.slot, slot, self._held[donor.slot]):
            self._held[slot] = self._held[donor.slot]
            return slot, self._kept(slot, donor.shared, spans)
        return slot, 0

    def _free_slots(self) -> list[int]:
        return [slot for slot in range(self.context.sequences) if slot not in self._held]

    def _make_free(self, *, spare: int | None) -> bool:
        """Sees to it that a slot is free; the parked `spare` is not given up for it. True when memory was made anew."""
        if self._free_slots():
            return False
        context = self.context
        oldest = next((slot for slot in self._parked if slot != spare), None)
        may_grow = oldest is None or (context.sequences < _PARK_GROWTH and self._held[oldest] >= _PARK_MIN)
        if may_grow:
            self._grow(sequences=context.sequences + 1)
        if oldest is not None and not self._free_slots():
            self._give_way(oldest)
        return self.context is not context

    def _kept(self, slot: int, count: int, spans: Spans) -> int:
        """Cuts the slot down to `count` tokens, which it shares with a prompt of these spans; gives how many it holds then."""
        if count < self._held[slot] and not self.context.cut(slot, spans.position(count)):
            self.context.forget(slot)
            return 0
        return count

    def _release(self, slot: int) -> None:
        self._copies.forget(slot)
        self.context.forget(slot)
        self._tree.remove(slot)
        self._parked.pop(slot, None)
        self._held.pop(slot, None)
        self._spans.pop(slot, None)
        self._saved.pop(slot, None)

    def _have_spans(self, slot: int, spans: Spans) -> None:
        self._spans.pop(slot, None)
        if spans:
            self._spans[slot] = spans

    def _grow(self, *, sequences: int = 0, cells: int = 0) -> None:
        self._copies.clear()
        for slot in self._memory.grow([slot for slot, held in self._held.items() if held], sequences=sequences, cells=cells):
            if slot in self._parked:
                self._release(slot)
            else:
                self._held[slot] = 0  # its job computes its tokens again

    # Filling up a step

    @property
    def gaps(self) -> int:
        """Idle slots between the running ones."""
        return gap_count(self._running()) if len(self._held) - len(self._parked) > 1 else 0

    def fillers(self, count: int) -> dict[int, int]:
        """So many idle slots that close the gaps between running ones and lie beside them, with the position of a next token.

        None at all where these do not have the room, or hold so much that computing with them would be work.
        """
        running = self._running()
        if not running or not self._can_drop:
            return {}
        chosen = beside(running, self.context.sequences, count)
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
        """Moves a running slot beside the others when a gap between them lasts; gives its old and its new number."""
        if not self.gaps:
            self._steps_with_gap = 0
            return None
        self._steps_with_gap += 1
        if self._steps_with_gap < _PATIENCE:
            return None
        outside, hole = move(self._running(), self.context.sequences)
        return (outside, hole) if self._swap(outside, hole) else None

    def _swap(self, running: int, other: int) -> bool:
        """The running slot moves to the other's place; what is parked there moves the other way."""
        self._copies.clear()
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
