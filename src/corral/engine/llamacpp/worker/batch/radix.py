"""Which sequences hold which prefix: a radix tree over token ids.

An edge carries a run of tokens; a node knows the sequences whose tokens pass through it. So the longest prefix that a prompt
shares with any sequence is found in one walk, however many sequences there are. Pure; the caller knows how much of a
sequence is computed, the tree only what its tokens are. What is computed of the same tokens may differ for another reason, the
model's adapters: keys of different kinds have nothing in common.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class _Node(Generic[K]):
    run: tuple[int, ...]
    holders: set[K] = field(default_factory=set)
    children: dict[int, "_Node[K]"] = field(default_factory=dict)


def common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences have in common at their beginnings."""
    size = min(len(a), len(b))
    if a[:size] == b[:size]:
        return size
    low, high = 0, size  # the first `low` are equal, the first `high` are not: halving compares slices, at C speed
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low


class RadixTree(Generic[K]):
    """Keys (sequences) with their tokens. Each key is there once."""

    def __init__(self) -> None:
        self._roots: defaultdict[Hashable, _Node[K]] = defaultdict(lambda: _Node(()))  # by kind
        self._tokens: dict[K, tuple[int, ...]] = {}
        self._kinds: dict[K, Hashable] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._tokens

    def kind(self, key: K) -> Hashable:
        """Of a key that is there."""
        return self._kinds[key]

    def tokens(self, key: K) -> tuple[int, ...]:
        """Of a key that is there."""
        return self._tokens[key]

    def put(self, key: K, tokens: Sequence[int], kind: Hashable = ()) -> None:
        """Holds these tokens for the key, instead of those it had."""
        self.remove(key)
        rest = self._tokens[key] = tuple(tokens)
        self._kinds[key] = kind
        node = self._roots[kind]
        node.holders.add(key)
        while rest:
            child = node.children.get(rest[0])
            if child is None:
                node.children[rest[0]] = _Node(rest, {key})
                return
            shared = common_length(child.run, rest)
            if shared < len(child.run):
                child = self._split(node, child, shared)
            child.holders.add(key)
            node, rest = child, rest[shared:]

    def remove(self, key: K) -> None:
        """Forgets the key; nothing happens where it is not there."""
        rest = self._tokens.pop(key, None)
        if rest is None:
            return
        kind = self._kinds.pop(key)
        node = self._roots[kind]
        node.holders.discard(key)
        if not node.holders:
            del self._roots[kind]
            return
        while rest:
            child = node.children[rest[0]]
            child.holders.discard(key)
            if not child.holders:
                del node.children[rest[0]]
                return
            node, rest = child, rest[len(child.run) :]

    def swap(self, a: K, b: K) -> None:
        """Each of the two keys holds what the other held, if anything."""
        ours, theirs = ((self._tokens.get(key), self._kinds.get(key)) for key in (a, b))
        for key, (tokens, kind) in ((a, theirs), (b, ours)):
            self.remove(key)
            if tokens is not None:
                self.put(key, tokens, kind)

    def longest(self, tokens: Sequence[int], kind: Hashable = ()) -> tuple[int, frozenset[K]]:
        """The length of the longest prefix of `tokens` that a key of that kind has, and the keys that have it.

        There are none for length 0.
        """
        rest, length = tuple(tokens), 0
        node = self._roots.get(kind)
        if node is None:
            return 0, frozenset()
        while rest and (child := node.children.get(rest[0])):
            shared = common_length(child.run, rest)
            length += shared
            node, rest = child, rest[shared:]
            if shared < len(child.run):
                break
        return length, frozenset(node.holders) if length else frozenset()

    def _split(self, parent: _Node[K], child: _Node[K], at: int) -> _Node[K]:
        upper = _Node(child.run[:at], set(child.holders), {child.run[at]: child})
        child.run = child.run[at:]
        parent.children[upper.run[0]] = upper
        return upper
