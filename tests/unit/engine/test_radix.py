from hypothesis import given
from hypothesis import strategies as st

from corral.engine.llamacpp.worker.batch.radix import RadixTree, common_length

token_lists = st.lists(st.integers(0, 2), max_size=8)
steps = st.lists(st.tuples(st.integers(0, 5), st.none() | token_lists), max_size=25)


def shared(a: list[int], b: list[int]) -> int:
    for at, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return at
    return min(len(a), len(b))


@given(token_lists, token_lists)
def test_common_length_is_that_of_a_plain_loop(a: list[int], b: list[int]) -> None:
    assert common_length(a, b) == shared(a, b)


@given(steps, token_lists)
def test_tree_finds_what_a_plain_search_finds(changes: list[tuple[int, list[int] | None]], prompt: list[int]) -> None:
    tree: RadixTree[int] = RadixTree()
    plain: dict[int, list[int]] = {}
    for key, tokens in changes:
        if tokens is None:
            tree.remove(key)
            plain.pop(key, None)
        else:
            tree.put(key, tokens)
            plain[key] = tokens

        lengths = {key: shared(held, prompt) for key, held in plain.items()}
        longest = max(lengths.values(), default=0)
        holders = frozenset(key for key, length in lengths.items() if longest and length == longest)
        assert tree.longest(prompt) == (longest, holders)
        for key, held in plain.items():
            length, holding = tree.longest(held)
            assert key in tree
            assert length == len(held)
            assert key in holding or not held
    for key in list(plain):
        tree.remove(key)
    assert not tree._roots  # nothing of what was removed stays in memory


def test_tree_gives_no_holder_where_nothing_is_shared() -> None:
    tree: RadixTree[str] = RadixTree()
    tree.put("a", [1, 2, 3])
    assert tree.longest([4]) == (0, frozenset())
    assert tree.longest([]) == (0, frozenset())


def test_tree_gives_all_holders_of_the_longest_prefix_only() -> None:
    tree: RadixTree[str] = RadixTree()
    tree.put("a", [1, 2, 3, 4])
    tree.put("b", [1, 2, 3, 5])
    tree.put("c", [1, 2])
    assert tree.longest([1, 2, 3, 9]) == (3, frozenset({"a", "b"}))
    assert tree.longest([1, 2]) == (2, frozenset({"a", "b", "c"}))
    assert tree.longest([1, 2, 3, 4, 5]) == (4, frozenset({"a"}))


def test_key_that_is_put_again_loses_its_old_tokens() -> None:
    tree: RadixTree[str] = RadixTree()
    tree.put("a", [1, 2, 3])
    tree.put("a", [1, 9])
    assert tree.longest([1, 2, 3]) == (1, frozenset({"a"}))
    assert tree.longest([1, 9]) == (2, frozenset({"a"}))


def test_removing_an_unknown_key_changes_nothing() -> None:
    tree: RadixTree[str] = RadixTree()
    tree.put("a", [1])
    tree.remove("b")
    assert "a" in tree
    assert "b" not in tree
