"""Slots alone: what is reused, copied, given up. Prompts are computed by hand."""

from collections.abc import Sequence
from typing import Any

import pytest

from corral.core.errors import EngineError, ModelLoadError
from corral.engine.llamacpp.worker.batch.memory import KvMemory
from corral.engine.llamacpp.worker.batch.place import Delay, Place
from corral.engine.llamacpp.worker.batch.slots import SlotTable
from tests.support.toy_engine import ToyContext

SYSTEM = list(range(40))  # long enough to be worth a copy
LONG = list(range(200))  # long enough to be worth waiting for


class Table:
    """A slot table whose contexts are at hand. Small helpers do what a batcher would."""

    def __init__(
        self, *, first: int = 2, most: int = 2, cells: int = 1024, memory_for: int = 1_000_000, **context: Any
    ) -> None:
        self.made: list[ToyContext] = []
        self.tries = 0
        self.memory_for = memory_for
        self.settings = context
        memory = KvMemory(self._make, sequences=first, cells=cells, most_sequences=most, most_cells=1024)
        self.slots = SlotTable(memory, can_drop=context.get("can_drop", True))

    @property
    def context(self) -> ToyContext:
        return self.made[-1]

    def _make(self, sequences: int, cells: int) -> ToyContext:
        self.tries += 1
        if sequences * cells > self.memory_for:
            raise ModelLoadError("no memory")
        self.made.append(ToyContext(sequences, cells, num_batch=2000, **self.settings))
        return self.made[-1]

    def try_place(self, tokens: Sequence[int]) -> Place | None:
        place = self.slots.place(tokens, room=len(tokens))
        if isinstance(place, Delay):
            return None
        assert self.context.kv.get(place.slot, []) == list(tokens[: place.reused])
        return place

    def place(self, tokens: Sequence[int]) -> Place:
        place = self.try_place(tokens)
        assert place is not None
        return place

    def compute(self, place: Place, tokens: Sequence[int], count: int | None = None) -> None:
        """What is missing of the first `count` tokens (all but the last, which is computed with the first draw)."""
        count = len(tokens) - 1 if count is None else count
        self.context.add(place.slot, tokens[place.reused : count], place.reused)
        self.context.decode()
        self.slots.computed(place.slot, count)

    def run(self, prompt: Sequence[int], answer: Sequence[int] = ()) -> Place:
        """A whole job: its prompt placed, computed with the answer, and parked."""
        tokens = [*prompt, *answer]
        place = self.place(prompt)
        self.compute(place, tokens, len(tokens))
        self.slots.park(place.slot, tokens, prompt_tokens=len(prompt))
        return place


def test_new_prompt_gets_a_slot_with_nothing_in_it() -> None:
    table = Table()
    assert table.place([1, 2, 3]).reused == 0


def test_prompt_that_goes_on_takes_the_parked_slot_in_place() -> None:
    table = Table()
    first = table.run([1, 2, 3, 4])
    assert table.place([1, 2, 3, 4, 5, 6]) == Place(first.slot, 4)
    assert not table.context.log


def test_last_token_of_a_prompt_is_never_reused() -> None:
    table = Table()
    first = table.run([1, 2, 3, 4])
    assert table.place([1, 2, 3, 4]) == Place(first.slot, 3)
    assert table.context.log == [("cut", first.slot, 3)]


def test_prompt_of_one_token_reuses_nothing() -> None:
    table = Table()
    table.run([1, 2, 3])
    assert table.place([1]).reused == 0


def test_prompt_that_leaves_the_parked_one_drops_its_tail() -> None:
    table = Table()
    first = table.run([1, 2, 3, 4])
    assert table.place([1, 2, 9, 9]) == Place(first.slot, 2)


def test_long_parked_tail_is_kept_and_the_shared_beginning_copied() -> None:
    table = Table()
    long = [*SYSTEM, *range(1000, 1300)]
    first = table.run(long)
    other = table.place([*SYSTEM, 7, 8, 9])
    assert other.slot != first.slot
    assert other.reused == 40
    assert table.context.kv[first.slot] == long


def test_prompt_without_the_answer_takes_the_parked_slot_however_long_the_answer_is() -> None:
    table = Table()
    first = table.run([*SYSTEM, 1], answer=range(1000, 1300))
    assert table.place([*SYSTEM, 1, 2]) == Place(first.slot, 41)


def test_short_beginning_of_a_long_parked_slot_is_not_worth_a_copy() -> None:
    table = Table()
    first = table.run([1, 2, 3, *LONG])
    other = table.place([1, 2, 3, 9])
    assert (other.slot != first.slot, other.reused) == (True, 0)
    assert len(table.context.kv[first.slot]) == 203


