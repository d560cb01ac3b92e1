"""Drafts for several answers at once: they never ask for more logits than there are."""

import random
from dataclasses import dataclass, field

import pytest

from corral.engine.llamacpp.worker.speculation.speculation import Guesses, Speculation


@dataclass
class Job:
    tokens: list[int]
    text: list[int]  # what it says, one after the other
    most_draft: int = 31
    guesses: Guesses | None = None
    draft: list[int] = field(default_factory=list)

    def say(self) -> None:
        """As much of the draft as is right, and one more."""
        right = next((at for at, token in enumerate(self.draft) if token != self.text[at]), len(self.draft))
        self.tokens += self.text[: right + 1]
        self.text, self.draft = self.text[right + 1 :], []


@pytest.mark.parametrize("is_even", [True, False])
@pytest.mark.parametrize("seed", range(10))
def test_drafts_of_all_answers_stay_within_the_logits_of_a_step(seed: int, is_even: bool) -> None:
    """Some copy, and some hardly ever come back to what they said: little is hoped of their guesses, however long these are."""
    draw = random.Random(seed)
    source = [draw.randrange(1000) for _ in range(200)]
    jobs = [Job([*source, *source[:3]], source[3:] + source * 20) for _ in range(2)]
    jobs += [Job([draw.randrange(12) for _ in range(300)], [draw.randrange(12) for _ in range(6000)]) for _ in range(3)]
    speculation, most, longest = Speculation(), len(jobs) + 31, 0
    for _ in range(150):
        is_drafted = speculation.plan(jobs, plain=len(jobs), most=most, cells=100_000, is_even=is_even)
        rows = len(jobs) + sum(len(job.draft) for job in jobs)
        assert rows <= most
        longest = max(longest, rows)
        speculation.learn(rows if is_drafted else len(jobs), 0.01)  # tokens more cost nothing
        for job in jobs:
            job.say()
    assert longest > len(jobs) + 10
