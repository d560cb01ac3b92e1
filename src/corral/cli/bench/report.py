"""The tables on the terminal: one for each load, one over all loads of a sweep, and what must be known to read them."""

from collections.abc import Iterator, Sequence
from typing import Final, TextIO

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from corral.cli.bench.figures import Figures
from corral.cli.bench.results import Cell, Ratio, Results
from corral.cli.bench.rounds import Plan
from corral.cli.bench.workloads import LONG_PROMPT, STREAMS

_LATE_MS: Final = 10.0  # from here on the report warns that this program was kept waiting
_COUNTS: Final = {"completed", "failed", "mean_input_tokens", "cached_percent", "mean_output_tokens", "valid_json"}
_SECTIONS: Final[Sequence[Sequence[tuple[str, str]]]] = (
    (("completed", "Successful requests"), ("failed", "Failed requests"), ("valid_json", "Answers that are JSON")),
    (
        ("request_throughput", "Request throughput (req/s)"),
        ("text_throughput", "Text throughput (texts/s)"),
        ("output_throughput", "Output token throughput (tok/s)"),
        ("total_token_throughput", "Total token throughput (tok/s)"),
        ("mean_stream_throughput", "Mean throughput of a stream (tok/s)"),
    ),
    (
        ("mean_ttft_ms", "Mean TTFT (ms)"),
        ("median_ttft_ms", "Median TTFT (ms)"),
        ("p95_ttft_ms", "P95 TTFT (ms)"),
        ("p99_ttft_ms", "P99 TTFT (ms)"),
        ("all_first_token_ms", "All clients have a first token (ms)"),
    ),
    (("mean_tpot_ms", "Mean TPOT (ms)"), ("median_tpot_ms", "Median TPOT (ms)"), ("p99_tpot_ms", "P99 TPOT (ms)")),
    (
        ("mean_itl_ms", "Mean ITL (ms)"),
        ("median_itl_ms", "Median ITL (ms)"),
        ("p95_itl_ms", "P95 ITL (ms)"),
        ("p99_itl_ms", "P99 ITL (ms)"),
        ("max_itl_ms", "Longest ITL (ms)"),
    ),
    (("mean_e2el_ms", "Mean E2EL (ms)"), ("median_e2el_ms", "Median E2EL (ms)"), ("p99_e2el_ms", "P99 E2EL (ms)")),
    (
        ("mean_input_tokens", "Mean prompt (tokens)"),
        ("cached_percent", "of it from the cache (%)"),
        ("mean_output_tokens", "Mean answer (tokens)"),
    ),
)
_GROUP_ROWS: Final = (
    ("completed", "requests"),
    ("median_ttft_ms", "median TTFT (ms)"),
    ("p99_ttft_ms", "P99 TTFT (ms)"),
    ("p99_itl_ms", "P99 ITL (ms)"),
    ("max_itl_ms", "longest ITL (ms)"),
)
_ROWS_OF: Final = {
    STREAMS: {"completed", "median_ttft_ms", "p99_itl_ms", "max_itl_ms"},
    LONG_PROMPT: {"completed", "median_ttft_ms", "p99_ttft_ms"},
}
_SWEEP: Final = (
    ("output_throughput", "tok/s"),
    ("text_throughput", "texts/s"),
    ("median_ttft_ms", "median TTFT (ms)"),
    ("p99_itl_ms", "P99 ITL (ms)"),
)


def number(value: float | None) -> str:
    """Three digits at least, and no more after the point than they take; a dash for nothing.

    >>> number(1234.5), number(123.4), number(12.34), number(1.234), number(0.01234), number(0), number(None)
    ('1234', '123', '12.3', '1.23', '0.012', '0', '-')
    """
    if value is None:
        return "-"
    if float(value).is_integer():
        return str(int(value))
    digits = next((digits for digits, least in enumerate((100, 10, 1)) if abs(value) >= least), 3)
    return f"{value:.{digits}f}"


def show(plan: Plan, found: Results, out: TextIO) -> None:
    """Writes the whole report."""
    console = Console(file=out, highlight=False)
    width = console.width
    for part in _parts(plan, found):
        if isinstance(part, Table):  # a table is never cut: a log has all the room there is
            console.width = max(width, Measurement.get(console, console.options.update(width=1000), part).maximum)
        console.print(part, soft_wrap=isinstance(part, str), markup=False)


def _parts(plan: Plan, found: Results) -> Iterator[Table | str]:
    rounds = f"{plan.rounds} round{'' if plan.rounds == 1 else 's'}"
    yield f"{plan.workload}: {plan.kind.summary}; {rounds}, seed {plan.seed}"
    for load in plan.loads:
        yield _load_table(found, load_cells := found.at(load))
        yield from _notes(load_cells)
    if len(plan.loads) > 1:
        yield _sweep_table(plan, found)
    for name in dict.fromkeys(cell.target for cell in found.cells if cell.counts_pieces):
        yield f"{name} does not tell how many tokens it generates: pieces of its streams are counted in their place."


def _load_table(found: Results, cells: Sequence[Cell]) -> Table:
    comparisons = found.compared_at(cells[0].load)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(str(cells[0].load), no_wrap=True)
    for cell in cells:
        table.add_column(cell.target, justify="right", no_wrap=True)
    for comparison in comparisons:
        table.add_column(f"{comparison.of} / {comparison.to}", justify="right", no_wrap=True)
    for section in _SECTIONS:
        rows = [row for row in section if any(row[0] in cell.all for cell in cells)]
        for name, title in rows:
            ratios = [comparison.ratios.get(name) for comparison in comparisons]
            table.add_row(title, *(number(cell.all.get(name)) for cell in cells), *(_ratio(name, ratio) for ratio in ratios))
        if rows:
            table.add_section()
    for group in dict.fromkeys(group for cell in cells for group in cell.groups):
        _add_group(table, group, [cell.groups.get(group, {}) for cell in cells])
    return table


def _ratio(name: str, ratio: Ratio | None) -> str:
    if ratio is None or name in _COUNTS:
        return ""
    middle, least, greatest = ratio
    return f"{middle:.2f} ({least:.2f}..{greatest:.2f})"


def _add_group(table: Table, group: str, figures: Sequence[Figures]) -> None:
    chosen = _ROWS_OF.get(group)
    for name, title in _GROUP_ROWS:
        if any(name in found for found in figures) and (chosen is None or name in chosen):
            table.add_row(f"{group}: {title}", *(number(found.get(name)) for found in figures))
    table.add_section()


def _sweep_table(plan: Plan, found: Results) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    columns = [row for row in _SWEEP if any(row[0] in cell.all for cell in found.cells)]
    for _, title in columns:
        for target in plan.targets:
            table.add_column(f"{target.name}\n{title}", justify="right", no_wrap=True)
    for load in plan.loads:
        cells = found.at(load)
        table.add_row(str(load), *(number(cell.all.get(name)) for name, _ in columns for cell in cells))
    return table


def _notes(cells: Sequence[Cell]) -> Iterator[str]:
    for cell in cells:
        for kind, count, text in cell.failures:
            yield f"{cell.target}: {count} failed with {kind}: {text}"
        if cell.silent:
            yield f"{cell.target}: {cell.silent} answers had no text; they have no TTFT"
        if cell.late_ms > _LATE_MS:
            yield (
                f"{cell.target}: this program had to wait for the processor, {number(cell.late_ms)} ms (P99); "
                "times as short as that are not the server's alone"
            )