def test_running_slot_is_copied_never_taken() -> None:
    table = Table()
    prompt = [*SYSTEM, 1]
    running = table.place(prompt)
    table.compute(running, prompt)
    fork = table.place([*SYSTEM, 2])
    assert fork.slot != running.slot
    assert fork.reused == 40
    assert table.context.kv[running.slot] == SYSTEM


def test_short_beginning_of_a_running_slot_is_not_worth_a_copy() -> None:
    table = Table()
    running = table.place([1, 2, 3, 4])
    table.compute(running, [1, 2, 3, 4])
    assert table.place([1, 2, 3, 9]).reused == 0
    assert not table.context.log


def test_many_copies_of_one_slot_save_its_state_once() -> None:
    table = Table(first=4, most=4)
    prompt = [*SYSTEM, 1]
    table.compute(table.place(prompt), prompt)
    for last in (2, 3, 4):
        assert table.place([*SYSTEM, last]).reused == 40
    assert [entry[0] for entry in table.context.log].count("save") == 1


def test_saved_state_is_not_given_for_other_tokens_in_the_same_slot() -> None:
    table = Table(first=3, most=3)
    prompt, other = [*SYSTEM, 1], [*range(500, 540), 1]
    donor = table.place(prompt)
    table.compute(donor, prompt)
    fork = table.place([*SYSTEM, 2])  # the state of the donor, 40 tokens, is saved now
    table.slots.spoil(donor.slot)
    table.slots.park(donor.slot, prompt, prompt_tokens=41)
    again = table.place(other)
    assert again.slot == donor.slot
    table.compute(again, other)  # 40 tokens again
    assert table.place([*range(500, 540), 2]).reused == 40  # `place` checks what the copy holds
    assert table.context.kv[fork.slot] == SYSTEM


def test_saved_state_is_not_given_after_its_slot_went_on_with_other_tokens() -> None:
    table = Table(first=4, most=4)
    donor = table.run(LONG)
    table.place([*LONG[:100], 900])  # the state of the donor, 200 tokens, is saved now
    other = [*LONG[:190], *range(500, 511)]
    again = table.place(other)
    assert again == Place(donor.slot, 190)
    table.compute(again, other)  # 200 tokens again
    assert table.place([*other[:200], 9]).reused == 200  # `place` checks what the copy holds


def test_prompt_waits_for_a_long_beginning_that_is_being_computed() -> None:
    table = Table()
    running = table.place([*LONG, 1])
    assert table.slots.place([*LONG, 2], room=300) is Delay.AWAITED
    table.compute(running, [*LONG, 1], 100)
    assert table.slots.place([*LONG, 2], room=300) is Delay.AWAITED
    table.compute(Place(running.slot, 100), [*LONG, 1])
    assert table.place([*LONG, 2]).reused == 200


def test_prompt_does_not_wait_for_a_short_beginning() -> None:
    table = Table()
    table.place([*range(60), 1])
    assert table.place([*range(60), 2]).reused == 0


def test_prompt_does_not_wait_where_somebody_has_the_beginning_already() -> None:
    table = Table(first=3, most=3)
    parked = table.run([*LONG, 1])
    table.place([*LONG, 2, *LONG])
    # the parked slot was taken by the one that goes on in it, which holds 200 tokens from the start
    assert table.place([*LONG, 3]).reused == 200
    assert parked.slot in table.context.kv


def test_parked_slot_used_longest_ago_is_given_up() -> None:
    table = Table(first=3, most=3)
    a, b, c = ([base, base + 1, base + 2] for base in (100, 200, 300))
    table.run(a)
    table.run(b)
    table.run(c)
    table.run([*a, 1])
    table.run([7, 8, 9])  # gives up b
    assert table.place([*c, 1]).reused == 3
    assert table.place([*a, 2]).reused == 3
    assert table.place([*b, 1]).reused == 0


def test_donor_is_given_up_last() -> None:
    table = Table()
    donor = table.run([*SYSTEM, *range(1000, 1300)])
    newer = table.run([5, 6, 7])
    fork = table.place([*SYSTEM, 7])
    assert (fork.slot, fork.reused) == (newer.slot, 40)
    assert len(table.context.kv[donor.slot]) == 340


def test_donor_itself_is_taken_where_all_others_run() -> None:
    table = Table()
    donor = table.run([*SYSTEM, *range(1000, 1300)])
    table.place([5, 6, 7])
    assert table.place([*SYSTEM, 7]) == Place(donor.slot, 40)


# Growth


def test_growth_keeps_running_and_parked_sequences() -> None:
    table = Table(first=2, most=8)
    parked = table.run([1, 2, 3])
    prompt = [*range(50, 60)]
    running = table.place(prompt)
    table.compute(running, prompt)
    table.slots.expect(8)
    assert (len(table.made), table.context.sequences, table.made[0].is_closed) == (2, 8, True)
    assert table.context.kv[running.slot] == prompt[:-1]
    assert table.place([1, 2, 3, 4]) == Place(parked.slot, 3)


