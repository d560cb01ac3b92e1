"""The disk tier's threads: one writes blocks behind the engine's back, one reads them while the job that wants them waits.

Writing has the lowest priority that the system knows, so that it takes no core away from a step; what waits to be written is
bounded, and what there is no room for is written another time, or never. Reading is asked for with a chain of blocks, and also
finds the short ones behind it.
"""

import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from corral.engine.llamacpp.worker.batch.radix import common_length
from corral.engine.llamacpp.worker.cache.payloads import Payload
from corral.engine.llamacpp.worker.cache.private import UntrustedError
from corral.engine.llamacpp.worker.cache.shelf import Name, Shelf, Stored
from corral.engine.llamacpp.worker.cache.tree import SIZE, Block

log: Final = logging.getLogger(__name__)
_MOST_WAITING: Final = 256 << 20  # bytes to be written
_MOST_NOTED: Final = 20_000  # names of files to be touched or deleted; what is not is found by the sweep
_SWEEP_SHARE: Final = 16  # of the budget, the part that is written before all files are counted again
_LEAST_PART: Final = 8  # tokens of a block that are worth reading it
_MOST_LOOKS: Final = 256  # blocks whose tokens are looked at for one prompt
_REST_S: Final = 60.0  # after an error, which is a full disk most of the time
_NICEST: Final = 19


@dataclass(frozen=True, slots=True)
class _Write:
    """The payload as it was when this was asked for; the block may lose it, or get another one."""

    name: Name
    block: Block
    payload: Payload


@dataclass(frozen=True, slots=True)
class _Note:
    """Of files that are there: they are used, or nobody will want them any more."""

    names: list[Name]
    are_gone: bool = False


