"""What is being read from disk for prompts that wait for it. Blocks that were not there once are not asked for again."""

import logging
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Final

from corral.engine.llamacpp.worker.cache.disk import Disk
from corral.engine.llamacpp.worker.cache.shelf import Name, Stored
from corral.engine.llamacpp.worker.cache.tree import SIZE, Block, BlockTree, key_of

log: Final = logging.getLogger(__name__)
_LEAST: Final = 64  # tokens that are worth reading from disk
_PATIENCE_S: Final = 10.0  # that a job waits for the disk
_MOST_VAIN: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Read:
    tokens: tuple[int, ...]
    kind: Hashable
    chain: list[tuple[Name, bool]]
    future: "Future[list[Stored]]"
    began_s: float


class Reading:
    """`wants_tail`: only blocks that end with a state are of use. No more of a prompt is read than RAM may have of all."""

    def __init__(
        self,
        tree: BlockTree,
        disk: Disk,
        *,
        wants_tail: bool,
        budget_bytes: Callable[[], int],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tree = tree
        self._disk = disk
        self._wants_tail = wants_tail
        self._budget_bytes = budget_bytes
        self._now_s = now_s
        self._reads: dict[bytes, _Read] = {}  # by the key of the chain's last block, or of what the prompt has there
        self._vain: set[bytes] = set()

    def wait(self, within_s: float) -> None:
        """Until something has been read, or so long."""
        if self._reads:
            wait([read.future for read in self._reads.values()], within_s, return_when=FIRST_COMPLETED)

    @property
    def is_busy(self) -> bool:
        return any(not read.future.done() for read in self._reads.values())

    @property
    def is_owed(self) -> bool:
        """Something was read that nobody has taken, or will be soon, whether its prompt still waits or not."""
        now_s = self._now_s()
        return any(read.future.done() or now_s - read.began_s < _PATIENCE_S for read in self._reads.values())

    def begin(self, tokens: Sequence[int], kind: Hashable, *, beyond: int) -> bool:
        """Has blocks of these tokens read, where RAM lacks some that are worth it. True while the prompt should wait."""
        chain, is_cut = self._chain(tokens, kind)
        if is_cut:
            tokens = tokens[: len(chain) * SIZE]
        if len(chain) * SIZE - beyond < _LEAST or not (self._wants_tail or any(is_wanted for _, is_wanted in chain)):
            return False
        key = chain[-1][0].key
        if self._wants_tail:  # which is not of a full block most of the time
            key = key_of(key, tokens[len(chain) * SIZE :][:SIZE])
        if read := self._reads.get(key):
            return self._now_s() - read.began_s < _PATIENCE_S
        if key in self._vain:
            return False
        rest = tokens if self._wants_tail else tokens[len(chain) * SIZE :][:SIZE]
        future = self._disk.read(chain, rest, wants_tail=self._wants_tail)
        self._reads[key] = _Read(tuple(tokens), kind, chain, future, self._now_s())
        return True

    def take(self) -> bool:
        """Puts what has been read into the tree; false where that is nothing."""
        done = [key for key, read in self._reads.items() if read.future.done()]
        for key in done:
            read = self._reads.pop(key)
            error = read.future.exception()
            if error:
                log.error("blocks of the prefix cache could not be read", exc_info=error)
            if error or not self._put(read, read.future.result()) or self._wants_tail:
                self._vain = {key} if len(self._vain) >= _MOST_VAIN else self._vain | {key}
        return bool(done)

    def forgive(self) -> None:
        """Blocks have left RAM: what was read in vain, or brought nothing more, may be worth reading again."""
        self._vain.clear()

    def _chain(self, tokens: Sequence[int], kind: Hashable) -> tuple[list[tuple[Name, bool]], bool]:
        """The full blocks of these tokens that are in RAM or on disk, without a gap; and whether they are only on disk.

        Also whether there are more of them than RAM has room for.
        """
        walk = self._tree.walk(tokens, kind)
        in_ram = {block.begin: block for block in walk.path if block.is_full and block.payload and block.end <= walk.known}
        key, chain, size_bytes, budget_bytes = self._tree.root_key(kind), list[tuple[Name, bool]](), 0, -1
        for begin in range(0, len(tokens) - SIZE + 1, SIZE):
            block = in_ram.get(begin)
            own = block.key if block else key_of(key, tokens[begin : begin + SIZE])
            block_bytes = block.payload.size_bytes if block and block.payload else self._disk.size_of(key, own)
            if not block and not block_bytes:
                break
            size_bytes += block_bytes
            if not block:
                budget_bytes = self._budget_bytes() if budget_bytes < 0 else budget_bytes
                if size_bytes > budget_bytes:
                    return chain, True
            chain.append((Name(key, own, SIZE, has_tail=False), block is None))
            key = own
        return chain, False

    def _put(self, read: _Read, stored: Sequence[Stored]) -> bool:
        """False where something is missing that was to be there."""
        by_key = {block.key: block for block in stored}
        node, nodes = self._tree.root(read.kind), dict[bytes, Block]()
        nodes[node.key] = node
        is_whole = bool(stored)
        for number, (name, is_wanted) in enumerate(read.chain):
            node = self._tree.child(node, read.tokens[number * SIZE : (number + 1) * SIZE])
            nodes[node.key] = node
            if not is_wanted:
                continue
            found = by_key.pop(name.key, None)
            if found is None or found.tokens != node.tokens:
                is_whole = is_whole and self._wants_tail
                break
            self._keep(node, found)
        for found in by_key.values():
            if parent := nodes.get(found.parent):
                self._keep(self._tree.child(parent, found.tokens), found)
        self._tree.prune(node)
        return is_whole

    def _keep(self, block: Block, found: Stored) -> None:
        if block.payload is None:
            self._tree.put(block, found.payload)
            block.is_stored = True
