"""How likely guesses are right: by how much they share with what came before, in general and in one answer. Pure.

Every guess is compared with what the answer said, computed or not, so that nothing has to be tried to learn of it. What is
known in general counts with caution: others may have been copies, and a long draft in vain costs more than a few short ones.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from corral.engine.llamacpp.worker.speculation.lookup import WIDTHS

_BEGIN: Final = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85)  # by WIDTHS, before anything is known of a model
_CAUTION: Final = (0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9)  # nothing better is believed of an answer before it shows it
_WEIGHT: Final = 4.0  # guesses' worth of what is taken to be so in the beginning
_TRUST: Final = 2.0  # guesses' worth of what is known in general, against those of one answer
_UNLIKELY: Final = 0.05  # what is less likely than that to be reached is not worth a thought
_GENERAL_MOST: Final = 256.0  # guesses that are remembered, then half of them
_OWN_MOST: Final = 24.0
_KINDS: Final = tuple(bisect_right(WIDTHS, width) - 1 for width in range(WIDTHS[0], WIDTHS[-1]))


def _kind(shared: int) -> int:
    at = shared - WIDTHS[0]
    return _KINDS[at] if at < len(_KINDS) else len(WIDTHS) - 1


class Rates:
    """Guesses that were right, of all that were seen of late, by what they shared."""

    def __init__(self, begin: Sequence[float], weight: float, most: float) -> None:
        self._most = most
        self.right = [share * weight for share in begin]
        self.seen = [weight] * len(WIDTHS)

    def learn(self, kind: int, *, is_right: bool) -> None:
        self.right[kind] += is_right
        self.seen[kind] += 1
        if self.seen[kind] > self._most:
            self.right[kind] /= 2
            self.seen[kind] /= 2


def general_rates() -> Rates:
    """What is known of a model's answers, all together."""
    return Rates(_BEGIN, _WEIGHT, _GENERAL_MOST)


class Hopes:
    """Of one answer, which begins with what is known of all."""

    def __init__(self, general: Rates) -> None:
        self._general = general
        self._own = Rates(_BEGIN, 0.0, _OWN_MOST)

    def learn(self, shared: int, right: int, seen: int) -> None:
        """Of a guess whose first `seen` tokens were looked at, so many were right; the one behind them, if seen, was not.

        Each of them that is right is shared by those behind it.
        """
        for at in range(min(right + 1, seen)):
            kind = _kind(shared + at)
            self._own.learn(kind, is_right=at < right)
            self._general.learn(kind, is_right=at < right)

    def gains(self, shared: int, most: int) -> list[float]:
        """Tokens that are to be expected right of so many, from none on to `most`, or to where hardly any are."""
        gains, gained, chance = [0.0], 0.0, 1.0
        known, likely = -1, 0.0
        for width in range(shared, shared + most):
            if (kind := _kind(width)) != known:
                known, likely = kind, self._likely(kind)
            chance *= likely
            if chance < _UNLIKELY:
                break
            gained += chance
            gains.append(gained)
        return gains

    def _likely(self, kind: int) -> float:
        own, general = self._own, self._general
        usual = min(general.right[kind] / general.seen[kind], _CAUTION[kind])
        return (own.right[kind] + _TRUST * usual) / (own.seen[kind] + _TRUST)
