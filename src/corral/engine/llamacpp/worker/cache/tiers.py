"""The tiers of the prefix cache below KV memory, as the slots see them: what was kept of a prompt, keeping it, getting it back.

What leaves KV memory is cut into blocks, of which only those are copied that are not kept yet; any beginning of a sequence can
be put together from them. Two kinds of models set limits to that. Layers with a sliding window are saved by llama.cpp for the
last window of a sequence only; the rest is had from a sequence that leaves anyway by cutting it down window by window. And a
recurrent state cannot be cut: there only whole checkpoints come back, taken where a state was saved.
A copy costs microseconds a token, and computing one takes hundreds of them or more: so whatever is long enough is kept.
"""

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np

from corral.core.errors import EngineError
from corral.engine.llamacpp.worker.batch.below import Keep
from corral.engine.llamacpp.worker.batch.states import Bytes, Saved
from corral.engine.llamacpp.worker.cache.disk import Disk
from corral.engine.llamacpp.worker.cache.payloads import Form, Payload, Piece, cut, joined, payload_bytes, pieces
from corral.engine.llamacpp.worker.cache.reading import Reading
from corral.engine.llamacpp.worker.cache.tree import Block, BlockTree
from corral.engine.llamacpp.worker.media.spans import NO_SPANS, Spans

log: Final = logging.getLogger(__name__)
_LEAST: Final = 32  # tokens that are worth keeping
_MORE: Final = 8  # tokens that are worth saving a sequence once more
_SCRATCH_BYTES: Final = 64 << 20  # memory for states that stays: fresh memory takes longer than the copy


class StateContext(Protocol):
    """What saving and restoring needs of a llama.cpp context."""

    @property
    def streams(self) -> int: ...
    @property
    def is_long(self) -> bool: ...
    def cut(self, sequence: int, begin: int) -> bool: ...
    def save(self, sequence: int, *, is_partial: bool = False, room: Callable[[int], Bytes] = ...) -> Saved: ...
    def restore(self, sequence: int, state: Saved) -> bool: ...


@dataclass(frozen=True, slots=True)
class Found:
    """What is kept of a prompt: `count` tokens can come back from these blocks, and `known` are those of a known sequence.

    It has the payloads itself: what is saved before they are used may make the blocks lose them.
    """

    path: list[Block]
    count: int
    known: int
    parts: list[tuple[int, Payload]]
    is_coming: bool = False
    is_long: bool = False


