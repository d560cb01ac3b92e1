"""How many threads compute a step: all that there are, or fewer while other programs want the cores as well.

llama.cpp's threads meet at a barrier hundreds of times a token, and each waits for the last. One core that is taken away for a
while then stops them all: with another program busy on one of two cores, two threads gave 57 tokens a second, and one thread
150 (SmolLM2 135M; 190 with both cores free). The threads' own processor time tells: it is all but the whole of a step's time on
free cores, and half of it where one of them is taken. Then some steps are tried with one thread less, and later, now and then,
with one more; the quicker number stays.
"""

from typing import Final

_TRIAL: Final = 3  # steps that a trial takes; the quickest one counts
_BUSY: Final = 0.8  # share of the threads' time that they compute, at least, where nobody takes their cores
_IDLE_RUN: Final = 3  # steps in a row below it that are no accident
_SOON: Final = 32  # steps to the next trial where a change may come; twice as many after each one in vain
_LATEST: Final = 512
_GAIN: Final = 0.95  # share of the present time that a trial must stay below
_LEARN: Final = 0.25  # weight of the newest measurement


class ThreadCount:
    """Chooses for steps that draw tokens, whose time depends on their size alone; what reads prompts uses the same number."""

    def __init__(self, most: int, *, is_fixed: bool = False) -> None:
        """`most` threads at most, which is where it begins, and where it stays if it `is_fixed`."""
        self.now = most
        self._most = most
        self.is_fixed = is_fixed or most == 1  # there is nothing to learn
        self._chosen = most
        self._usual_s: dict[int, float] = {}  # by size of the step, with the chosen number
        self._trial_s: list[float] = []
        self._wait = 0  # steps before the next trial
        self._pause = _SOON
        self._idle_run = 0

    def learn(self, size: int, elapsed_s: float, cpu_s: float) -> None:
        """What a step of so many tokens took with `now` threads, and what of it they computed, all together.

        Chooses `now` for the next one.
        """
        if self.is_fixed:
            return
        if self.now != self._chosen:
            self._judge(size, elapsed_s)
            return
        usual = self._usual_s.get(size, elapsed_s)
        self._usual_s[size] = usual + _LEARN * (elapsed_s - usual)
        self._idle_run = self._idle_run + 1 if cpu_s < _BUSY * elapsed_s * self.now else 0
        self._wait -= 1
        if self._wait > 0:
            return
        if self._idle_run >= _IDLE_RUN and self._chosen > 1:
            self._usual_s = {size: elapsed_s}
            self._try(self._chosen - 1)
        elif self._chosen < self._most:
            self._try(self._chosen + 1)

    def _try(self, threads: int) -> None:
        self.now = threads
        self._trial_s = []
        self._idle_run = 0

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
