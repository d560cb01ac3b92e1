"""How many threads compute a step: all that there are, or fewer while other programs want the cores as well.

llama.cpp's threads meet at a barrier hundreds of times a token, and each waits for the last. One core that is taken away for a
while then stops them all: with another program busy on one of two cores, two threads gave 57 tokens a second, and one thread
150 (SmolLM2 135M; 190 with both cores free). What is best right now is measured on the steps themselves: when steps take much
longer than they did, and now and then, a few are computed with one thread less, or more.
"""

from typing import Final

_TRIAL: Final = 3  # steps that a trial takes; the quickest one counts
_FIRST: Final = 16  # steps to the first trial: the very first ones are slow in any case
_SOON: Final = 32  # steps to the next trial where a change may come; twice as many after each one in vain
_LATEST: Final = 512
_SLOW: Final = 2.0  # times the usual: something has changed
_SLOW_RUN: Final = 3  # slow steps in a row that are no accident
_GAIN: Final = 0.95  # share of the present time that a trial must stay below
_LEARN: Final = 0.25  # weight of the newest measurement


class ThreadCount:
    """Chooses for steps that draw tokens, whose time depends on their size alone; what reads prompts uses the same number."""

    def __init__(self, most: int, *, is_fixed: bool = False) -> None:
        """`most` threads at most, which is where it begins, and where it stays if it `is_fixed`."""
        self.now = most
        self._most = most
        self._is_fixed = is_fixed or most == 1
        self._chosen = most
        self._usual_s: dict[int, float] = {}  # by size of the step, with the chosen number
        self._trial_s: list[float] = []
        self._goes_up = False
        self._wait = _FIRST
        self._slow_run = 0
        self._pause = _SOON

    def learn(self, size: int, elapsed_s: float) -> None:
        """What a step of so many tokens took with `now` threads. Chooses `now` for the next one."""
        if self._is_fixed:
            return
        if self.now != self._chosen:
            self._judge(size, elapsed_s)
            return
        usual = self._usual_s.get(size)
        is_slow = usual is not None and elapsed_s > _SLOW * usual
        self._slow_run = self._slow_run + 1 if is_slow else 0
        if usual is None:
            self._usual_s[size] = elapsed_s
        elif not is_slow:
            self._usual_s[size] = usual + _LEARN * (elapsed_s - usual)
        self._wait -= 1
        if self._slow_run == _SLOW_RUN:
            self._usual_s = {size: elapsed_s}
            self._try(upwards=self._chosen == 1)
        elif self._wait <= 0:
            self._try(upwards=self._chosen == 1 or (self._chosen < self._most and not self._goes_up))

    def _try(self, *, upwards: bool) -> None:
        self._goes_up = upwards
        self.now = self._chosen + (1 if upwards else -1)
        self._trial_s = []
        self._slow_run = 0

    def _judge(self, size: int, elapsed_s: float) -> None:
        usual = self._usual_s.get(size)
        if usual is None:  # the batch has changed: nothing to compare with
            self._end_trial(pause=_SOON)
            return
        self._trial_s.append(elapsed_s)
        if len(self._trial_s) < _TRIAL:
            return
        if min(self._trial_s) < _GAIN * usual:
            self._chosen = self.now
            self._usual_s = {size: min(self._trial_s)}
            self._end_trial(pause=_SOON)
        else:
            self._end_trial(pause=min(2 * self._pause, _LATEST))

    def _end_trial(self, *, pause: int) -> None:
        self.now = self._chosen
        self._pause = self._wait = pause
