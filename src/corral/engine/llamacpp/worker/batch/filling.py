"""How many sequences to compute at once: sometimes one more is quicker.

llama.cpp's matrix kernels work on tiles of rows. A batch of 16 tokens is four tiles of four; of one of 15, three rows are
computed one by one, each at the price of reading all weights: on a CPU with Q4_0 weights 37 ms instead of 30. And sequences
that are no neighbours are computed in two pieces. So a step may be filled up with tokens of idle sequences, whose results are
thrown away. Whether that pays depends on weights, machine and batch: it is measured, and again, on the steps themselves.
"""

from dataclasses import dataclass
from typing import Final

_TILE: Final = 4  # rows; what llama.cpp's repacked CPU kernels take together
_LEAST: Final = 5  # tokens a step; a smaller one is hardly ever quicker with more
_TRIALS: Final = 2  # measurements of each kind before one is chosen
_AGAIN: Final = 64  # steps after which the kind that was not chosen is measured again
_LEARN: Final = 0.25  # weight of the newest measurement
_GAIN: Final = 0.97  # share of a bare step's time that a filled one must stay below


@dataclass(slots=True)
class _Timing:
    mean_s: float = 0.0
    count: int = 0
    stale: int = 0  # steps of the other kind since it was measured

    def learn(self, elapsed_s: float) -> None:
        self.stale = 0
        if not self.count:
            self.mean_s = elapsed_s
        else:  # one step that waited for another process tells nothing about the kernels
            self.mean_s += _LEARN * (min(elapsed_s, 1.5 * self.mean_s) - self.mean_s)
        self.count += 1


class Filling:
    """Chooses between bare and filled steps, for each number of sequences and gaps among them by itself."""

    def __init__(self) -> None:
        self._timings: dict[tuple[int, int], tuple[_Timing, _Timing]] = {}

    def wanted(self, running: int, gaps: int) -> int:
        """Tokens that would fill up a step of so many sequences with so many idle ones between them; 0 where none would."""
        if running < _LEAST:
            return 0
        filled = -(-(running + gaps) // _TILE) * _TILE
        return filled - running if gaps <= running // 2 else 0

    def is_worth_it(self, running: int, gaps: int) -> bool:
        """Whether the next such step is to be filled up."""
        bare, filled = self._timing(running, gaps)
        if bare.count < _TRIALS or filled.count < _TRIALS:
            return filled.count < bare.count
        is_quicker = filled.mean_s < bare.mean_s * _GAIN
        other = bare if is_quicker else filled
        return is_quicker != (other.stale >= _AGAIN)

    def learn(self, running: int, gaps: int, elapsed_s: float, *, is_filled: bool) -> None:
        """What such a step took; one of few tokens is never filled up, and teaches nothing."""
        if running < _LEAST:
            return
        bare, filled = self._timing(running, gaps)
        done, other = (filled, bare) if is_filled else (bare, filled)
        done.learn(elapsed_s)
        other.stale += 1

    def _timing(self, running: int, gaps: int) -> tuple[_Timing, _Timing]:
        return self._timings.setdefault((running, gaps), (_Timing(), _Timing()))
