"""Drafts: what answers are guessed to say next, computed in the step that draws the token before.

Which tokens come is the business of those who draw: they draw from the logits behind each token as they would without a draft,
and it goes on as long as that gives what was guessed. So a draft changes how long an answer takes, and nothing else.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

from corral.engine.llamacpp.worker.speculation.hopes import Hopes, Rates, general_rates
from corral.engine.llamacpp.worker.speculation.lookup import Guess, Lookup
from corral.engine.llamacpp.worker.speculation.pace import MOST, Pace


class Guesses:
    """Those of one answer, and what became of the last one."""

    def __init__(self, general: Rates) -> None:
        self._hopes = Hopes(general)
        self._lookup = Lookup()
        self._guess: Guess | None = None
        self._begin = 0  # where it begins, in the tokens
        self._drafted = 0  # tokens of it that were computed

    def next(self, tokens: list[int], most: int) -> Guess | None:
        """What may come next, at most so many tokens."""
        if self._guess:
            self._check(tokens, self._guess)
        self._lookup.read(tokens)
        self._guess, self._begin, self._drafted = self._lookup.guess(tokens, most), len(tokens), 0
        return self._guess

    def gains(self) -> list[float]:
        """Tokens that are to be expected right of the guess's first ones, from none on."""
        assert self._guess
        return self._hopes.gains(self._guess.shared, len(self._guess.tokens))

    def draft(self, size: int) -> list[int]:
        """The guess's first tokens, which will be computed."""
        assert self._guess
        self._drafted = min(size, len(self._guess.tokens))
        return self._guess.tokens[: self._drafted]

    def _check(self, tokens: Sequence[int], guess: Guess) -> None:
        """What of the last guess was said. Of one that was not computed, only what came of one step."""
        said = tokens[self._begin : self._begin + len(guess.tokens)]
        right = next((at for at, token in enumerate(said) if token != guess.tokens[at]), len(said))
        self._hopes.learn(guess.shared, right, min(self._drafted or 1, len(said)))


class Speculates(Protocol):
    """A job that draws."""

    tokens: list[int]
    guesses: Guesses | None
    draft: list[int]

    @property
    def most_draft(self) -> int:
        """Tokens that its draft may have."""
        ...


class Speculation:
    """Of one model. `is_off`: its memory does not forget the end of a sequence."""

    def __init__(self, *, is_off: bool = False) -> None:
        self.is_off = is_off
        self._pace = Pace()
        self._general = general_rates()

    def plan(self, drawing: Collection[Speculates], *, plain: int, most: int, cells: int, is_even: bool) -> bool:
        """Gives the jobs that draw in one step their drafts; false where there are none.

        Without them it would be a step of `plain` tokens; of `most` logits are given. Sequences have so many cells. `is_even`:
        llama.cpp takes as many tokens of each sequence in one go, and what one has more than the others in another.
        """
        if self.is_off or len(drawing) >= most:
            return False
        guessed, gains = list[Guesses](), list[list[float]]()
        jobs = list[Speculates]()
        for job in drawing:
            bound = min(MOST, job.most_draft, cells - len(job.tokens))
            if bound <= 0:
                continue
            guesses = job.guesses = job.guesses or Guesses(self._general)
            if guesses.next(job.tokens, bound) and len(gain := guesses.gains()) > 1:
                jobs.append(job)
                guessed.append(guesses)
                gains.append(gain)
        if not jobs:
            return False
        size = self._pace.size(gains, len(drawing), plain=plain, most=most, is_even=is_even)
        if not size:
            return False
        for job, guesses, gain in zip(jobs, guessed, gains, strict=True):
            job.draft = guesses.draft(min(size, len(gain) - 1))  # no more than was counted: llama.cpp gives `most` logits
        return True

    def learn(self, rows: int, elapsed_s: float) -> None:
        """What a step took that llama.cpp computed in one go, and of which all tokens gave logits."""
        self._pace.learn(rows, elapsed_s)
