"""The batcher among several clients and priorities: who begins, who makes room, and that nothing of it changes an answer."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from corral.core.types import Grammar, Job
from corral.engine.llamacpp.worker.batch.generation import Generation
from corral.engine.llamacpp.worker.batch.waiting import Waiting
from corral.engine.llamacpp.worker.media.spans import Spans
from tests.support.toy_engine import Toy, answer

LONG = "abcdefgh" * 25  # 200 tokens
TALKS = "xyzzy"  # says 56 letters
ALSO = "long tale"  # and this 75


def told(toy: Toy) -> dict[int, str]:
    return {number: outcome.text for number, outcome in toy.outcomes.items()}


def order_of_ends(toy: Toy) -> list[int]:
    ended: list[int] = []
    while toy.batcher.has_work:
        toy.step()
        ended += [number for number, outcome in toy.outcomes.items() if outcome.is_over and number not in ended]
    return ended


def ends_of_beginning(toy: Toy, number: int) -> int:
    """Steps until the job says something."""
    for steps in range(1, 500):
        toy.step()
        if toy.outcomes[number].text:
            return steps
    raise AssertionError("it never says anything")


def counts(toy: Toy) -> int:
    """Tokens that were computed."""
    return sum(count for context in toy.made for batch in context.batches for _, _, count in batch)


@dataclass
class _Found:
    is_coming: bool
    count: int = 0
    known: int = 0


class HungDisk:
    """Never gives what it is reading: the prompts that begin with this letter."""

    is_lasting = False
    is_reading = True

    def __init__(self, letter: str) -> None:
        self.token = ord(letter)

    def find(self, tokens: Sequence[int], spans: Spans, kind: Hashable, *, beyond: int) -> _Found:
        return _Found(is_coming=tokens[0] == self.token)

    def restore(self, context: object, slot: int, found: object) -> bool:
        raise AssertionError("nothing is there")

    def keep(self, *what: object, how: str) -> bool:
        return True

    def wait(self, within_s: float) -> None:
        pass

    def close(self, within_s: float) -> None:
        pass


# Who begins


def test_clients_take_turns_where_jobs_wait() -> None:
    toy = Toy(first=1, most=1)
    numbers = [toy.submit(f"{number} greedy", client="a", num_predict=3) for number in range(5)]
    single = toy.submit("single one", client="b", num_predict=3)
    ended = order_of_ends(toy)
    assert ended == [numbers[0], single, *numbers[1:]]


def test_one_client_is_served_in_the_order_of_arrival() -> None:
    toy = Toy(first=1, most=1)
    numbers = [toy.submit(f"{number}" * (20 - number), client="a", num_predict=1 + number % 3) for number in range(9)]
    assert order_of_ends(toy) == numbers


def test_earlier_priority_begins_first() -> None:
    toy = Toy(first=1, most=1)
    first = toy.submit("first one", priority=-9, num_predict=3)
    late, usual, early = (toy.submit(f"{priority} prompt", priority=priority, num_predict=3) for priority in (4, 0, -1))
    assert order_of_ends(toy) == [first, early, usual, late]


# Who makes room


@pytest.mark.parametrize("settings", [{}, {"can_drop": False}], ids=["drops", "whole-sequences"])
@pytest.mark.parametrize("how", [{"priority": -1}, {"client": "b"}], ids=["priority", "client"])
def test_job_that_should_not_wait_begins_at_once_and_the_other_goes_on_with_its_answer(
    how: dict[str, Any], settings: dict[str, Any]
) -> None:
    toy = Toy(first=4, most=2, **settings)
    texts = [TALKS, ALSO]
    batch = [toy.submit(text, client="a") for text in texts]
    toy.step(10)
    before = counts(toy)
    person = toy.submit("hello you", num_predict=4, **{"client": "a", **how})
    assert ends_of_beginning(toy, person) <= 2
    said = {number: len(toy.outcomes[number].text) for number in batch}
    toy.step(2)
    assert len(toy.outcomes[batch[0]].text) == said[batch[0]] + 2, "the first goes on all the time"
    assert len(toy.outcomes[batch[1]].text) == said[batch[1]], "the last made room"
    toy.finish()
    assert [toy.outcomes[number].text for number in batch] == [answer(text)[0] for text in texts]
    assert toy.outcomes[person].text == answer("hello you", num_predict=4)[0]
    left = sum(len(answer(text)[0]) - 9 for text in texts)  # 10 steps: a prompt's end, and 9 letters
    assert counts(toy) - before <= len("hello you") + 4 + left + len(ALSO) + 12, "and one prompt again, at most"


def test_displaced_job_goes_on_under_its_grammar() -> None:
    toy = Toy(first=4, most=1)
    grammar = Grammar(text="start: /[a-c]{30}/")
    bound = toy.submit("hello", grammars=(grammar,), jump=False)
    while len(toy.outcomes[bound].text) < 5:
        toy.step()
    alone = Toy(first=4, most=1)
    expected = alone.run("hello", grammars=(grammar,), jump=False).text
    toy.submit("other", priority=-1, num_predict=6)
    toy.finish()
    assert toy.outcomes[bound].text == expected
    assert len(expected) == 30


def test_job_that_is_equal_waits() -> None:
    toy = Toy(first=2, most=2)
    toy.submit(TALKS, client="a")
    toy.submit(ALSO, client="b")
    toy.step(5)
    third = toy.submit("third", client="c", num_predict=1)
    late = toy.submit("late", client="a", priority=7, num_predict=1)
    toy.step(10)
    assert not toy.outcomes[third].text
    assert not toy.outcomes[late].text
    toy.finish()


def test_job_that_went_on_is_left_alone_for_a_while() -> None:
    toy = Toy(first=4, most=1)
    batch = toy.submit(TALKS, priority=1)
    for number in range(40):
        toy.step(2)
        toy.submit(f"early {number}", priority=0, num_predict=2)
    for _ in range(200):
        toy.step()
        if toy.outcomes[batch].is_over:
            break
    assert toy.outcomes[batch].text == answer(TALKS)[0]
    assert sum(outcome.is_over for outcome in toy.outcomes.values()) < 41, "it has not waited for all of them"
    toy.finish()
    assert told(toy)[40] == answer("early 38", num_predict=2)[0]


def test_displaced_job_may_be_cancelled() -> None:
    toy = Toy(first=4, most=1)
    batch = toy.submit(TALKS, priority=1)
    toy.step(5)
    early = toy.submit("early", num_predict=5)
    toy.step(2)
    toy.batcher.cancel(batch)
    toy.finish()
    assert toy.outcomes[early].text == answer("early", num_predict=5)[0]
    assert not toy.outcomes[batch].is_over


def test_job_whose_context_was_shifted_is_not_displaced() -> None:
    toy = Toy(first=4, most=1)
    shifted = toy.submit("prompt", num_ctx=12, num_predict=30, priority=1)
    toy.step(12)
    assert [entry for entry in toy.context.log if entry[0] == "shift"]
    early = toy.submit("early", num_predict=1)
    toy.step(3)
    assert not toy.outcomes[early].text
    toy.finish()
    assert toy.outcomes[shifted].text == answer("prompt", num_ctx=12, num_predict=30)[0]


def test_displaced_job_goes_on_though_its_tokens_are_lost() -> None:
    toy = Toy(first=1, most=1)
    batch = toy.submit(TALKS, priority=1)
    toy.step(5)
    toy.submit(LONG, num_predict=4)
    toy.finish()
    assert toy.outcomes[batch].text == answer(TALKS)[0]


def test_displacement_does_not_wait_for_what_others_read_from_disk() -> None:
    toy = Toy(first=2, most=2, below=HungDisk("z"))
    for text in (TALKS, ALSO):
        toy.submit(text, priority=1)
    late = toy.submit("z late", priority=3)
    toy.step(10)
    early = toy.submit("hello you", num_predict=4)
    assert ends_of_beginning(toy, early) <= 2
    toy.batcher.cancel(late)
    toy.finish()


def test_nobody_makes_room_for_a_job_whose_beginning_comes_from_disk() -> None:
    disk = HungDisk("z")
    toy = Toy(first=1, most=1, below=disk)
    late = toy.submit(TALKS, priority=1)
    toy.step(3)
    said = len(toy.outcomes[late].text)
    early = toy.submit("z early", num_predict=4)
    toy.step(6)
    assert (len(toy.outcomes[late].text), toy.outcomes[early].text) == (said + 6, ""), "it goes on meanwhile"
    disk.token = 0
    assert ends_of_beginning(toy, early) <= 2
    toy.finish()


# What clients pay


def waiting_job(number: int, tokens: int, client: str) -> Generation:
    return Generation(number, Job(prompt="", num_ctx=1000, client=client), [1] * tokens)


def test_displaced_job_does_not_pay_for_its_prompt_again() -> None:
    waiting = Waiting()
    displaced, other = waiting_job(1, 500, "a"), waiting_job(2, 700, "b")
    for job in (displaced, other):
        waiting.add(job)
        waiting.take(job, 0)
    displaced.is_displaced = True
    waiting.add(displaced)
    waiting.take(displaced, 0)
    next_of_b, next_of_a = waiting_job(3, 9, "b"), waiting_job(4, 9, "a")
    waiting.add(next_of_b)
    waiting.add(next_of_a)
    assert waiting.next(()) is next_of_a


def test_displaced_job_that_is_cancelled_has_paid_for_its_answer() -> None:
    toy = Toy(first=4, most=1)
    batch = toy.submit(TALKS, client="a", priority=1)
    toy.step(30)
    first = toy.submit("a person", client="b", num_predict=2)
    toy.step()
    toy.batcher.cancel(batch)
    of_a = toy.submit("this is of a", client="a", num_predict=1)
    of_b = toy.submit("this is of b", client="b", num_predict=1)
    assert order_of_ends(toy) == [first, of_b, of_a]


# Prompts


def test_prompts_share_a_step_by_client() -> None:
    toy = Toy(num_batch=60, first=8, most=8)
    for letter in "ABCDE":
        toy.submit(letter * 100, client="a")
    toy.submit("F" * 100, client="b")
    toy.step()
    sizes = {sequence: count for sequence, _, count in toy.context.batches[0]}
    assert sorted(sizes.values()) == [6, 8, 8, 8, 30]


def test_prompts_of_later_priorities_leave_most_of_a_step_to_earlier_ones() -> None:
    toy = Toy(num_batch=64)
    for letter, priority in (("A", 1), ("B", 0), ("C", 1)):
        toy.submit(letter * 300, priority=priority, num_ctx=1000)
    toy.step()
    assert sorted(count for _, _, count in toy.context.batches[0]) == [8, 56] or sorted(
        count for _, _, count in toy.context.batches[0]
    ) == [4, 4, 56]


def test_long_prompt_beside_four_answers_holds_up_neither_them_nor_itself() -> None:
    clock = [0.0]

    def pass_time() -> None:  # 4 ms a step, and half a millisecond a token
        clock[0] += 0.004 + sum(count for _, _, count in toy.context.batches[-1]) / 2000

    toy = Toy(
        first=8,
        most=8,
        num_batch=512,
        clock_s=lambda: clock[0],
        on_decode=pass_time,
        model=lambda held: ord("a") + len(held) % 2,
    )
    for number in range(4):
        toy.submit(f"{number} tell me", num_ctx=4000)
    toy.step(20)
    began_s = clock[0]
    number = toy.submit("z" * 3000, num_ctx=4000, num_predict=1)
    longest_s = 0.0
    while not toy.outcomes[number].text:
        before_s = clock[0]
        toy.step()
        longest_s = max(longest_s, clock[0] - before_s)
    assert longest_s < 0.1
    assert clock[0] - began_s < 1.2 * (3000 / 512 * 0.004 + 3000 / 2000), "what it takes alone"


# Beginnings that are being computed


def test_who_waits_for_a_beginning_takes_over_when_its_computing_is_cancelled() -> None:
    toy = Toy()
    first, *others = (toy.submit(LONG + last) for last in "xyz")
    toy.step(2)  # 128 of 200 tokens
    toy.batcher.cancel(first)
    toy.step()
    assert [count for _, position, count in toy.context.batches[-1] if position == 128] == [64], "one of them, at once"
    toy.batcher.cancel(others[0])
    toy.finish()
    assert toy.outcomes[others[1]].text == answer(LONG + "z")[0]
    assert counts(toy) <= 201 + len(answer(LONG + "z")[0]) + 2


def test_many_beginnings_are_each_computed_once() -> None:
    toy = Toy(first=9, most=9)
    stems = [letter * 150 for letter in "ABC"]
    prompts = [stem + str(number) for number in range(3) for stem in stems]
    numbers = [toy.submit(prompt, num_predict=2) for prompt in prompts]
    toy.finish()
    assert [toy.outcomes[number].text for number in numbers] == [answer(prompt, num_predict=2)[0] for prompt in prompts]
    assert counts(toy) < 3 * 150 + 9 * 10


def test_nested_beginnings_are_each_computed_once() -> None:
    toy = Toy(first=6, most=6)
    prompts = [LONG + "x", LONG + "B" * 100 + "x", LONG + "B" * 100 + "y", LONG + "B" * 100 + "C" * 100, LONG + "z"]
    numbers = [toy.submit(prompt, num_predict=2) for prompt in prompts]
    toy.finish()
    assert [toy.outcomes[number].text for number in numbers] == [answer(prompt, num_predict=2)[0] for prompt in prompts]
    assert counts(toy) < 200 + 100 + 100 + 5 * 40


def test_job_that_computes_what_an_earlier_priority_waits_for_has_its_priority() -> None:
    def steps(priority: int) -> int:
        toy = Toy(num_batch=64, first=6, most=6)
        toy.submit(LONG + "x", priority=5)
        for letter in "ABC":
            toy.submit(letter * 900, priority=1, num_predict=1)
        toy.step()
        return ends_of_beginning(toy, toy.submit(LONG + "y", priority=priority, num_predict=1))

    assert steps(0) <= 6 < steps(5)


def test_job_that_computes_what_an_earlier_priority_waits_for_is_not_displaced() -> None:
    toy = Toy(num_batch=64, first=2, most=2)
    shared = toy.submit(LONG + "x", priority=5, num_predict=30)
    toy.submit(TALKS, priority=4)
    toy.step()
    early = toy.submit(LONG + "y", priority=0, num_predict=2)
    toy.step(2)
    assert counts(toy) >= 190, "the shared beginning goes on"
    toy.finish()
    finish = toy.outcomes[early].finish
    assert finish
    assert finish.cached_tokens >= 136
    assert toy.outcomes[shared].text == answer(LONG + "x", num_predict=30)[0]
