"""Any mix of jobs over contexts with tiers below them: every answer is the one that the model gives alone, in a fresh one."""

from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.support.toy_engine import Toy, answer
from tests.support.toy_states import Kind, StateToy, tiers

STEMS = ("", "sys " * 20, "sys " * 20 + "q1 " * 60, "other " * 15, "sys " * 70)
KINDS: tuple[Kind, ...] = ("plain", "window", "recurrent", "hybrid")


class Story:
    """A toy engine with tiers, and the jobs that `random` had it do."""

    def __init__(self, kind: Kind, random: Random, folder: Path | None) -> None:
        self.random = random
        self.settings: dict[str, Any] = {
            "first": random.choice([1, 2]),
            "most": random.choice([1, 2, 3, 6]),
            "cells": random.choice([16, 4096]),
            "num_batch": random.choice([7, 64]),
            "can_drop": kind in ("plain", "window"),
            "can_shift": random.random() < 0.5,
            "restores": random.random() < 0.9,
            "saves": random.random() < 0.9,
            "adapters": random.choice([0, 2]),
            "is_transposed": random.random() < 0.3,
        }
        budget_bytes = random.choice([0, 20_000, 100_000, 1 << 30])
        below = tiers(kind, budget_bytes=budget_bytes, folder=folder, disk_bytes=random.choice([50_000, 1 << 30]))
        self.toy = Toy(context_type=StateToy, below=below, kind=kind, **self.settings)
        self.begun: list[tuple[str, dict[str, Any]]] = []

    def play(self) -> None:
        random, toy = self.random, self.toy
        prompt = random.choice(STEMS)
        if self.begun and random.random() < 0.5:
            earlier = random.randrange(len(self.begun))
            prompt = self.begun[earlier][0] + toy.outcomes[earlier + 1].text
        prompt += "".join(random.choices("xyz", k=random.randint(1, 4)))
        job: dict[str, Any] = {
            "num_predict": random.choice([40, 40, 7, 1]),
            "num_ctx": random.choice([130, 900, 900]),
            "adapters": random.choice([(), ((0, 0.5),)]) if self.settings["adapters"] else (),
        }
        if len(prompt) < job["num_ctx"]:
            self.begun.append((prompt, job))
            toy.submit(prompt, **job)
        toy.step(random.randint(1, 30))
        if random.random() < 0.2:
            toy.finish()
            toy.slots.tidy()

    def check(self) -> None:
        self.toy.finish()
        for number, (prompt, job) in enumerate(self.begun, 1):
            scales = [0.5, 0.0] if job["adapters"] else [1.0] * self.settings["adapters"]
            outcome = self.toy.outcomes[number]
            assert outcome.finish, outcome.refusal
            expected = answer(prompt, scales=scales, can_shift=self.settings["can_shift"], **job)
            assert (outcome.text, outcome.finish.reason) == expected
            assert outcome.finish.prompt_tokens > outcome.finish.cached_tokens


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("kind", KINDS)
def test_every_answer_is_that_of_a_fresh_context(kind: Kind, seed: int) -> None:
    story = Story(kind, Random(f"{kind} {seed}"), None)
    for _ in range(40):
        story.play()
    story.check()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", KINDS)
def test_every_answer_is_that_of_a_fresh_context_also_after_restarts(kind: Kind, seed: int, tmp_path: Path) -> None:
    random = Random(f"{kind} {seed}")
    for _ in range(3):
        story = Story(kind, random, tmp_path / "kv")
        for _ in range(12):
            story.play()
        story.check()
        story.toy.slots.close(5.0)
