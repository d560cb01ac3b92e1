"""How many tokens to draft: as many as make an answer come sooner, and none where none do. Pure.

A draft costs the time that a step takes longer with it, and brings the tokens of it that turn out to be right. How much longer
depends on weights, machine and how many draw at once: on a CPU, a step of four tokens may take hardly more than one of a single
token, and one of two twice as long, as llama.cpp's kernels take rows in tiles; where many streams fill the machine, nothing is
left. So what steps take is measured on the steps themselves, by the number of their tokens. A size that nobody knows yet
is tried where it promises much, and one that did not pay again after growing pauses, for a machine's load changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

SIZES: Final = (1, 2, 3, 5, 7, 11, 15, 23, 31)  # tokens of a draft that are weighed against each other
MOST: Final = SIZES[-1]
_LEARN: Final = 0.25  # weight of the newest measurement
_OUTLIER: Final = 1.5  # a step that waited for another process tells nothing of its size
_HOPE: Final = 0.15  # share of a step's time that one more token is taken to cost, before that was measured
_GAIN: Final = 1.05  # times as many tokens a second as without that a draft must promise
_SURE: Final = 2  # measurements before a size is known
_PAUSE: Final = 32  # chances that are passed by before a size that does not seem to pay is measured again
_LONGEST: Final = 1024
_PLAIN: Final = 256  # drafts in a row before a step without one is measured again
_LEAST_S: Final = 1e-7


@dataclass(slots=True)
class _Cost:
    mean_s: float
    count: int = 1
    trials: int = 0  # measured again though it did not seem to pay

    def learn(self, elapsed_s: float) -> None:
        bound = min(elapsed_s, _OUTLIER * self.mean_s) if self.count >= _SURE else elapsed_s
        if self.count < _SURE:
            self.mean_s = min(self.mean_s, bound)
        else:
            self.mean_s += _LEARN * (bound - self.mean_s)
        self.count += 1


class Pace:
    """Of one model on its machine."""

    def __init__(self) -> None:
        self._costs: dict[int, _Cost] = {}  # by tokens of a step, each of which gives logits
        self._drafts = 0  # since a step without them was measured
        self._passed = 0  # chances to try a size again
        self._pause = _PAUSE

    def learn(self, rows: int, elapsed_s: float) -> None:
        """What a step of so many tokens took that llama.cpp computed in one go."""
        elapsed_s = max(elapsed_s, _LEAST_S)
        if cost := self._costs.get(rows):
            cost.learn(elapsed_s)
        else:
            self._costs[rows] = _Cost(elapsed_s)

    def size(self, gains: Sequence[Sequence[float]], streams: int, *, plain: int, most: int, is_even: bool) -> int:
        """How many tokens to draft, for each of the answers that have a guess; 0: none.

        `gains` are what these expect of drafts from none on, each to the end of its guess; `streams` answers draw in all, in a
        step of `plain` tokens without drafts, and of `most` at most. `is_even`: llama.cpp takes as many tokens of each sequence
        in one go, and what one has more than the others in another.
        """
        base = self._costs.get(plain)
        if base is None or base.count < _SURE:
            return 0
        longest = max(map(len, gains)) - 1
        best, best_rate = 0, _GAIN * streams / base.mean_s
        hopes: list[tuple[float, int, _Cost]] = []
        for size in (size for size in SIZES if size <= longest):
            if streams == 1:
                rows, expected = [1 + size], 1 + gains[0][size]
            else:
                drafts = [min(size, len(gain) - 1) for gain in gains]
                rows = passes([*drafts, *[0] * (streams - len(gains))], is_even=is_even)
                expected = streams + sum(gain[draft] for gain, draft in zip(gains, drafts, strict=True))
            if sum(rows) > most:
                break
            rate = expected / sum(map(self._cost_s, rows))
            if rate > best_rate:
                best, best_rate = size, rate
            elif len(rows) == 1 and (cost := self._costs.get(rows[0])):
                hopes.append((expected / self._hoped_s(rows[0]), size, cost))
        return self._again([hope for hope in hopes if hope[0] > best_rate]) or self._with_plain(best)

    def _again(self, hopes: list[tuple[float, int, _Cost]]) -> int:
        """Of sizes that would be better if a step took as long as may be hoped, one to measure again, when it is time to."""
        if not hopes:
            return 0
        self._passed += 1
        if self._passed <= self._pause:
            return 0
        self._passed, self._pause = 0, min(2 * self._pause, _LONGEST)
        _, size, cost = min(hopes, key=lambda hope: (hope[2].trials, -hope[0]))
        cost.trials += 1
        return size

    def _with_plain(self, size: int) -> int:
        """That draft, or now and then none."""
        self._drafts = self._drafts + 1 if size else 0
        return size if self._drafts % _PLAIN else 0

    def _cost_s(self, rows: int) -> float:
        cost = self._costs.get(rows)
        return cost.mean_s if cost else self._hoped_s(rows)

    def _hoped_s(self, rows: int) -> float:
        """What a step of so many tokens may take at best, by those of fewer tokens that are known."""
        smaller = [cost.mean_s * (1 + _HOPE * (rows - known) / known) for known, cost in self._costs.items() if known < rows]
        return min(smaller) if smaller else min(cost.mean_s for cost in self._costs.values())


def passes(drafts: Sequence[int], *, is_even: bool) -> list[int]:
    """The tokens of each part of a step that llama.cpp computes in one go, where these are the drafts of its sequences."""
    if not is_even:
        return [sum(drafts) + len(drafts)]
    rows, done = list[int](), -1
    for size in sorted(set(drafts)):
        rows.append(sum(draft >= size for draft in drafts) * (size - done))
        done = size
    return rows
