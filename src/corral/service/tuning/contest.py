"""The rounds: every candidate is measured in each, in an engine of its own, by turns, until the time is over."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from corral.core.errors import EngineError, ServerStoppingError
from corral.service.tuning.candidates import Candidate
from corral.service.tuning.choosing import Compared, compared
from corral.service.tuning.sizing import LEAST_ROUNDS
from corral.wire.tuning import Speeds

_HOPELESS: Final = 0.7  # a score after one round that no other round makes good


@dataclass(slots=True)
class Contest:
    """`measure` gives what a candidate reaches; `is_over` says that the time is; `tell` hears what comes next.

    The first candidate is the default: where it fails, all does.
    """

    candidates: Sequence[Candidate]
    rounds: int
    measure: Callable[[Candidate], Awaitable[Speeds]]
    is_over: Callable[[], bool]
    tell: Callable[[str, int, int], None]  # what, how many measurements are done, and how many there are
    is_quiet: Callable[[], Awaitable[bool]]  # whether other programs leave the machine alone
    is_disturbed: bool = False  # they did not
    failed: dict[Candidate, str] = field(default_factory=dict)
    _speeds: dict[Candidate, list[Speeds]] = field(default_factory=dict)
    _rounds_done: int = 0
    _done: int = 0

    async def run(self) -> None:
        """Raises EngineError where the default settings cannot be measured."""
        running = list(self.candidates)
        for turn in range(self.rounds):
            self.is_disturbed = not await self.is_quiet() or self.is_disturbed
            at = turn % len(running)
            for place, candidate in enumerate([*running[at:], *running[:at]]):
                if self.is_over():
                    return
                left = len(running) - place + len(running) * (self.rounds - turn - 1)
                self.tell(f"measuring {candidate.name}, round {turn + 1} of {self.rounds}", self._done, self._done + left)
                await self._measure(candidate)
            self._rounds_done += 1
            found = self.found()
            running = [one for one in running if one in found and found[one].score >= _HOPELESS]

    @property
    def is_decided(self) -> bool:
        """Whether there were rounds enough to tell a gain from noise."""
        return self._rounds_done >= min(LEAST_ROUNDS, self.rounds)

    def found(self) -> dict[Candidate, Compared]:
        """What there is of whole rounds; the default settings beside themselves too."""
        default = self._speeds.get(self.candidates[0], [])[: self._rounds_done]
        return {
            one: compared(mine, default[: len(mine)])
            for one, all_mine in self._speeds.items()
            if one not in self.failed and (mine := all_mine[: self._rounds_done])
        }

    async def _measure(self, candidate: Candidate) -> None:
        try:
            speeds = await self.measure(candidate)
        except ServerStoppingError:
            raise
        except EngineError as error:
            if candidate is self.candidates[0]:
                raise
            self.failed[candidate] = str(error)
        else:
            self._speeds.setdefault(candidate, []).append(speeds)
        self._done += 1
