"""What a run comes to: for each server and load the figures of all rounds together and of each, and how servers compare."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, TypeAlias

from corral.cli.bench.figures import Figures, all_first_ms, by_group, failures, figures, percentile, ratios
from corral.cli.bench.rounds import Load, Measured, Run

_NS_PER_MS: Final = 1_000_000
_FIRST: Final = "all_first_token_ms"
Ratio: TypeAlias = tuple[float, float, float]  # median, least, greatest


@dataclass(frozen=True, slots=True)
class Cell:
    """One server at one load."""

    target: str
    load: Load
    all: Figures
    rounds: Sequence[Figures]
    groups: dict[str, Figures]
    failures: Sequence[tuple[str, int, str]]  # kind, how often, what was said the first time
    late_ms: float  # 99 % of the time this program got the processor no later than that
    counts_pieces: bool  # the server tells no token counts
    silent: int  # good answers without a word in them


@dataclass(frozen=True, slots=True)
class Comparison:
    """The first server's figures by another's, round by round."""

    of: str
    to: str
    load: Load
    ratios: dict[str, Ratio]


@dataclass(frozen=True, slots=True)
class Results:
    cells: Sequence[Cell]
    comparisons: Sequence[Comparison]

    def at(self, load: Load) -> list[Cell]:
        return [cell for cell in self.cells if cell.load == load]

    def compared_at(self, load: Load) -> list[Comparison]:
        return [comparison for comparison in self.comparisons if comparison.load == load]


def results(run: Run) -> Results:
    names = [target.name for target in run.plan.targets]
    cells = [
        _cell([part for part in run.measured if (part.target, part.load) == (name, load)])
        for load in run.plan.loads
        for name in names
    ]
    by_place = {(cell.target, cell.load): cell for cell in cells}
    first, *others = names
    comparisons = [
        Comparison(first, name, load, ratios(by_place[first, load].rounds, by_place[name, load].rounds))
        for load in run.plan.loads
        for name in others
    ]
    return Results(cells, comparisons)


def _cell(parts: Sequence[Measured]) -> Cell:
    samples = [sample for part in parts for sample in part.samples]
    together = figures(samples, sum(part.duration_s for part in parts))
    rounds = [_of_round(part) for part in parts]
    if firsts := [found[_FIRST] for found in rounds if _FIRST in found]:
        together[_FIRST] = median(firsts)
    late_ns = [late for part in parts for late in part.late_ns]
    good = [sample for sample in samples if not sample.failure and not sample.texts]
    return Cell(
        target=parts[0].target,
        load=parts[0].load,
        all=together,
        rounds=rounds,
        groups={name: figures(members, 0.0) for name, members in by_group(samples).items()},
        failures=failures(samples),
        late_ms=percentile(late_ns, 99) / _NS_PER_MS if late_ns else 0.0,
        counts_pieces=any(sample.output_tokens is None for sample in good),
        silent=sum(not sample.pieces_ns for sample in good),
    )


def _of_round(part: Measured) -> Figures:
    found = figures(part.samples, part.duration_s)
    first_ms = all_first_ms(part.samples)
    return found if first_ms is None else found | {_FIRST: first_ms}