def test_growth_stops_at_the_most() -> None:
    table = Table(first=2, most=5)
    assert {table.place([base, base, base]).slot for base in range(5)} == set(range(5))
    assert table.context.sequences == 5


def test_cells_grow_for_a_longer_prompt_and_keep_what_was_there() -> None:
    table = Table(cells=16)
    parked = table.run([1, 2, 3])
    table.place([*range(100, 200)])
    assert 100 <= table.context.cells < 1024
    assert table.context.sequences == 2
    assert table.place([1, 2, 3, 4]) == Place(parked.slot, 3)


def test_cells_that_there_is_no_memory_for_are_refused_and_what_was_there_stays() -> None:
    table = Table(cells=16, memory_for=64)
    table.run([1, 2, 3])
    with pytest.raises(EngineError, match="not enough memory"):
        table.place([*range(100, 200)])
    assert table.place([1, 2, 3, 4]).reused == 3


@pytest.mark.parametrize("broken", ["restores", "saves"])
@pytest.mark.parametrize("memory_for", [2 * 16, 1_000_000], ids=["no-memory", "memory"])
def test_growth_that_loses_sequences_says_so(broken: str, memory_for: int) -> None:
    table = Table(first=2, most=8, cells=16, memory_for=memory_for, **{broken: False})
    table.run([1, 2, 3])
    prompt = [*range(50, 60)]
    running = table.place(prompt)
    table.compute(running, prompt)
    table.slots.expect(4)
    assert table.slots.held(running.slot) == 0
    assert table.place([1, 2, 3, 4]).reused == 0


def test_growth_that_loses_the_donor_gives_an_empty_slot() -> None:
    table = Table(first=1, most=4, restores=False)
    prompt = [*SYSTEM, 1]
    table.compute(table.place(prompt), prompt)
    assert table.place([*SYSTEM, 2]).reused == 0


def test_long_parked_conversations_are_worth_some_growth() -> None:
    table = Table(first=1, most=8)
    bases = (0, 1000, 2000, 3000, 4000)
    for base in bases:
        table.run([*range(base, base + 70)])
    assert table.context.sequences == 4
    assert [table.place([*range(base, base + 70), 9]).reused for base in bases[1:]] == [70] * 4


def test_short_parked_conversations_are_not_worth_growth() -> None:
    table = Table(first=1, most=8)
    for base in (0, 100, 200):
        table.run([base, base + 1])
    assert table.context.sequences == 1


@pytest.mark.parametrize("size", [3, 100], ids=["short", "long"])
def test_growth_without_memory_gives_up_a_parked_slot_instead(size: int) -> None:
    table = Table(first=2, most=8, memory_for=2 * 1024)
    table.run([*range(size)])
    second = table.run([*range(1000, 1000 + size)])
    assert table.place([7, 8, 9]).slot != second.slot
    assert table.context.sequences == 2


@pytest.mark.parametrize("prompt", [[7, 8, 9], [*SYSTEM, 3]], ids=["new", "shares-with-a-running-one"])
def test_prompt_waits_where_growth_fails_and_every_slot_runs(prompt: list[int]) -> None:
    table = Table(first=2, most=8, memory_for=2 * 1024)
    first = table.place([*SYSTEM, 1])
    table.compute(first, [*SYSTEM, 1])
    table.place([4, 5, 6])
    assert table.try_place(prompt) is None
    table.slots.park(first.slot, SYSTEM, prompt_tokens=41)
    assert table.try_place(prompt) is not None


def test_growth_that_failed_is_not_tried_again_and_again() -> None:
    table = Table(first=2, most=8, memory_for=2 * 1024)
    table.place([1, 2, 3])
    table.place([4, 5, 6])
    for _ in range(10):
        table.slots.expect(4)
        assert table.try_place([7, 8, 9]) is None
    assert table.tries <= 3  # the first one, one too large, and the first one's like again


@pytest.mark.parametrize("most", [1, 2])
def test_new_prompt_replaces_a_long_parked_one_where_memory_may_not_grow(most: int) -> None:
    table = Table(first=2, most=most)
    for base in (0, 1000, 2000):
        table.run([*range(base, base + 100)])
    assert table.context.sequences == most


# What may fail


def test_restore_that_fails_gives_an_empty_slot() -> None:
    table = Table(restores=False)
    prompt = [*SYSTEM, 1]
    table.compute(table.place(prompt), prompt)
    assert table.place([*SYSTEM, 2]).reused == 0


