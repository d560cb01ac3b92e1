"""Steps that are filled up with tokens of idle sequences: which ones, and that nothing of it stays."""

from tests.support.toy_engine import Toy, answer


class Always:
    """Fills up to a multiple of four."""

    def __init__(self) -> None:
        self.learned: list[tuple[int, int, bool]] = []

    def wanted(self, running: int, gaps: int) -> int:
        return -(-(running + gaps) // 4) * 4 - running

    def is_worth_it(self, running: int, gaps: int) -> bool:
        return True

    def learn(self, running: int, gaps: int, elapsed_s: float, *, is_filled: bool) -> None:
        self.learned.append((running, gaps, is_filled))


def sequences(toy: Toy) -> list[int]:
    """Of the last batch, in its order."""
    return [sequence for sequence, _, _ in toy.context.batches[-1]]


def test_a_step_that_only_draws_is_filled_up_with_idle_slots() -> None:
    toy = Toy(filling=Always())
    toy.submit("abc")
    toy.step(2)
    assert sequences(toy) == [0, 1, 2, 3]
    assert list(toy.context.kv) == [0]


def test_a_step_that_reads_a_prompt_is_not() -> None:
    filling = Always()
    toy = Toy(filling=filling)
    toy.submit("abc")
    toy.step(1)
    assert sequences(toy) == [0]
    assert filling.learned == []


def test_a_gap_is_closed_in_order() -> None:
    toy = Toy(filling=Always())
    first, second, third = (toy.submit(text, num_predict=200) for text in ("abc", "xyz", "uvw"))
    toy.step(2)
    toy.batcher.cancel(second)
    toy.step(1)
    assert sequences(toy) == [0, 1, 2, 3]
    assert {toy.outcomes[first].is_over, toy.outcomes[third].is_over} == {False}


def test_what_is_parked_beside_stays_as_it_is() -> None:
    toy = Toy(filling=Always())
    toy.run("first talk", num_predict=3)
    parked = list(toy.context.kv[0])
    other = toy.run("quite another one, which is longer", num_predict=10)
    assert other.text == answer("quite another one, which is longer", num_predict=10)[0]
    assert toy.context.kv[0] == parked


def test_a_parked_slot_that_holds_more_than_all_that_run_is_left_alone() -> None:
    toy = Toy(filling=Always())
    toy.run("a very long conversation " * 20, num_predict=3)
    toy.submit("short", num_predict=3)
    toy.step(2)
    assert len(sequences(toy)) == 1


def test_a_batch_that_fails_leaves_idle_slots_empty() -> None:
    toy = Toy(filling=Always())
    toy.submit("abc")
    toy.step(2)
    toy.context.failures = 1
    toy.step(1)
    assert toy.context.kv == {}


def test_memory_that_cannot_drop_a_token_is_never_filled_up() -> None:
    toy = Toy(filling=Always(), can_drop=False)
    toy.submit("abc")
    toy.step(2)
    assert sequences(toy) == [0]


def test_what_it_took_is_learned() -> None:
    filling = Always()
    toy = Toy(filling=filling)
    toy.submit("abc")
    toy.step(3)
    assert filling.learned == [(1, 0, True), (1, 0, True)]
