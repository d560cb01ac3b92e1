"""A picture of a run: throughput and time to first token against the load, a line for each server.

Drawn by matplotlib, which not everybody wants to install: it comes with the extra `bench`, and is imported here alone. A line
goes through the medians of the rounds; the bars reach from the least to the greatest.
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from corral.cli.bench.results import Cell, Results
from corral.cli.bench.rounds import Plan
from corral.cli.usage import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES: Final = (".svg", ".png")
_INCHES: Final = (10.0, 4.2)
_PANELS: Final = (
    ("output_throughput", "Output token throughput (tok/s)"),
    ("text_throughput", "Text throughput (texts/s)"),
    ("median_ttft_ms", "Median TTFT (ms)"),
    ("median_e2el_ms", "Median E2EL (ms)"),
)


def check(path: Path, find: Callable[[str], object] = find_spec) -> None:
    """Raises UsageError where no picture could be drawn there."""
    if path.suffix not in SUFFIXES:
        raise UsageError(f'invalid value for --plot: "{path}" must end in {" or ".join(SUFFIXES)}')
    if find("matplotlib") is None:
        raise UsageError("--plot needs matplotlib, which is not installed: pip install matplotlib brings it")


def draw(plan: Plan, found: Results, path: Path) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    names = [panel for panel in _PANELS if any(panel[0] in cell.all for cell in found.cells)][:2]
    with rc_context({"svg.hashsalt": "corral"}):  # the same figures give the same file
        figure = Figure(figsize=_INCHES, layout="constrained")
        figure.suptitle(f"{plan.workload}: {plan.kind.summary}")
        for at, (name, title) in enumerate(names, start=1):
            axes = figure.add_subplot(1, len(names), at)
            for target in plan.targets:
                _line(axes, target.name, name, [cell for cell in found.cells if cell.target == target.name])
            _dress(axes, plan, title)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)


def _line(axes: "Axes", target: str, name: str, cells: list[Cell]) -> None:
    points = [(cell.load.rate or cell.load.clients, [found[name] for found in cell.rounds if name in found]) for cell in cells]
    points = [(load, values) for load, values in points if values]
    if not points:
        return
    middles = [median(values) for _, values in points]
    below = [middle - min(values) for middle, (_, values) in zip(middles, points, strict=True)]
    above = [max(values) - middle for middle, (_, values) in zip(middles, points, strict=True)]
    axes.errorbar([load for load, _ in points], middles, yerr=[below, above], marker="o", capsize=3, label=target)


def _dress(axes: "Axes", plan: Plan, title: str) -> None:
    loads = [load.rate or load.clients for load in plan.loads]
    if len(loads) > 1:
        axes.set_xscale("log", base=2)
    axes.set_xticks(loads, [f"{load:g}" for load in loads])
    axes.minorticks_off()
    axes.set_xlabel("requests per second" if plan.loads[0].rate else "clients")
    axes.set_title(title, fontsize="medium")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
