"""Guesses of what the toy model says next, as right as a test wants them."""

from collections.abc import Collection
from random import Random

from corral.engine.llamacpp.worker.batch.generation import Generation
from corral.engine.llamacpp.worker.speculation.speculation import Speculates
from tests.support.toy_engine import VOCABULARY, adapted, next_token


class AnyDrafts:
    """Drafts of any length, of which any part is right. Without `random` all that may be drafted, all of it right."""

    def __init__(self, random: Random | None = None, *, right: int = VOCABULARY, most: int = VOCABULARY) -> None:
        self.random = random
        self.right = right
        self.most = most
        self.is_off = False
        self.learned: list[int] = []
        self.told: list[tuple[int, int, int, bool]] = []

    def plan(self, drawing: Collection[Speculates], *, plain: int, most: int, cells: int, is_even: bool) -> bool:
        assert not any(job.draft for job in drawing), "a draft stayed behind"
        self.told.append((plain, most, cells, is_even))
        left = most - len(drawing)
        if self.is_off or left <= 0 or (self.random and self.random.random() < 0.3):
            return False
        for job in drawing:
            bound = max(0, min(left, self.most, job.most_draft, cells - len(job.tokens)))
            size, right = bound, self.right
            if self.random:
                size, right = self.random.randint(0, bound), self.random.randint(0, bound)
            job.draft = self._guessed(job, size, right)
            left -= len(job.draft)
        return any(job.draft for job in drawing)

    def learn(self, rows: int, elapsed_s: float) -> None:
        assert rows > 0
        assert elapsed_s >= 0
        self.learned.append(rows)

    def _guessed(self, job: Speculates, size: int, right: int) -> list[int]:
        assert isinstance(job, Generation)
        tokens = list(job.tokens)
        if min(tokens) < 0:  # an image, which the toy model has to see
            return [ord("z")] * size
        for at in range(size):
            token = next_token(adapted(tokens, job.scales))
            tokens.append(token if at < right else (token + 1) % VOCABULARY)
        return tokens[len(job.tokens) :]
