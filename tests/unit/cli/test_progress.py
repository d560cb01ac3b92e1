import io
from collections.abc import Iterator
from itertools import count

from corral.cli.progress import Board, PullProgress, Spinner
from tests.support.terminal import Terminal, screen

LAYER = {"status": "pulling 941f309b54ca", "digest": "sha256:941f309b54ca", "total": 92_000_000}


def statuses() -> Iterator[dict[str, object]]:
    yield {"status": "pulling manifest"}
    for tenth in range(0, 101, 5):
        yield LAYER | {"completed": 920_000 * tenth}
    yield {"status": "verifying sha256 digest"}
    yield {"status": "success"}


def test_pull_progress_in_a_log_writes_a_line_for_each_tenth() -> None:
    out = io.StringIO()
    with PullProgress(out) as progress:
        for status in statuses():
            progress.update(status)
    tenths = [f"pulling 941f309b54ca: {percent}% of 92 MB" for percent in range(0, 101, 10)]
    assert out.getvalue().splitlines() == ["pulling manifest", *tenths, "verifying sha256 digest", "success"]


def test_pull_progress_on_a_terminal_leaves_full_bars() -> None:
    out = Terminal()
    ticks = count()
    with PullProgress(out, clock=lambda: next(ticks)) as progress:
        for status in statuses():
            progress.update(status)
    first, layer, *rest = screen(out.getvalue())
    assert first == "pulling manifest"
    assert layer.startswith("pulling 941f309b54ca: 100% ▕█")
    assert layer.endswith("█▏ 92 MB")
    assert rest == ["verifying sha256 digest", "success", ""]


def test_board_writes_foreign_lines_above_its_own() -> None:
    out = Terminal()
    with Board(out, lambda: ["moving"], keep=True) as board:
        board.above("log line\n")
    assert screen(out.getvalue()) == ["log line", "moving", ""]


def test_spinner_is_silent_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    with Spinner(out):
        pass
    assert out.getvalue() == ""


def test_spinner_leaves_nothing_on_a_terminal() -> None:
    out = Terminal()
    with Spinner(out) as spinner:
        spinner.stop()
        spinner.stop()
    assert screen(out.getvalue()) == [""]
