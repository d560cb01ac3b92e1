"""Which tokens are kept, in blocks of a few: a tree whose paths are the beginnings of sequences. Pure.

A block has up to `SIZE` tokens; what comes after a full one is among its children, a shorter one is the end of a sequence that
was kept. So conversations with the same beginning share its blocks, and a longer one adds only what is new. A block's key is a
digest of all tokens up to its end, of the kind they were computed in, and of the model: two that differ in any of it never have
the same one (128 bits of BLAKE2b; a billion blocks have one such pair with a chance of one in 10^20).
Blocks are forgotten in the order in which they were last used, an end before what comes before it.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from corral.engine.llamacpp.worker.batch.radix import common_length
from corral.engine.llamacpp.worker.cache.payloads import Payload

SIZE: Final = 64  # tokens of a full block
_KEY_BYTES: Final = 16
_TOKEN_BYTES: Final = 16  # the number of an image's tokens is as large as that


@dataclass(slots=True, eq=False)
class Block:
    """`begin`: tokens before it. Its payload is in RAM, if it has one; `is_stored`: it is on disk as well."""

    key: bytes
    parent: "Block | None"
    tokens: tuple[int, ...]
    begin: int
    children: dict[int, list["Block"]] = field(default_factory=dict)  # by first token
    payload: Payload | None = None
    is_stored: bool = False

    @property
    def end(self) -> int:
        return self.begin + len(self.tokens)

    @property
    def is_full(self) -> bool:
        return len(self.tokens) == SIZE

    def path(self) -> list["Block"]:
        """From the first block of the sequence to this one."""
        found: list[Block] = []
        block: Block | None = self
        while block and block.parent:
            found.append(block)
            block = block.parent
        return found[::-1]


@dataclass(frozen=True, slots=True)
class Walk:
    """The blocks that a sequence has in common with those that are kept; of the last one maybe a part only.

    `known`: tokens in common. `ends`: blocks that are whole in it, the longest beginnings last, also those side by side.
    """

    path: list[Block]
    known: int
    ends: list[Block]


def pack(tokens: Sequence[int]) -> bytes:
    return b"".join([token.to_bytes(_TOKEN_BYTES, "little", signed=True) for token in tokens])


def unpack(data: bytes) -> tuple[int, ...]:
    return tuple(
        int.from_bytes(data[at : at + _TOKEN_BYTES], "little", signed=True) for at in range(0, len(data), _TOKEN_BYTES)
    )


def key_of(parent: bytes, tokens: Sequence[int]) -> bytes:
    return hashlib.blake2b(parent + pack(tokens), digest_size=_KEY_BYTES).digest()


class BlockTree:
    """Owns the payloads in RAM. `on_leave` hears of each block whose payload is about to go."""

    def __init__(self, identity: bytes = b"", on_leave: Callable[[Block], None] = lambda _block: None) -> None:
        self._identity = identity
        self._on_leave = on_leave
        self._roots: dict[bytes, Block] = {}  # by key; only those with blocks, as kinds are whatever requests say
        self._used: OrderedDict[bytes, Block] = OrderedDict()  # those with a payload; used longest ago first
        self.size_bytes = 0

    def root_key(self, kind: Hashable) -> bytes:
        return hashlib.blake2b(self._identity + repr(kind).encode(), digest_size=_KEY_BYTES).digest()

    def root(self, kind: Hashable) -> Block:
        """Where sequences of that kind begin, to put blocks there; `prune` forgets it where none stay."""
        key = self.root_key(kind)
        return self._roots.setdefault(key, Block(key, None, (), 0))

    def walk(self, tokens: Sequence[int], kind: Hashable) -> Walk:
        rest = tuple(tokens)
        block, path, ends, known = self._roots.get(self.root_key(kind)), list[Block](), list[Block](), 0
        while block and known < len(rest):
            part = rest[known : known + SIZE]
            best, most = None, 0
            for child in block.children.get(part[0], ()):
                shared = common_length(child.tokens, part)
                if shared == len(child.tokens):
                    ends.append(child)
                if shared > most or (shared == most and child.is_full):
                    best, most = child, shared
            if best is None:
                break
            path.append(best)
            known += most
            if most < SIZE:
                break
            block = best
        ends.sort(key=lambda end: end.end)
        return Walk(path, known, ends)

    def extend(self, tokens: Sequence[int], kind: Hashable) -> list[Block]:
        """The path of all these tokens, with blocks that have no payload yet for what was not there."""
        rest = tuple(tokens)
        block, path = self.root(kind), list[Block]()
        for begin in range(0, len(rest), SIZE):
            block = self.child(block, rest[begin : begin + SIZE])
            path.append(block)
        return path

    def child(self, parent: Block, tokens: tuple[int, ...]) -> Block:
        """The block of exactly these tokens there, a new one if need be."""
        siblings = parent.children.setdefault(tokens[0], [])
        for sibling in siblings:
            if sibling.tokens == tokens:
                return sibling
        block = Block(key_of(parent.key, tokens), parent, tokens, parent.end)
        siblings.append(block)
        return block

    def put(self, block: Block, payload: Payload) -> list[Block]:
        """Keeps the block's payload, in the place of one that it has. Shorter blocks beside it that it covers go: these."""
        self._drop_payload(block)
        block.payload = payload
        block.is_stored = False
        self.size_bytes += payload.size_bytes
        self._used[block.key] = block
        covered = self._covered_by(block)
        for sibling in covered:
            self.remove(sibling)
        return covered

    def touch(self, path: Sequence[Block]) -> None:
        """These blocks are used now; the first one is the last to go."""
        for block in reversed(path):
            if block.payload:
                self._used.move_to_end(block.key)

    def shrink(self, size_bytes: int) -> None:
        """Lets payloads go until they take no more than this."""
        while self.size_bytes > size_bytes and self._used:
            self.leave(next(iter(self._used.values())))

    def leave(self, block: Block) -> None:
        """The block's payload goes from RAM."""
        self._on_leave(block)
        self._drop_payload(block)
        self.prune(block)

    def remove(self, block: Block) -> None:
        """Forgets the block; what comes after it cannot be reached any more."""
        gone = [block]
        for each in gone:  # which grows on the way
            gone += [child for children in each.children.values() for child in children]
        for each in reversed(gone):
            self._drop_payload(each)
            self.prune(each)

    def prune(self, block: Block) -> None:
        """Takes blocks out that are kept nowhere, from the end of a path."""
        while block.parent and not (block.payload or block.children):
            siblings = block.parent.children[block.tokens[0]]
            siblings.remove(block)
            if not siblings:
                del block.parent.children[block.tokens[0]]
            block = block.parent
        if not (block.parent or block.children):
            self._roots.pop(block.key, None)

    def __iter__(self) -> Iterator[Block]:
        """Those with a payload, used last first."""
        return iter(list(reversed(self._used.values())))

    def _drop_payload(self, block: Block) -> None:
        if block.payload:
            self.size_bytes -= block.payload.size_bytes
            block.payload = None
            del self._used[block.key]

    def _covered_by(self, block: Block) -> list[Block]:
        """Shorter blocks at the same place that it begins with, and that have no state of their own."""
        assert block.parent
        size = len(block.tokens)
        siblings = block.parent.children[block.tokens[0]]
        return [
            other
            for other in siblings
            if len(other.tokens) < size
            and other.tokens == block.tokens[: len(other.tokens)]
            and not (other.payload and other.payload.tail)
        ]