class Scratch:
    """Memory for one state at a time."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def take(self, size: int) -> Bytes:
        if size > _SCRATCH_BYTES:
            return np.empty(size, np.uint8)
        if size > len(self._bytes):
            self._bytes = np.empty(min(_SCRATCH_BYTES, max(size, 2 * len(self._bytes))), np.uint8)
        return self._bytes[:size]


class Tiers:
    """`window`: tokens that layers with a sliding window look back; 0: none do. `budget_bytes` is asked when it counts."""

    def __init__(
        self,
        *,
        budget_bytes: Callable[[], int],
        can_drop: bool = True,
        window: int = 0,
        identity: bytes = b"",
        disk: Disk | None = None,
    ) -> None:
        self.is_long: Callable[[], bool] = lambda: False  # as the context is now: states.Saved
        self._budget_bytes = budget_bytes
        self._can_drop = can_drop
        self._window = window
        self._tree = BlockTree(identity, self._on_leave)
        self._disk = disk
        self._reading = Reading(self._tree, disk, wants_tail=not can_drop, budget_bytes=budget_bytes) if disk else None
        self._scratch = Scratch()

    @property
    def size_bytes(self) -> int:
        """RAM that it takes."""
        return self._tree.size_bytes

    def fit(self, size_bytes: int | None = None) -> None:
        """Gives memory back, down to what it may take now, or to so much; what was read for others counts too."""
        if self._reading:
            self._reading.take()
        self._tree.shrink(self._budget_bytes() if size_bytes is None else size_bytes)

    def find(self, tokens: Sequence[int], spans: Spans, kind: Hashable, *, beyond: int) -> Found:
        """What is kept of these tokens, all of which may be reused. KV memory has those `beyond` which it is worth looking."""
        is_long = self.is_long()
        kind = (kind, is_long)
        if self._reading is None:
            return replace(self._find(tokens, spans, kind), is_long=is_long)
        has_more = self._reading.take()
        found = self._find(tokens, spans, kind)
        is_coming = self._reading.begin(tokens, kind, beyond=max(beyond, found.count))
        if has_more:  # last, as what goes may be read again; what was found has its payloads, even where its blocks go
            self._tree.touch(found.path)
            self.fit()
        return replace(found, is_coming=True) if is_coming else replace(found, is_long=is_long)

    @property
    def is_reading(self) -> bool:
        """A prompt may be waiting for the disk."""
        return self._reading is not None and self._reading.is_busy

    @property
    def has_leftovers(self) -> bool:
        """Something was read, or is about to be, for prompts that may not come for it any more."""
        return self._reading is not None and self._reading.is_owed

    def wait(self, within_s: float) -> None:
        """Until something has been read, or so long."""
        if self._reading:
            self._reading.wait(within_s)

    def _find(self, tokens: Sequence[int], spans: Spans, kind: Hashable) -> Found:
        walk = self._tree.walk(tokens, kind)
        if self._can_drop:
            return _found(*self._usable(walk.path, walk.known, spans), walk.known)
        for end in reversed(walk.ends):
            path = end.path()
            if end.payload and end.payload.tail and spans.border(end.end) == end.end:
                found = self._usable(path, end.end, spans)
                if found[1] == end.end:
                    return _found(*found, walk.known)
        return _found([], 0, walk.known)

    def restore(self, context: StateContext, slot: int, found: Found) -> bool:
        """Has the slot hold what was found, and nothing else; false where that fails, and it is empty then."""
        self._tree.touch(found.path)
        if self._disk:
            self._disk.use([block for block in found.path if block.is_stored])
        state = replace(joined(found.parts, found.count, context.streams, self._scratch.take), is_long=found.is_long)
        log.debug("%d tokens come back to slot %d from RAM, %d bytes", found.count, slot, len(state.data))
        return context.restore(slot, state)

    @property
    def is_lasting(self) -> bool:
        """What is kept outlives the worker."""
        return self._disk is not None

    def keep(self, context: StateContext, slot: int, tokens: Sequence[int], spans: Spans, kind: Hashable, *, how: Keep) -> bool:
        """Saves what the slot holds, these tokens, as far as it is not kept yet. False where it does not hold them any more."""
        kind = (kind, context.is_long)
        if len(tokens) < _LEAST or not self._is_worth_keeping(tokens, kind):
            self.fit()
            return True
        try:
            saved = context.save(slot, room=self._scratch.take)
        except EngineError:
            return True
        read = pieces(saved, len(tokens))
        if read is None:
            log.debug("the state of slot %d has an unknown form, and is not kept", slot)
            return True
        form, caches, tail = read
        sources = [[piece] for piece in caches]
        is_cut = how != "here" and not spans and self._add_earlier(context, slot, sources)
        path = self._put(tokens, kind, form, sources, tail)
        self._tree.touch(path)
        self._store(path)
        is_whole = not is_cut or (how != "leaving" and self._refill(context, slot, len(tokens), path, saved))
        self.fit()
        return is_whole

    def _refill(self, context: StateContext, slot: int, count: int, path: Sequence[Block], saved: Saved) -> bool:
        """Gives back what was cut off to save all of it; the last window of it at least."""
        found = replace(_found(*self._usable(path, count, NO_SPANS), count), is_long=context.is_long)
        return context.restore(slot, saved) if found.count < count else self.restore(context, slot, found)

    def _is_worth_keeping(self, tokens: Sequence[int], kind: Hashable) -> bool:
        """False where all but a few of them are kept; those are used now."""
        walk = self._tree.walk(tokens, kind)
        whole = [block for block in walk.path if block.payload and not any(block.payload.skipped)]
        if not self._can_drop:
            is_kept = any(end.end == len(tokens) and end.payload and end.payload.tail for end in walk.ends)
        else:
            is_kept = len(whole) == len(walk.path) and len(tokens) - walk.known < _MORE
        if is_kept:
            self._tree.touch(walk.path)
        return not is_kept

    def _put(
        self, tokens: Sequence[int], kind: Hashable, form: Form, sources: Sequence[Sequence[Piece]], tail: bytes
    ) -> list[Block]:
        """Copies what is new. Gives the path of the tokens, as far as there is room for it."""
        path = self._tree.extend(tokens, kind)
        left = self._budget_bytes()
        for number, block in enumerate(path):
            own_tail = tail if number == len(path) - 1 else b""
            left -= payload_bytes(form, len(block.tokens), (0,) * len(form)) + len(own_tail)
            if left < 0:
                self._tree.prune(path[-1])
                return path[:number]
            if _adds(block.payload, form, sources, block, own_tail):
                kept_tail = block.payload.tail if block.payload else b""
                covered = self._tree.put(block, cut(form, sources, block.begin, block.end, own_tail or kept_tail))
                if self._disk and covered:
                    self._disk.forget(covered)
        return path

    def close(self, within_s: float) -> None:
        """Has what is not on disk yet written there, as far as there is time for it."""
        if self._disk:
            self._store(list(self._tree))
            self._disk.flush(within_s)

    def _store(self, blocks: Sequence[Block]) -> None:
        """Has them written to disk, where they are not there yet. Later ones come after those before them."""
        for block in blocks:
            if self._disk and block.payload and not block.is_stored:
                self._disk.save(block)

    def _on_leave(self, block: Block) -> None:
        """Its payload leaves RAM: the last chance to write it."""
        self._store([block])
        if self._reading:
            self._reading.forgive()

    def _add_earlier(self, context: StateContext, slot: int, sources: list[list[Piece]]) -> bool:
        """Adds what llama.cpp leaves out of a state of a model with a sliding window. True where the slot was cut for that."""
        if not self._window or not self._can_drop or len(sources) != 2:
            return False
        parts, is_cut = sources[1], False
        while (end := parts[-1].begin) and context.cut(slot, end):
            is_cut = True
            try:
                read = pieces(context.save(slot, is_partial=True), end)
            except EngineError:
                break
            if read is None or len(read[1]) != 1:
                break
            parts.append(read[1][0])
        return is_cut or bool(end)

    def _usable(self, path: Sequence[Block], limit: int, spans: Spans) -> tuple[list[Block], int]:
        """As much of the path as can come back, and how many tokens that is, up to `limit`."""
        best: tuple[list[Block], int] = [], 0
        starts: list[int] = []
        form: Form | None = None
        for number, block in enumerate(path):
            payload = block.payload
            if payload is None or (form is not None and payload.form != form):
                break
            if form is None:
                form, starts = payload.form, [0] * len(payload.form)
            starts = [block.begin + skip if skip else at for skip, at in zip(payload.skipped, starts, strict=True)]
            count = spans.border(min(block.end, limit))
            if count > block.begin and all(at <= self._needed(cache, count, spans) for cache, at in enumerate(starts)):
                best = list(path[: number + 1]), count
        return best

    def _needed(self, cache: int, count: int, spans: Spans) -> int:
        """Where at the latest this cache's cells must begin for a sequence that goes on after so many tokens."""
        is_windowed = cache == 1 and self._window and not spans
        return max(0, count - self._window) if is_windowed else 0


def _adds(payload: Payload | None, form: Form, sources: Sequence[Sequence[Piece]], block: Block, tail: bytes) -> bool:
    """Is there anything of the block that its payload does not have?"""
    if payload is None or payload.form != form:
        return True
    if tail and not payload.tail:
        return True
    reach = [min(part.begin for part in parts) for parts in sources]
    return any(skip and begin < block.begin + skip for skip, begin in zip(payload.skipped, reach, strict=True))


def _found(path: list[Block], count: int, known: int) -> Found:
    return Found(path, count, known, [(block.begin, block.payload) for block in path if block.payload])
