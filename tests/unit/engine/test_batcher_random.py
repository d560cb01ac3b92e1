"""Any mix of jobs, cancels, growth and failures: every answer is the one that the model gives alone in a fresh context."""

from random import Random
from typing import Any

import pytest

from corral.core.options import adapter_scales
from corral.wire.link import JobFailed, Overflow
from tests.support.drafts import AnyDrafts
from tests.support.toy_engine import Toy, answer

SCALES: tuple[tuple[tuple[int, float], ...], ...] = ((), (), ((0, 0.5),), ((1, 1.0), (0, 1.0)), ((1, 0.0),))
STEMS = ("", "sys " * 10, "sys " * 10 + "q1 " * 30, "other " * 15, "sys " * 60)


class AnyFilling:
    """Fills up any step with any number of idle slots."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def wanted(self, running: int, gaps: int) -> int:
        return gaps + self.random.randint(0, 3)

    def is_worth_it(self, running: int, gaps: int) -> bool:
        return self.random.random() < 0.7

    def learn(self, running: int, gaps: int, elapsed_s: float, *, is_filled: bool) -> None:
        assert running > 0
        assert elapsed_s >= 0


class Story:
    """A toy engine, and what happened to it by the will of `random`."""

    def __init__(self, random: Random) -> None:
        self.random = random
        settings: dict[str, Any] = {
            "first": random.choice([1, 2]),
            "most": random.choice([1, 2, 3, 6, 6]),
            "cells": random.choice([16, 4096]),
            "memory_for": random.choice([2 * 4096, 5 * 4096, 1_000_000, 1_000_000]),
            "num_batch": random.choice([7, 64]),
            "can_drop": random.random() < 0.7,
            "cuts": random.random() < 0.8,
            "can_shift": random.random() < 0.7,
            "restores": random.random() < 0.8,
            "saves": random.random() < 0.8,
            "adds_bos": random.random() < 0.5,
            "filling": random.choice([None, AnyFilling(random)]),
            "speculation": random.choice([None, AnyDrafts(random)]),
            "spare_logits": random.choice([0, 3, 15]),
            "is_even": random.random() < 0.5,
            "adapters": random.choice([0, 0, 2]),
        }
        self.toy = Toy(**settings)
        self.adapters = settings["adapters"]
        self.told = {name: settings[name] for name in ("adds_bos", "can_shift")}
        self.begun: list[tuple[str, dict[str, Any]]] = []
        self.cancelled: set[int] = set()
        self.may_fail = settings["memory_for"] < 1_000_000
        self.is_mixed = random.random() < 0.5

    def play(self) -> None:
        what = self.random.choices([self.begin, self.step, self.cancel, self.fail], [50, 50, 6, 1])[0]
        what()

    def begin(self) -> None:
        """A job on a stem, or on the whole text of an earlier job with its answer."""
        prompt = self.random.choice(STEMS)
        if self.begun and self.random.random() < 0.4:
            earlier = self.random.randrange(len(self.begun))
            prompt = self.begun[earlier][0] + self.toy.outcomes[earlier + 1].text
        prompt += "".join(self.random.choices("xyz", k=self.random.randint(1, 4)))
        job: dict[str, Any] = {
            "num_predict": self.random.choice([-1, -1, -1, 40, 7, 1, 0]),
            "num_ctx": self.random.choice([48, 130, 500, 500, 500]),
            "shift": self.random.random() < 0.8,
            "num_keep": self.random.choice([4, 0, -1, 60]),
            "stop": self.random.choice([(), (), ("a", "xyz"), ("qu", "ab", "e")]),
            "adapters": self.random.choice(SCALES) if self.adapters else (),
            "client": self.random.choice("aaab") if self.is_mixed else "",
            "priority": self.random.choice([0, 0, 0, -1, 3]) if self.is_mixed else 0,
        }
        self.begun.append((prompt, job))
        self.toy.submit(prompt, **job)

    def step(self) -> None:
        self.toy.step(self.random.randint(1, 12))

    def cancel(self) -> None:
        number = self.random.randint(1, len(self.begun) + 1)
        if number in self.toy.outcomes and not self.toy.outcomes[number].is_over:
            self.cancelled.add(number)
        self.toy.batcher.cancel(number)

    def fail(self) -> None:
        self.toy.context.failures = 1
        self.may_fail = True

    def check(self) -> None:
        """Cancelled and failed jobs have said a beginning of their answer, all others the whole."""
        for number, (prompt, job) in enumerate(self.begun, 1):
            outcome = self.toy.outcomes[number]
            size = len(prompt) + self.told["adds_bos"]
            if size >= job["num_ctx"]:
                assert outcome.refusal == Overflow(number, size, job["num_ctx"])
                continue
            scales = adapter_scales(job["adapters"], self.adapters)
            text, reason = answer(prompt, scales=scales, **job, **self.told)
            if number in self.cancelled or isinstance(outcome.refusal, JobFailed):
                assert text.startswith(outcome.text)
                assert outcome.refusal is None or self.may_fail
                continue
            assert outcome.finish
            assert (outcome.text, outcome.finish.reason) == (text, reason)
            assert outcome.finish.prompt_tokens == size > outcome.finish.cached_tokens


@pytest.mark.parametrize("seed", range(120))
def test_every_answer_is_that_of_a_fresh_context(seed: int) -> None:
    story = Story(Random(seed))
    for _ in range(40):
        story.play()
    story.toy.finish()
    story.check()
