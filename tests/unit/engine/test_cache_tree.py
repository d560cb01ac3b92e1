"""Blocks of tokens in a tree: what is found, what goes first."""

import numpy as np

from corral.engine.llamacpp.worker.cache.payloads import Payload
from corral.engine.llamacpp.worker.cache.tree import SIZE, Block, BlockTree, pack, unpack

LONG = list(range(1000, 1200))


def payload(size: int = 100, tail: bytes = b"") -> Payload:
    return Payload((), SIZE, (), np.zeros(size, np.uint8), tail)


def put(tree: BlockTree, tokens: list[int], *, kind: object = (), tail: bytes = b"") -> list[Block]:
    path = tree.extend(tokens, kind)
    for block in path:
        if not block.payload:
            tree.put(block, payload(tail=tail if block is path[-1] else b""))
    tree.touch(path)
    return path


def known(tree: BlockTree, tokens: list[int], kind: object = ()) -> int:
    return tree.walk(tokens, kind).known


def test_numbers_of_any_size_are_packed() -> None:
    tokens = (0, 5, 2**31, -1 - 2**119)
    assert unpack(pack(tokens)) == tokens


def test_sequences_share_the_blocks_of_what_they_have_in_common() -> None:
    tree = BlockTree()
    one = put(tree, [*LONG, 1])
    two = put(tree, [*LONG, 2])
    assert [a is b for a, b in zip(one, two, strict=True)] == [True, True, True, False]
    assert tree.size_bytes == 500


def test_what_a_prompt_has_in_common_ends_inside_of_a_block() -> None:
    tree = BlockTree()
    put(tree, LONG)
    walk = tree.walk([*LONG[:100], 7], ())
    assert (walk.known, [block.begin for block in walk.path]) == (100, [0, 64])
    assert known(tree, [7]) == 0


def test_sequences_of_another_kind_have_nothing_in_common() -> None:
    tree = BlockTree()
    one = put(tree, LONG, kind=(1.0,))
    two = put(tree, LONG, kind=(0.5,))
    assert known(tree, LONG) == 0
    assert {block.key for block in one}.isdisjoint(block.key for block in two)


def test_keys_depend_on_the_model_and_all_tokens_before() -> None:
    keys = {put(BlockTree(identity), [first, *LONG])[-1].key for identity in (b"a", b"b") for first in (1, 2)}
    assert len(keys) == 4


def test_a_longer_sequence_takes_the_place_of_the_end_of_a_shorter_one() -> None:
    tree = BlockTree()
    put(tree, LONG[:100])
    put(tree, LONG)
    assert tree.size_bytes == 400
    assert known(tree, LONG[:100]) == 100


def test_the_end_of_a_sequence_stays_where_it_has_a_state_of_its_own() -> None:
    tree = BlockTree()
    end = put(tree, LONG[:100], tail=b"state")[-1]
    put(tree, LONG)
    assert end.payload
    assert end in tree.walk(LONG, ()).ends


def test_what_was_used_longest_ago_goes_first_and_ends_before_beginnings() -> None:
    gone = list[int]()
    tree = BlockTree(on_leave=lambda block: gone.append(block.tokens[0]))
    put(tree, [*LONG, 1])
    put(tree, [*LONG, 2])
    other = [*range(5000, 5128)]
    put(tree, other)
    tree.touch(tree.walk(LONG, ()).path)
    tree.shrink(400)
    assert gone == [LONG[192], 5064, 5000]
    assert known(tree, LONG) == 200
    tree.shrink(0)
    assert tree.size_bytes == 0
    assert known(tree, LONG) == 0
    assert gone.index(LONG[128]) < gone.index(LONG[64]) < gone.index(LONG[0])


def test_a_block_that_is_removed_takes_along_what_comes_after_it() -> None:
    tree = BlockTree()
    path = put(tree, list(range(64 * 3000)))
    tree.remove(path[1])
    assert known(tree, list(range(1000))) == 64
    assert tree.size_bytes == 100
