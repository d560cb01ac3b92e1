"""The table of comparisons as text and as Markdown, from the document that a run writes. Pure but for the terminal."""

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final, TextIO

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from corral.cli.bench.report import number
from verdicts import OURS, Json

_COLUMNS: Final = ("load", OURS, "8 slots", "1 slot", "others", "ratio (min to max)", "target", "holds")
_BUSY: Final = 0.5  # load average from which on figures are not to be trusted
_WORDS: Final = ("load", "others", "target")  # columns of words, which begin at the left


def cells(line: Json) -> Iterator[tuple[str, ...]]:
    """The rows of a line, one for each target; what they have in common stands in the first."""
    figures = {name: number(median(values)) for name, values in line["figures"].items() if values}
    others = ", ".join(f"{name} {figure}" for name, figure in figures.items() if name not in _COLUMNS)
    shown = (f"{line['load']} ({line['unit']})", *(figures.get(name, "") for name in _COLUMNS[1:4]), others)
    for verdict in line["verdicts"]:
        yield (*shown, *_verdict(verdict, line["unit"]))
        shown = ("",) * len(shown)


def _verdict(verdict: Json, unit: str) -> tuple[str, str, str]:
    sign, others = "≤" if verdict["at_most"] else "≥", verdict["others"]
    target = f"{sign} {verdict['target']:.3g}" + (f" of {' or '.join(others)}" if others else f" {unit}")
    if "median" not in verdict:
        return "-", target, "not measured"
    ratio = f"{number(verdict['median'])} ({number(verdict['min'])} to {number(verdict['max'])})" if others else ""
    return ratio, target, "yes" if verdict["holds"] else "NO"


def show(document: Json, out: TextIO) -> None:
    """The whole report, on a terminal or in a log. A table is never cut."""
    console = Console(file=out, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name in _WORDS else "right", no_wrap=True)
    for line in document["lines"]:
        for row in cells(line):
            table.add_row(*row)
    console.width = max(console.width, Measurement.get(console, console.options.update(width=1000), table).maximum)
    console.print(heading(document), markup=False, soft_wrap=True)
    console.print(table, markup=False)
    for note in notes(document):
        console.print(note, markup=False, soft_wrap=True)


def heading(document: Json) -> str:
    rounds = document["rounds"]
    return (
        f"{document['title']}; {document['machine']['cpus']} cores ({document['machine']['processor']}); "
        f"{rounds} round{'' if rounds == 1 else 's'}{', quick' if document['quick'] else ''}; {document['date'][:10]}; "
        f"Corral {document['corral']}, llama-cpp-python {document['llama_cpp_python']}; seed {document['seed']}"
    )


def notes(document: Json) -> Iterator[str]:
    """Lines below the table: what was noticed, and what could not be measured."""
    seen = set[str]()
    for line in document["lines"]:
        for note in line["notes"]:
            text = f"{line['key']}: {note}"
            if note not in seen:
                yield text
            seen.add(note)
    if document["load_before"] >= _BUSY:
        yield f"the machine had other work to do: a load of {document['load_before']:g} before the run"
    for row, why in document["failed"].items():
        yield f"{row} was not measured: {why}"
    for name, value in document["settings"].items():
        yield f"set for Corral: {name}={value}"


def markdown(document: Json) -> str:
    """The same as a Markdown table with a caption."""
    lines = [f"{heading(document)}.", "", "| " + " | ".join(_COLUMNS) + " |"]
    lines.append("| " + " | ".join("---" if name in _WORDS else "--:" for name in _COLUMNS) + " |")
    lines += ["| " + " | ".join(row) + " |" for line in document["lines"] for row in cells(line)]
    found = [f"- {note}" for note in notes(document)]
    return "\n".join([*lines, *(["", *found] if found else [])])


def put_markdown(document: Json, page: Path) -> None:
    """Puts the table between the page's marks for this model. Raises ValueError where it has none."""
    begin, end = f"<!-- figures {document['model']} -->", "<!-- end of figures -->"
    text = page.read_text()
    before, mark, rest = text.partition(begin)
    _, end_mark, after = rest.partition(end)
    if not mark or not end_mark:
        raise ValueError(f"{page} has no {begin} with {end} behind it")
    page.write_text(f"{before}{begin}\n{markdown(document)}\n{end}{after}")
