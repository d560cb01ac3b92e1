"""How much work an answer's grammar may be. Pure.

The steps of all streams wait for what a grammar has to be asked between two tokens: some ten microseconds mostly. One that is
ambiguous, or has thousands of ways to go on, takes a tenth of a second each time. Such an answer ends with an error when that
has come up for a while. Only the processor's time counts, so that a busy machine ends none.
"""

import time
from collections.abc import Callable
from typing import Final, TypeVar

from corral.core.errors import BadRequestError

_UNNOTICED_S: Final = 0.01  # of one question: what a step takes anyway
_MOST_S: Final = 0.5  # beyond that, in an answer

T = TypeVar("T")


class Patience:
    """One answer's. `slow_s` is what slow questions have taken so far; what llguidance has learnt of them is about in step.

    To ask for the processor's time takes longer than most questions, so that is done once the first slow one has come.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic, worked_s: Callable[[], float] = time.thread_time) -> None:
        self._now_s = now_s
        self._worked_s = worked_s
        self._is_wary = False
        self.slow_s = 0.0

    def ask(self, question: Callable[[], T]) -> T:
        """The answer to it. Raises BadRequestError where it came too late once too often."""
        clock = self._worked_s if self._is_wary else self._now_s
        began_s = clock()
        answer = question()
        took_s = clock() - began_s
        if took_s > _UNNOTICED_S:
            self._note(took_s)
        return answer

    def _note(self, took_s: float) -> None:
        self.slow_s += took_s - _UNNOTICED_S
        if not self._is_wary:  # the machine may just have been busy
            self._is_wary, self.slow_s = True, min(self.slow_s, _MOST_S / 2)
        elif self.slow_s > _MOST_S:
            raise BadRequestError(
                f"the answer's grammar takes too much work: {took_s * 1000:.0f} ms for a token, and all slow tokens of an "
                f"answer together {_MOST_S:g} s at most; give it fewer ways to go on, and no text two ways to be read"
            )