@pytest.mark.parametrize("last", [3, 9], ids=["in-place", "copied"])
def test_cut_that_lacks_what_comes_before_it_gives_an_empty_slot(last: int) -> None:
    table = Table(cuts=False)
    tail = [] if last == 3 else [*range(1000, 1300)]
    table.run([*SYSTEM, 1, 2, *tail])
    assert table.place([*SYSTEM, 1, last]).reused == 0


def test_save_that_fails_gives_an_empty_slot() -> None:
    table = Table(saves=False)
    prompt = [*SYSTEM, 1]
    table.compute(table.place(prompt), prompt)
    assert table.place([*SYSTEM, 2]).reused == 0


def test_memory_that_cannot_drop_continues_whole_sequences_only() -> None:
    table = Table(can_drop=False)
    first = table.run([1, 2, 3, 4])
    assert table.place([1, 2, 3, 9]).reused == 0
    assert table.place([1, 2, 3, 4, 5]) == Place(first.slot, 4)
    assert not [entry for entry in table.context.log if entry[0] == "cut"]


def test_memory_that_cannot_drop_forks_where_the_whole_donor_is_wanted() -> None:
    table = Table(can_drop=False)
    prompt = [*SYSTEM, 1, 2]
    running = table.place(prompt)
    table.compute(running, prompt, 40)
    assert table.place([*SYSTEM, 1, 3]).reused == 40


def test_memory_that_cannot_drop_never_waits() -> None:
    table = Table(can_drop=False)
    table.place([*LONG, 1])
    assert table.place([*LONG, 2]).reused == 0


def test_spoilt_slot_is_not_reused() -> None:
    table = Table()
    place = table.place([1, 2, 3])
    table.compute(place, [1, 2, 3])
    table.slots.spoil(place.slot)
    table.slots.park(place.slot, [1, 2], prompt_tokens=2)
    assert table.place([1, 2, 3]).reused == 0


def test_slot_whose_job_left_before_it_computed_is_free() -> None:
    table = Table(first=1, most=1)
    place = table.place([1, 2, 3])
    table.slots.park(place.slot, [], prompt_tokens=3)
    assert table.place([4, 5]) == Place(place.slot, 0)


# Neighbours


def gathered(table: Table) -> tuple[int, int] | None:
    """What moves when the gap has lasted long enough."""
    for _ in range(20):
        if moved := table.slots.gather():
            return moved
    return None


@pytest.mark.parametrize("parked", [True, False], ids=["parked-between", "free-between"])
def test_running_slots_move_together_and_lose_nothing(parked: bool) -> None:
    table = Table(first=3, most=3)
    prompts = [[*range(base, base + 10)] for base in (100, 200, 300)]
    places = [table.place(prompt) for prompt in prompts]
    for place, prompt in zip(places, prompts, strict=True):
        table.compute(place, prompt)
    middle = next(at for at, place in enumerate(places) if place.slot == 1)
    if not parked:
        table.slots.spoil(1)
    table.slots.park(1, prompts[middle][:9], prompt_tokens=10)
    moved = gathered(table)
    assert moved
    old, new = moved
    assert new == 1
    at = next(at for at, place in enumerate(places) if place.slot == old)
    assert table.context.kv[new] == prompts[at][:9]
    assert table.slots.held(new) == 9
    assert table.place([*prompts[middle], 1]) == Place(old, 9 if parked else 0)
    assert gathered(table) is None


def test_neighbours_stay_where_they_are() -> None:
    table = Table(first=4, most=4)
    table.compute(table.place([1, 2, 3]), [1, 2, 3])
    table.compute(table.place([4, 5, 6]), [4, 5, 6])
    assert gathered(table) is None


@pytest.mark.parametrize("broken", ["restores", "saves"])
def test_move_that_fails_is_told(broken: str) -> None:
    table = Table(first=3, most=3, **{broken: False})
    prompts = [[*range(base, base + 10)] for base in (100, 200, 300)]
    for prompt in prompts:
        table.compute(table.place(prompt), prompt)
    table.slots.park(1, table.context.kv[1], prompt_tokens=10)
    moved = gathered(table)
    if moved:
        assert table.slots.held(moved[1]) == len(table.context.kv.get(moved[1], []))
    for slot in range(3):
        held = table.context.kv.get(slot, [])
        assert not held or table.slots.held(slot) == len(held)


def test_where_slots_can_share_what_they_hold_nothing_is_copied() -> None:
    table = Table(first=3, most=3, forks=True, saves=False, restores=False)
    donor = table.run([*SYSTEM, *range(500, 600)])
    place = table.place([*SYSTEM, 7])  # `place` checks what it holds
    assert place.slot != donor.slot
    assert place.reused == len(SYSTEM)
    assert ("fork", donor.slot, place.slot) in table.context.log
    assert table.context.kv[donor.slot] == [*SYSTEM, *range(500, 600)]
