"""The table of comparisons: Corral against llama.cpp's server with eight slots and with one, on the loads people have.

    .venv/bin/python bench/table.py [--model smollm2|gemma3] [--rounds 3] [--quick] [--rows NAME,...]
                                    [--json FILE] [--plot FOLDER] [--markdown PAGE.md] [--from FILE]

Starts all servers itself, from this checkout and with a store of its own, on loopback; only one is busy at a time, and all are
gone at the end. About 20 minutes, --quick about 5: trust the latter less. Trust no figure at all from a machine that has other
work to do; the ratio that counts is the median of the rounds'. --from shows an earlier run's file again and measures nothing.
CORRAL_… variables are for the server that is measured, so that one lever can be switched off: they are noted in the table.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from corral import __version__
from corral.cli.bench.plot import check
from corral.core.errors import CorralError
from corral.core.units import rfc3339
from lifetimes import LIFETIME_ROWS
from loads import HTTP_ROWS
from peers import tools
from pictures import pictures
from servers import ends_on_signals
from showing import put_markdown, show
from subjects import SUBJECTS, Setting
from verdicts import Json, Row, line_document

ROWS: Final[Mapping[str, Row]] = {row.name: row for row in (*HTTP_ROWS, *LIFETIME_ROWS)}
_NONE: Final = "none"
_SEEDS: Final = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SUBJECTS, default="smollm2")
    parser.add_argument("--rows", default=",".join(ROWS), help=f"some of {', '.join(ROWS)}; or {_NONE}, for --plot alone")
    parser.add_argument("--rounds", type=int, default=0, help="3, with --quick 1, unless given")
    parser.add_argument("--quick", action="store_true", help="shorter loads")
    parser.add_argument("--seed", type=int, help="makes the same requests again")
    parser.add_argument("--json", type=Path, help="write the figures there; after each load, so that a stopped run has some")
    parser.add_argument("--plot", type=Path, help="draw throughput and time to first token against concurrency, as SVG files")
    parser.add_argument("--markdown", type=Path, help="put the table into this page, between its marks")
    parser.add_argument("--from", type=Path, dest="source", help="the file of an earlier run, to be shown instead of measuring")
    given = parser.parse_args()
    names = [] if given.rows == _NONE else given.rows.split(",")
    if unknown := [name for name in names if name not in ROWS]:
        parser.error(f"there is no row {unknown[0]}; there are {', '.join(ROWS)}")
    document = json.loads(given.source.read_text()) if given.source else _run(given, names)
    show(document, sys.stdout)
    if given.markdown:
        put_markdown(document, given.markdown)
    if document["failed"]:
        raise SystemExit(1)


def _run(given: argparse.Namespace, names: Sequence[str]) -> Json:
    """Measures the rows, one after the other. A stopped run gives what it has."""
    ends_on_signals()
    subject = SUBJECTS[given.model]
    seed = secrets.randbelow(_SEEDS) if given.seed is None else given.seed
    setting = Setting(subject, given.rounds or (1 if given.quick else 3), given.quick, seed, _tell)
    _prepare(setting, names, given.plot)
    document = _document(given.model, setting)
    try:
        for name in names:
            _measure(ROWS[name], setting, document)
            if given.json:
                given.json.write_text(json.dumps(document, indent=1) + "\n")
        if given.plot:
            for path in pictures(setting, given.model, given.plot):
                _tell(f"drawn: {path}")
    except KeyboardInterrupt:
        _tell("stopped")
        document["failed"]["all the rest"] = "the run was stopped"
    return document


def _prepare(setting: Setting, names: Sequence[str], plot: Path | None) -> None:
    """What takes long, or cannot be had at all, shows before anything is measured."""
    if plot:
        plot.mkdir(parents=True, exist_ok=True)
        check(plot / "any.svg")
    tools()
    setting.subject.gguf()
    for row in HTTP_ROWS:
        if row.name in names and row.subject:
            row.subject.gguf()


def _document(model: str, setting: Setting) -> Json:
    return {
        "date": rfc3339(datetime.now(UTC)),
        "corral": __version__,
        "llama_cpp_python": importlib.metadata.version("llama-cpp-python"),
        "machine": {"cpus": os.cpu_count(), "processor": _processor(), "system": platform.platform()},
        "load_before": round(os.getloadavg()[0], 2),
        "settings": {name: value for name, value in os.environ.items() if name.startswith("CORRAL_") and "BENCH" not in name},
        "model": model,
        "title": setting.subject.title,
        "rounds": setting.rounds,
        "quick": setting.is_quick,
        "seed": setting.seed,
        "lines": [],
        "failed": {},
    }


def _processor() -> str:
    """Its name, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    if info.exists() and (found := re.search(r"model name\s*: (.+)", info.read_text())):
        return found[1]
    return platform.processor() or platform.machine()


def _measure(row: Row, setting: Setting, document: Json) -> None:
    began_s = time.monotonic()
    try:
        outcome = row.measure(setting)
    except (CorralError, OSError, RuntimeError, subprocess.SubprocessError, ExceptionGroup) as exc:
        document["failed"][row.name] = str(exc) or type(exc).__name__
        return
    document["lines"] += [line_document(line, outcome) for line in row.lines]
    _tell(f"{row.name}: {time.monotonic() - began_s:.0f} s")


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
