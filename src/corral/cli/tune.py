"""`corral tune`: has the server measure which settings of its engine suit a model, and shows what came of it.

The table goes to stdout, how it goes on to stderr.
"""

import json
import sys
from typing import Any, Final, TextIO

import click

from corral.cli.client import Client, Json
from corral.cli.progress import Board
from corral.cli.render import table
from corral.cli.terminal import can_move
from corral.cli.usage import Command, Flag, UsageError

_FIGURES: Final = {"prompt": "PROMPT", "alone": "ALONE", "together": "TOGETHER", "forks": "FORKS"}
_WHOLE: Final = 20  # tokens a second from which on a fraction is of no interest


class TuneProgress:
    """What is being measured: one line that changes on a terminal, a line each elsewhere."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._line = ""
        self._board = Board(out, lambda: [self._line] if self._line else [], keep=False) if can_move(out) else None

    def __enter__(self) -> "TuneProgress":
        if self._board:
            self._board.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._board:
            self._board.__exit__(*error)

    def update(self, item: Json) -> None:
        """Takes one line of the server's stream."""
        total = item.get("total") or 0
        place = f" ({item.get('completed', 0) + 1} of {total})" if total else ""
        self._line = f"{item['status']}{place}"
        if not self._board and item["status"] != "success":
            self._out.write(f"{self._line}\n")
            self._out.flush()


def _tune(
    words: tuple[str, ...],
    *,
    rounds: int | None,
    budget: float | None,
    allow_lossy: bool,
    dry_run: bool,
    clear: bool,
    json_: bool,
) -> None:
    if clear and (dry_run or json_):
        raise UsageError("--clear measures nothing: it goes with no other flag")
    name = words[0]
    body: Json = {"model": name, "rounds": rounds, "budget": budget}
    switches = {"allow_lossy": allow_lossy, "dry_run": dry_run, "clear": clear}
    body = {key: value for key, value in (body | switches).items() if value is not None and value is not False}
    last: Json = {}
    try:
        with TuneProgress(sys.stderr) as shown, Client().stream("/api/tune", body) as statuses:
            for last in statuses:
                shown.update(last)
    except KeyboardInterrupt:
        click.echo(f"the tuning of {name} was stopped; nothing was stored", err=True)
        raise
    report: Json | None = last.get("report")
    if json_:
        click.echo(json.dumps(report, indent=2))
    elif report:
        click.echo(summary(report), nl=False)


def summary(report: Json) -> str:
    """The table of what was measured, and what was chosen."""
    load = report["load"]
    body = [_row(item) for item in report["results"]]
    head = ["SETTINGS", *_FIGURES.values(), "RATIO", ""]
    return f"{table(head, body)}\n{_asked(load)}\n\n{_chosen(report)}\n"


def _row(item: Json) -> list[str]:
    speeds: Json | None = item.get("speeds")
    if speeds is None:
        return [item["name"], *["-"] * len(_FIGURES), "-", item.get("verdict", "")]
    figures = [f"{speeds[name]:.0f}" if speeds[name] >= _WHOLE else f"{speeds[name]:.1f}" for name in _FIGURES]
    if not item.get("verdict"):
        return [item["name"], *figures, "1", ""]
    return [item["name"], *figures, f"{item['score']:.2f} ({item['least']:.2f}-{item['greatest']:.2f})", item["verdict"]]


def _asked(load: Json) -> str:
    names = ("rounds", "prompt_tokens", "own_prompt_tokens", "answer_tokens", "streams")
    rounds, prompt, own, answer, streams = (load[name] for name in names)
    return (
        f"Tokens a second, medians of {rounds} rounds. PROMPT: reading {prompt} tokens. ALONE: an answer of {answer} tokens\n"
        f"to them. TOGETHER: {streams} answers to {own} tokens each. FORKS: {streams} answers behind the long prompt.\n"
        "RATIO: to the default in the same round, all figures in one, and its least and greatest."
    )


def _chosen(report: Json) -> str:
    """With a warning where the figures are not to be trusted."""
    noise = "\nOther programs used the machine meanwhile: measure again when it is quiet." if report["is_disturbed"] else ""
    return _choice(report) + noise


def _choice(report: Json) -> str:
    words = _settings(report["chosen"])
    if not words:
        return f"{report['model']} keeps the default settings: {report['why']}."
    verb = "is loaded with" if report["is_stored"] else "would be loaded with"
    return f"{report['model']} {verb} {words}: {report['why']}."


def _settings(chosen: Json) -> str:
    words = {True: "on", False: "off"}
    return ", ".join(f"{name} {words[value] if isinstance(value, bool) else value}" for name, value in chosen.items())


tune = Command(
    "tune",
    _tune,
    usage="tune MODEL",
    summary="Measure which settings suit a model, and keep them",
    flags=[
        Flag("--allow-lossy", is_flag=True, help="Choose also what changes the model's answers a little"),
        Flag("--budget", type=float, default=None, placeholder="seconds", help="How long it may take, about (default 180)"),
        Flag("--clear", is_flag=True, help="Go back to the default settings, and measure nothing"),
        Flag("--dry-run", is_flag=True, help="Measure, and store nothing"),
        Flag("--json", "json_", is_flag=True, help="Print the report as JSON"),
        Flag("--rounds", type=int, default=None, placeholder="int", help="How often each is measured (default 3)"),
    ],
    at_least=1,
    at_most=1,
)