class Disk:
    """Owns both threads, which end with the process. It marks blocks as stored, and takes that back where it cannot be done."""

    def __init__(self, shelf: Shelf, *, budget_bytes: int, now_s: Callable[[], float] = time.monotonic) -> None:
        self._shelf = shelf
        self._now_s = now_s
        self._budget_bytes = budget_bytes
        self._writes: deque[_Write | _Note] = deque()
        self._rests_until_s = 0.0
        self._waiting_bytes = 0
        self._noted = 0
        self._unswept_bytes = budget_bytes  # since all files were counted; by others, at first
        self._news = threading.Condition()
        self._is_writing = False
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="cache-reader")
        threading.Thread(target=self._write_all, name="cache-writer", daemon=True).start()

    def size_of(self, parent: bytes, key: bytes) -> int:
        """Bytes of the file of the full block of that key; 0 where there is none."""
        names = (Name(parent, key, SIZE, has_tail) for has_tail in (False, True))
        return next((size for name in names if (size := self._shelf.size_of(name))), 0)

    def save(self, block: Block) -> None:
        """Has the block written, and marks it, unless too much waits for that."""
        assert block.payload
        assert block.parent
        with self._news:
            if self._now_s() < self._rests_until_s or self._waiting_bytes + block.payload.size_bytes > _MOST_WAITING:
                return
            block.is_stored = True
            self._waiting_bytes += block.payload.size_bytes
            self._writes.append(_Write(_name(block), block, block.payload))
            self._news.notify_all()

    def use(self, path: Sequence[Block]) -> None:
        """Notes that these blocks are used now."""
        self._note(_Note([_name(block) for block in path if block.payload]))

    def forget(self, blocks: Sequence[Block]) -> None:
        """Has the blocks' files deleted, as others hold what they do."""
        self._note(_Note([_name(block) for block in blocks], are_gone=True))

    def _note(self, note: _Note) -> None:
        with self._news:
            if not note.names or self._noted + len(note.names) > _MOST_NOTED:  # the disk hangs
                return
            self._noted += len(note.names)
            self._writes.append(note)
            self._news.notify_all()

    def read(self, chain: Sequence[tuple[Name, bool]], rest: Sequence[int], *, wants_tail: bool) -> "Future[list[Stored]]":
        """Reads those blocks of the chain that are wanted, and the one behind it that has most of the `rest` of the prompt.

        With `wants_tail` that is the longest one with a tail that the prompt begins with, anywhere along the chain, of which
        `rest` are all tokens then.
        """
        if wants_tail:
            return self._reader.submit(self._read_to_tail, list(chain), tuple(rest))
        return self._reader.submit(self._read_chain, list(chain), tuple(rest))

    def flush(self, within_s: float) -> bool:
        """Writes all that waits for it here and now, but for no longer than that; false where something is left."""
        until_s = time.monotonic() + within_s
        while time.monotonic() < until_s:
            if (task := self._next()) is None:
                break
            self._do(task)
        with self._news:
            while self._is_writing and (left_s := until_s - time.monotonic()) > 0:
                self._news.wait(left_s)
            return not (self._writes or self._is_writing)

    # Writing

    def _write_all(self) -> None:
        _be_nice()
        while True:
            with self._news:
                self._is_writing = False
                self._news.notify_all()
                while not self._writes:
                    self._news.wait()
                task = self._next()
                self._is_writing = True
            if task:
                self._do(task)

    def _next(self) -> _Write | _Note | None:
        with self._news:
            if not self._writes:
                return None
            task = self._writes.popleft()
            if isinstance(task, _Write):
                self._waiting_bytes -= task.payload.size_bytes
            else:
                self._noted -= len(task.names)
            return task

    def _do(self, task: _Write | _Note) -> None:
        if isinstance(task, _Note):
            (self._shelf.remove if task.are_gone else self._shelf.use)(task.names)
            return
        self._unswept_bytes += self._write(task)
        if self._unswept_bytes > self._budget_bytes // _SWEEP_SHARE:
            self._unswept_bytes = 0
            self._shelf.sweep()

    def _write(self, task: _Write) -> int:
        try:
            return self._shelf.write(task.name, task.block.tokens, task.payload)
        except UntrustedError as error:
            log.warning("the prefix cache is not written to disk any more: %s", error)
            self._give_up(task, math.inf)
        except OSError as error:
            log.warning("the prefix cache cannot be written to disk, which is tried again in a minute: %s", error)
            self._give_up(task, _REST_S)
        return 0

    def _give_up(self, failed: _Write, rest_s: float) -> None:
        """What waits to be written gives its memory back. Blocks that are in RAM still are asked for again some time."""
        with self._news:
            self._rests_until_s = self._now_s() + rest_s
            for task in (failed, *self._writes):
                if isinstance(task, _Write):
                    task.block.is_stored = False
            self._writes = deque(task for task in self._writes if isinstance(task, _Note))
            self._waiting_bytes = 0

    # Reading

    def _read_chain(self, chain: list[tuple[Name, bool]], rest: tuple[int, ...]) -> list[Stored]:
        found: list[Stored] = []
        for name, is_wanted in chain:
            if not is_wanted:
                continue
            block = self._either(name)
            if block is None:
                return found
            found.append(block)
        if rest and chain and (last := self._longest_part(chain[-1][0].key, rest)):
            found.append(last)
        return found

    def _either(self, name: Name) -> Stored | None:
        """The block with or without a tail."""
        return self._shelf.read(name) or self._shelf.read(Name(name.parent, name.key, name.count, has_tail=True))

    def _longest_part(self, parent: bytes, rest: tuple[int, ...]) -> Stored | None:
        """The block after that one which has the longest beginning in common with the rest, if any is long enough."""
        best, most = None, _LEAST_PART - 1
        for name in self._shelf.after(parent)[:_MOST_LOOKS]:
            tokens = self._shelf.tokens(name)
            if tokens and (shared := common_length(tokens, rest)) > most:
                best, most = name, shared
        return self._shelf.read(best) if best else None

    def _read_to_tail(self, chain: list[tuple[Name, bool]], tokens: tuple[int, ...]) -> list[Stored]:
        parents = [chain[0][0].parent, *(name.key for name, _ in chain)]
        looks = _MOST_LOOKS
        for depth in range(len(parents) - 1, -1, -1):
            begin = depth * SIZE
            ends = [name for name in self._shelf.after(parents[depth]) if name.has_tail and begin + name.count <= len(tokens)]
            for name in sorted(ends, key=lambda name: name.count, reverse=True)[:looks]:
                looks -= 1
                if self._shelf.tokens(name) != tokens[begin : begin + name.count]:
                    continue
                before = self._read_chain(chain[:depth], ())
                wanted = sum(is_wanted for _, is_wanted in chain[:depth])
                last = self._shelf.read(name) if len(before) == wanted else None
                if last:
                    return [*before, last]
        return []


def _name(block: Block) -> Name:
    assert block.parent
    return Name(block.parent.key, block.key, len(block.tokens), bool(block.payload and block.payload.tail))


def _be_nice() -> None:
    """This thread runs where nobody else wants the core."""
    if hasattr(os, "setpriority"):
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICEST)
        except OSError:
            log.debug("the thread that writes the prefix cache keeps its priority")
