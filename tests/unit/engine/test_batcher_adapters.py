"""Jobs with different scales of the model's adapters: never in one step, none of them kept waiting, nothing shared."""

from typing import Any

import pytest

from corral.core.options import adapter_scales
from corral.wire.link import JobFailed
from tests.support.fake_encoder import PlayedMedia
from tests.support.gguf_vision import picture
from tests.support.toy_engine import Outcome, Toy, answer

STEM = "sys " * 40  # 160 tokens
HALF, NONE = ((0, 0.5),), ((0, 0.0),)
SETS = ((), HALF, NONE, ((1, 2.0), (0, -1.0)))


def right(prompt: str, adapters: tuple[tuple[int, float], ...], **more: Any) -> str:
    return answer(prompt, scales=adapter_scales(adapters, 2), **more)[0]


class Clocked(Toy):
    """A step takes so long, and each of its tokens."""

    def __init__(self, step_s: float, token_s: float = 0.0, **more: Any) -> None:
        self.now_s = 0.0
        self.step_s, self.token_s = step_s, token_s
        super().__init__(adapters=2, clock_s=lambda: self.now_s, on_decode=self._pass, **more)

    def _pass(self) -> None:
        self.now_s += self.step_s + self.token_s * sum(count for _, _, count in self.context.batches[-1])


def lengths(toy: Toy, jobs: list[int]) -> list[int]:
    return [len(toy.outcomes[job].text) for job in jobs]


def changes(toy: Toy) -> list[tuple[float, ...]]:
    """The scales that the newest context was told of, one after another."""
    return [entry[1] for entry in toy.context.log if entry[0] == "adapt"]


@pytest.mark.parametrize("adapters", SETS, ids=["all", "half", "none", "both"])
def test_job_is_computed_with_the_scales_that_it_asks_for(adapters: tuple[tuple[int, float], ...]) -> None:
    assert Toy(adapters=2).run("hello", adapters=adapters).text == right("hello", adapters)


def test_jobs_of_all_scales_at_once_answer_as_each_alone() -> None:
    toy = Toy(adapters=2, first=8, most=8)
    jobs = [(f"{STEM}{number}", SETS[number % 4]) for number in range(8)]
    numbers = [toy.submit(prompt, adapters=adapters) for prompt, adapters in jobs]
    toy.finish()
    assert [toy.outcomes[number].text for number in numbers] == [right(*job) for job in jobs]


def test_jobs_of_equal_scales_share_steps_and_those_of_others_do_not() -> None:
    toy = Clocked(0.01)
    for adapters in ((), ((0, 1.0), (1, 1.0)), HALF):
        toy.submit("hello", adapters=adapters, num_predict=30)
    toy.step(60)
    slots = {frozenset(sequence for sequence, _, _ in batch) for batch in toy.context.batches if len(batch) > 1}
    assert slots == {frozenset({0, 1})}


def test_groups_have_equal_shares_and_scales_change_with_a_turn_only() -> None:
    toy = Clocked(0.01, first=4, most=4)
    prompts = long_ones(4)
    jobs = [toy.submit(prompt, adapters=adapters) for prompt, adapters in zip(prompts, [(), (), (), HALF], strict=True)]
    toy.step(96)
    assert max(lengths(toy, jobs)) - min(lengths(toy, jobs)) <= 8
    assert 10 <= len(changes(toy)) <= 13


def test_slow_steps_go_by_turns_one_by_one() -> None:
    toy = Clocked(0.5)
    jobs = [toy.submit(prompt, adapters=adapters) for prompt, adapters in zip(long_ones(3), [(), HALF, NONE], strict=True)]
    toy.step(30)
    assert max(lengths(toy, jobs)) - min(lengths(toy, jobs)) <= 1


def test_prompt_of_another_group_makes_streams_wait_for_a_short_piece_only() -> None:
    toy = Clocked(0.01, token_s=0.001, num_batch=400)
    toy.run("x" * 900, num_predict=1)  # so that it knows how quick it is
    stream = toy.submit(long_ones(1)[0])
    toy.step(4)
    toy.submit("y" * 900, adapters=HALF, num_predict=1)
    before = len(toy.context.batches)
    toy.step(80)
    pieces = [batch[0][2] for batch in toy.context.batches[before:] if batch[0][2] > 1]
    assert sum(pieces) == 899
    assert 32 < max(pieces) <= 80
    assert len(toy.outcomes[stream].text) > 20


