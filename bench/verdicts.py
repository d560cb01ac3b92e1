"""What a table of comparisons is made of, and whether a target is met. Pure: figures of rounds in, a document out.

A round has one figure of each contender. Ours is compared with another's of the same round; the ratio that counts is the
median of the rounds'. Where a target is to hold against several, the best of them in each round is the one to compare with.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final, Protocol, TypeAlias

from subjects import Setting

OURS: Final = "Corral"
Figures: TypeAlias = Mapping[str, float]  # one of each contender, of a round
Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """Ours by the best of these others, or our figure itself where there are none, is to be at most, or at least, this."""

    limit: float
    is_at_most: bool
    others: tuple[str, ...] = ()

    def measured(self, rounds: Iterable[Figures]) -> list[float]:
        """One a round; none of a round where one of them has no figure.

        >>> twice = Target(2.0, False, ("a", "b"))
        >>> twice.measured([{"Corral": 8.0, "a": 2.0, "b": 4.0}, {"Corral": 8.0, "a": 2.0}])
        [2.0]
        """
        whole = [found for found in rounds if all(found.get(name) for name in (OURS, *self.others))]
        return [found[OURS] / self._best(found) for found in whole]

    def _best(self, found: Figures) -> float:
        if not self.others:
            return 1.0
        return (min if self.is_at_most else max)(found[name] for name in self.others)

    def holds(self, value: float) -> bool:
        return value <= self.limit if self.is_at_most else value >= self.limit


def at_most(limit: float, *others: str) -> Target:
    return Target(limit, True, others)


def at_least(limit: float, *others: str) -> Target:
    return Target(limit, False, others)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table: one figure, and what is wanted of it."""

    key: str
    load: str
    unit: str
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a load came to: the figures of each of its lines, round by round, and what must be known to read them."""

    rounds: Mapping[str, Sequence[Figures]]
    notes: tuple[str, ...] = ()
    is_whole: bool = True  # every request had a good answer; else no target holds


class Row(Protocol):
    """Some lines of the table that are measured together."""

    @property
    def name(self) -> str: ...
    @property
    def lines(self) -> tuple[Line, ...]: ...
    def measure(self, setting: Setting) -> Outcome: ...


def line_document(line: Line, outcome: Outcome) -> Json:
    """All that was measured for a line, with its verdicts."""
    rounds = outcome.rounds[line.key]
    names = list(dict.fromkeys(name for found in rounds for name in found))
    return {
        "key": line.key,
        "load": line.load,
        "unit": line.unit,
        "figures": {name: [round(found[name], 5) for found in rounds if name in found] for name in names},
        "verdicts": [_verdict(target, rounds, is_whole=outcome.is_whole) for target in line.targets],
        "notes": list(outcome.notes),
    }


def _verdict(target: Target, rounds: Sequence[Figures], *, is_whole: bool) -> Json:
    measured = target.measured(rounds)
    found: Json = {"others": list(target.others), "target": target.limit, "at_most": target.is_at_most}
    if measured:
        value = median(measured)
        found |= {"median": round(value, 5), "min": round(min(measured), 5), "max": round(max(measured), 5)}
        found["holds"] = is_whole and target.holds(value)
    return found
