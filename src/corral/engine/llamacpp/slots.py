"""Where sequences live in KV memory, and what of their tokens can be used again.

A slot is one sequence of the context. It is running (a job computes in it), parked (its job is over, its tokens are kept for
the next prompt that begins alike) or free. A new prompt goes on in a parked slot whose tokens it continues, or in a copy of
a slot, parked or running, that holds a longer beginning of it than it would be quick to compute. The context grows as more
sequences are wanted, up to `most`; then the parked slot that was used longest ago is given up.

The last token of a prompt is never reused: it is computed again, alone, to get its logits. So a prompt gives the same
logits whether its beginning was cached or just computed.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from corral.core.errors import ModelLoadError
from corral.engine.llamacpp.radix import RadixTree

_COPY_MIN: Final = 32  # tokens that are worth a copy of a sequence
_WAIT_MIN: Final = 64  # tokens that another job is computing just now and that are worth waiting for
_TAIL_MAX: Final = 256  # tokens behind a shared beginning that may be lost without asking whether a copy is possible
_GROWTH: Final = 4


class KvContext(Protocol):
    """What a slot table needs of a context."""

    sequences: int

    def cut(self, sequence: int, begin: int) -> bool: ...
    def forget(self, sequence: int) -> None: ...
    def save(self, sequence: int) -> Any: ...
    def restore(self, sequence: int, state: Any) -> bool: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Place:
    """A slot to compute in, and how many of the prompt's tokens it holds."""

    slot: int
    reused: int


class SlotTable:
    """`can_drop`: this memory can forget the end of a sequence; without that only whole sequences are continued."""

    def __init__(self, make_context: Callable[[int], KvContext], *, first: int, most: int, can_drop: bool) -> None:
        self._make_context = make_context
        self._most = most
        self._can_drop = can_drop
        self.context = make_context(min(first, most))
        self._tree: RadixTree[int] = RadixTree()
        self._held: dict[int, int] = {}  # tokens computed, of running and parked slots
        self._parked: OrderedDict[int, None] = OrderedDict()  # used longest ago first
        self._free = list(range(self.context.sequences))
        self._saved: tuple[int, int, Any] | None = None  # the last copied slot, its tokens, its state: for many copies in a row

    def place(self, tokens: Sequence[int]) -> Place | None:
        """A slot for this prompt, running from now on; None when it should wait for a beginning that is being computed.

        At most `most` slots run at once; the caller sees to that.
        """
        length, holders = self._tree.longest(tokens[:-1])
        usable = {slot: min(length, self._held[slot]) for slot in holders}
        if not self._can_drop:
            usable = {slot: size for slot, size in usable.items() if size == self._held[slot]}
        donor = max(usable, key=lambda slot: (usable[slot], slot in self._parked), default=None)
        reused = usable[donor] if donor is not None else 0
        if self._can_drop and any(length - reused >= _WAIT_MIN for slot in holders if slot not in self._parked):
            return None
        slot, reused = self._slot_with(donor, reused)
        self._parked.pop(slot, None)
        self._held[slot] = reused
        self._tree.put(slot, tokens)
        return Place(slot, reused)

    def computed(self, slot: int, count: int) -> None:
        """The slot's first `count` tokens are in KV memory now."""
        self._held[slot] = count

    def spoil(self, slot: int) -> None:
        """What the slot holds is not a beginning of anything any more."""
        self._tree.remove(slot)

    def park(self, slot: int, tokens: Sequence[int]) -> None:
        """The slot's job is over; these tokens are in KV memory."""
        if slot in self._tree and tokens:
            self._tree.put(slot, tokens)
            self._held[slot] = len(tokens)
            self._parked[slot] = None
        else:
            self._release(slot)

    def held(self, slot: int) -> int:
        return self._held[slot]

    def close(self) -> None:
        self.context.close()

    # Finding a slot

    def _slot_with(self, donor: int | None, reused: int) -> tuple[int, int]:
        """A slot that holds the first `reused` tokens of the donor, or fewer."""
        if donor is None:
            return self._empty(spare=None), 0
        is_parked = donor in self._parked
        tail = self._held[donor] - reused
        is_mostly_wanted = tail <= max(_TAIL_MAX, reused // 2)
        if is_parked and is_mostly_wanted:
            return donor, self._kept(donor, reused)
        if reused >= _COPY_MIN:
            slot = self._empty(spare=donor)
            if self._held.get(donor, 0) < reused:  # lost while the context grew
                return slot, 0
            return slot, self._kept(donor, reused) if slot == donor else self._copied(donor, slot, reused)
        return self._empty(spare=None), 0

    def _kept(self, slot: int, count: int) -> int:
        if count < self._held[slot] and not self.context.cut(slot, count):
            self.context.forget(slot)
            return 0
        return count

    def _copied(self, donor: int, slot: int, count: int) -> int:
        key = (donor, self._held[donor])
        if self._saved is None or self._saved[:2] != key:
            self._saved = (*key, self.context.save(donor))
        if not self.context.restore(slot, self._saved[2]):
            return 0
        self._held[slot] = key[1]
        return self._kept(slot, count)

    def forget_copies(self) -> None:
        """Gives the memory of the last copy back; for when no more prompts wait."""
        self._saved = None

    def _empty(self, *, spare: int | None) -> int:
        """A slot without tokens: a free one, else a new one, else the parked one used longest ago. `spare` comes last."""
        if not self._free:
            self._grow()
        if not self._free:
            victim = next((slot for slot in self._parked if slot != spare), spare)
            assert victim is not None, "more jobs run than there are slots"
            if victim == spare:
                return victim
            self._release(victim)
        return self._free.pop()

    def _release(self, slot: int) -> None:
        self.context.forget(slot)
        self._tree.remove(slot)
        self._parked.pop(slot, None)
        self._held.pop(slot, None)
        self._free.append(slot)

    def _grow(self) -> None:
        old = self.context
        wanted = min(self._most, old.sequences * _GROWTH)
        if wanted == old.sequences:
            return
        try:
            new = self._make_context(wanted)
        except ModelLoadError:  # no memory for more: this is all there is
            self._most = old.sequences
            return
        for slot in list(self._held):
            if not self._held[slot] or not new.restore(slot, old.save(slot)):
                self._held[slot] = 0  # a running job computes its tokens again
                if slot in self._parked:
                    self._tree.remove(slot)
                    del self._parked[slot], self._held[slot]
        old.close()
        self.context = new
        self._saved = None
        self._free = [slot for slot in range(wanted) if slot not in self._held]