def test_beginning_is_used_again_among_equal_scales_only() -> None:
    toy = Toy(adapters=2)
    assert cached(toy.run(STEM + "a", adapters=HALF, num_predict=2)) == 0
    assert cached(toy.run(STEM + "b", adapters=NONE, num_predict=2)) == 0
    assert cached(toy.run(STEM + "c", adapters=HALF, num_predict=2)) == len(STEM)
    assert cached(toy.run(STEM + "d", num_predict=2)) == 0
    assert cached(toy.run(STEM + "e", adapters=((1, 1.0), (0, 1.0)), num_predict=2)) == len(STEM)  # what all are anyway
    assert cached(toy.run(STEM + "f", adapters=NONE, num_predict=2)) == len(STEM)


def test_nobody_waits_for_a_beginning_that_is_computed_with_other_scales() -> None:
    toy = Toy(adapters=2, num_batch=64)
    toy.submit(STEM * 3 + "a", num_predict=1)
    toy.step()
    other = toy.submit(STEM * 3 + "b", adapters=NONE, num_predict=1)
    toy.step()
    assert len(toy.slots._held) == 2
    toy.finish()
    assert toy.outcomes[other].text == right(STEM * 3 + "b", NONE, num_predict=1)


def test_scales_are_told_again_to_a_context_that_has_grown() -> None:
    toy = Toy(adapters=2, first=1, most=2, cells=64)
    one = toy.submit("hello", adapters=HALF, num_predict=60)
    toy.step(3)
    two = toy.submit("x" * 300, adapters=HALF, num_predict=20)
    toy.finish()
    assert len(toy.made) > 1
    assert toy.outcomes[one].text == right("hello", HALF, num_predict=60)
    assert toy.outcomes[two].text == right("x" * 300, HALF, num_predict=20)


def test_group_that_waits_for_its_image_leaves_its_turn_to_the_others() -> None:
    media = PlayedMedia()
    media.is_blind = True
    toy = Clocked(0.01, media=media)
    toy.submit("[img-0]what is it?", media=(picture(1, (20, 1)),), adapters=HALF)
    stream = toy.submit(long_ones(1)[0])
    toy.step(20)
    assert len(toy.outcomes[stream].text) >= 16
    assert not media.waits


def test_failure_of_a_step_ends_its_group_alone() -> None:
    toy = Toy(adapters=2)
    prompts = long_ones(2)
    jobs = [toy.submit(prompt, adapters=adapters) for prompt, adapters in zip(prompts, [(), HALF], strict=True)]
    toy.step(4)
    toy.context.failures = 1
    toy.finish()
    failed = [job for job in jobs if isinstance(toy.outcomes[job].refusal, JobFailed)]
    assert len(failed) == 1
    (whole,) = set(jobs) - set(failed)
    assert toy.outcomes[whole].text == right(prompts[whole - 1], [(), HALF][whole - 1])


@pytest.mark.parametrize(
    ("count", "reason"),
    [
        (0, 'option "lora" names adapter 2, and the model has none'),
        (2, 'option "lora" names adapter 2, and the model has 2, which are numbered from 0 on'),
    ],
    ids=["none", "two"],
)
def test_adapter_that_the_model_does_not_have_is_refused(count: int, reason: str) -> None:
    toy = Toy(adapters=count)
    assert toy.run("hello", adapters=((2, 1.0),)).refusal == JobFailed(1, reason, is_asked_wrong=True)


def test_model_without_adapters_is_never_told_of_scales() -> None:
    toy = Toy()
    toy.run("hello")
    assert changes(toy) == []


def cached(outcome: Outcome) -> int:
    assert outcome.finish
    return outcome.finish.cached_tokens


def long_ones(count: int) -> list[str]:
    """Prompts whose answers are long with any of the scales."""
    found = (prompt for prompt in map(str, range(10_000)) if all(len(right(prompt, one)) > 60 for one in SETS[:3]))
    return [next(found) for _ in range(count)]
