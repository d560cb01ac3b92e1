"""From measurements to a choice: a setting is chosen where it gains more than noise and costs nothing else. Pure.

Every candidate is measured in every round, so each has a ratio to the default settings of the same minute.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from corral.service.tuning.candidates import Candidate
from corral.wire.tuning import Measured, Speeds

GAIN: Final = 1.03  # what a choice gains at least, in the median of the rounds
_LOSS: Final = 0.97  # what each figure keeps of the default's at least
_FIGURES: Final = Speeds.__struct_fields__


@dataclass(frozen=True, slots=True)
class Compared:
    """A candidate beside the default settings; a ratio of 2 is twice as fast."""

    speeds: Speeds
    ratios: Speeds
    scores: tuple[float, ...]  # of each round

    @property
    def score(self) -> float:
        return median(self.scores)


def compared(candidate: Sequence[Speeds], default: Sequence[Speeds]) -> Compared:
    """Of as many rounds as both have; at least one."""
    rounds = [_ratio(one, other) for one, other in zip(candidate, default, strict=False)]
    return Compared(
        _medians(candidate), _medians(rounds), tuple(math.prod(_values(each)) ** (1 / len(_FIGURES)) for each in rounds)
    )


def objection(found: Compared) -> str:
    """Why it is not chosen; empty where nothing speaks against it."""
    if found.score < GAIN:
        return "gains nothing" if found.score >= _LOSS else "is slower"
    if min(found.scores) < 1:
        return "gains less than the rounds differ"
    for name in _FIGURES:
        if getattr(found.ratios, name) < _LOSS:
            return f"is slower at {WORDS[name]}"
    return ""


WORDS: Final[Mapping[str, str]] = {
    "prompt": "reading prompts",
    "alone": "one answer",
    "together": "several answers",
    "forks": "several answers behind one prompt",
}


def is_judged(candidate: Candidate, *, is_disturbed: bool) -> bool:
    """Beside other programs fewer threads are quicker, and alone they are not: that says nothing of the machine."""
    return not (is_disturbed and "most_threads" in candidate.about)


def best_of_each(found: Mapping[Candidate, Compared], *, allow_lossy: bool, is_disturbed: bool = False) -> list[Candidate]:
    """Of the candidates that nothing speaks against the best one for each setting, the greatest gain first."""
    good = [
        one
        for one in found
        if not objection(found[one]) and (allow_lossy or not one.is_lossy) and is_judged(one, is_disturbed=is_disturbed)
    ]
    good.sort(key=lambda one: found[one].score, reverse=True)
    chosen: list[Candidate] = []
    for one in good:
        if not any(one.about & other.about for other in chosen):
            chosen.append(one)
    return chosen


def measured(candidate: Candidate, found: Compared | None, verdict: str) -> Measured:
    """As it is reported."""
    if found is None:
        return Measured(name=candidate.name, settings=candidate.settings, is_lossy=candidate.is_lossy, verdict=verdict)
    return Measured(
        name=candidate.name,
        settings=candidate.settings,
        is_lossy=candidate.is_lossy,
        speeds=_rounded(found.speeds, 1),
        ratios=_rounded(found.ratios, 3),
        score=round(found.score, 3),
        least=round(min(found.scores), 3),
        greatest=round(max(found.scores), 3),
        verdict=verdict,
    )


def _values(speeds: Speeds) -> list[float]:
    return [getattr(speeds, name) for name in _FIGURES]


def _made(values: Sequence[float]) -> Speeds:
    return Speeds(**dict(zip(_FIGURES, values, strict=True)))


def _ratio(one: Speeds, other: Speeds) -> Speeds:
    return _made([mine / theirs for mine, theirs in zip(_values(one), _values(other), strict=True)])


def _medians(rounds: Sequence[Speeds]) -> Speeds:
    return _made([median(values) for values in zip(*map(_values, rounds), strict=True)])


def _rounded(speeds: Speeds, digits: int) -> Speeds:
    return _made([round(value, digits) for value in _values(speeds)])
