"""What the slots ask of the tiers below KV memory; those are in worker/cache. Pure."""

from collections.abc import Hashable, Sequence
from typing import Any, Final, Literal, Protocol, TypeVar

from corral.engine.llamacpp.worker.batch.memory import KvContext
from corral.engine.llamacpp.worker.media.spans import Spans

_MARK_MIN: Final = 64  # tokens that are worth a checkpoint
_COUNT_MIN: Final = 32  # tokens that are worth a copy
_GAIN_MIN: Final = 8  # those of them that must be new where KV memory has the others
_COPY_SHARE: Final = 64  # and the part of them, where no copy is needed: that is so many times quicker than computing, and more
_APART_MIN: Final = 16  # tokens between two of them

# how a slot is kept: it runs on; it may lose all that it holds; or it may take its time, and holds the same afterwards
Keep = Literal["here", "leaving", "at leisure"]

C_contra = TypeVar("C_contra", bound=KvContext, contravariant=True)


class Found(Protocol):
    """What is there of a prompt: `count` tokens can come back, and `known` are those of a known sequence."""

    @property
    def count(self) -> int: ...
    @property
    def known(self) -> int: ...
    @property
    def is_coming(self) -> bool:
        """More of it is being read, and worth waiting for."""
        ...


class Below(Protocol[C_contra]):
    """Keeps what leaves KV memory, and gives it back. Sequences are known by tokens, and by their kind and spans."""

    def find(self, tokens: Sequence[int], spans: Spans, kind: Hashable, *, beyond: int) -> Found: ...

    def restore(self, context: C_contra, slot: int, found: Any) -> bool:
        """Has the slot hold what was found, and nothing else; false where that fails, and it is empty then."""
        ...

    def keep(self, context: C_contra, slot: int, tokens: Sequence[int], spans: Spans, kind: Hashable, *, how: Keep) -> bool:
        """Saves what the slot holds, these tokens. False where the slot does not hold them any more."""
        ...

    @property
    def is_lasting(self) -> bool:
        """What is kept outlives the worker."""
        ...

    @property
    def is_reading(self) -> bool: ...

    def wait(self, within_s: float) -> None:
        """Until something has been read, or so long."""
        ...

    def close(self, within_s: float) -> None:
        """Has all that is kept outlive the worker, as far as there is time for it."""
        ...


def is_worth_it(count: int, held: int, *, is_in_place: bool = False) -> bool:
    """Are so many tokens worth having back from RAM, where KV memory has some of them, maybe in a slot that can go on with it?

    Else it is a copy either way.
    """
    return count >= _COUNT_MIN and count - held >= max(_GAIN_MIN, count // _COPY_SHARE if is_in_place else 0)


def marks(size: int, known: int, reused: int, spans: Spans) -> tuple[int, ...]:
    """Where in a prompt of so many tokens memory that cannot drop is worth a checkpoint, behind those that are reused.

    That is where the prompt leaves what is `known`: there, at the end of a system prompt or of what a template leaves of a
    turn, the next one will leave it too; no layer above need say where that is. And before its last token, for the same again.
    """
    end, known = size - 1, spans.border(known)
    is_apart = known >= _MARK_MIN and end - known >= _APART_MIN
    wanted = ([known] if is_apart else []) + ([end] if end >= _MARK_MIN else [])
    return tuple(mark for mark in wanted if mark > reused)
