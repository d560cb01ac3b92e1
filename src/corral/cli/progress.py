"""What moves on a terminal while something lasts: a spinner, and the lines of a pull with their bars.

All of it goes to stderr. On something that is no terminal the spinner is silent and a pull writes plain lines.
"""

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, TextIO

from corral.cli.client import Json
from corral.cli.render import human_bytes
from corral.cli.terminal import can_move

_FRAMES: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_FRAME_S: Final = 0.1
_BAR_LEAST: Final = 10


class Board:
    """A few lines at the bottom of a terminal, drawn again ten times a second by a thread of its own until the block ends."""

    def __init__(self, out: TextIO, lines: Callable[[], Sequence[str]], *, keep: bool) -> None:
        """`keep`: the last state stays on the screen; else the lines are wiped away."""
        self._out, self._lines, self._keep = out, lines, keep
        self._drawn = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="screen", daemon=True)

    def __enter__(self) -> "Board":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        with self._lock:
            self._draw((), above="".join(f"{line}\n" for line in self._lines()) if self._keep else "")

    def above(self, text: str) -> None:
        """Writes lines that stay, above those that move."""
        with self._lock:
            self._draw((), text)

    def _run(self) -> None:
        while not self._stop.wait(_FRAME_S):
            with self._lock:
                self._draw(self._lines())

    def _draw(self, lines: Sequence[str], above: str = "") -> None:
        columns, height = shutil.get_terminal_size()
        lines = [line[: columns - 1] for line in lines][-(height - 1) :]
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        self._out.write(f"\r{up}\x1b[J{above}" + "".join(f"{line}\n" for line in lines))
        self._out.flush()
        self._drawn = len(lines)


class Spinner:
    """A turning sign on a terminal, from a moment after the block begins until `stop` or the block's end."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spinner", daemon=True)

    def __enter__(self) -> "Spinner":
        if can_move(self._out):
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Wipes it away. Quick to call again."""
        if self._stop.is_set():
            return
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        frame = 0
        while not self._stop.wait(_FRAME_S):
            self._out.write(f"\r{_FRAMES[frame % len(_FRAMES)]} ")
            self._out.flush()
            frame += 1
        if frame:
            self._out.write("\r\x1b[K")
            self._out.flush()


class _Line:
    """One status of a pull, or one layer under way."""

    def __init__(self, status: str, now_s: float) -> None:
        self.status = status
        self.total = self.completed = 0
        self.is_over = False
        self._began_s, self._first = now_s, -1
        self._percent_said = -1

    def update(self, item: Json) -> None:
        self.total = item.get("total") or self.total
        self.completed = item.get("completed") or 0
        if self._first < 0:
            self._first = self.completed  # what lay there already was not fetched in this time
        self.is_over = 0 < self.total <= self.completed

    def moving(self, now_s: float, width: int) -> str:
        if not self.total:
            return self.status if self.is_over else f"{self.status} {_FRAMES[int(now_s / _FRAME_S) % len(_FRAMES)]}"
        share = min(1.0, self.completed / self.total)
        tail = human_bytes(self.total) if self.is_over else self._pace(now_s)
        head = f"{self.status}: {int(share * 100):3d}% "
        room = max(_BAR_LEAST, width - len(head) - 40)
        full = int(room * share)
        return f"{head}▕{'█' * full}{' ' * (room - full)}▏ {tail}"

    def _pace(self, now_s: float) -> str:
        amount = f"{human_bytes(self.completed)}/{human_bytes(self.total)}"
        rate = (self.completed - self._first) / max(0.1, now_s - self._began_s)
        if rate <= 0:
            return amount
        left_s = int((self.total - self.completed) / rate)
        minutes, seconds = divmod(left_s, 60)
        return f"{amount:<15}  {human_bytes(int(rate))}/s  {f'{minutes}m' if minutes else ''}{seconds}s"

    def plain(self) -> str:
        """A line for a log, or nothing where the last one still holds: at each tenth of a layer."""
        if not self.total:
            return "" if self._percent_said == 0 else self._say(0, self.status)
        tenth = self.completed * 10 // self.total * 10
        return "" if tenth == self._percent_said else self._say(tenth, f"{self.status}: {tenth}% of {human_bytes(self.total)}")

    def _say(self, percent: int, text: str) -> str:
        self._percent_said = percent
        return f"{text}\n"


class PullProgress:
    """The statuses of a pull on the screen: one line each, a bar for a layer."""

    def __init__(self, out: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._clock = out, clock
        self._lines: dict[str, _Line] = {}
        self._board = Board(out, self._moving, keep=True) if can_move(out) else None

    def __enter__(self) -> "PullProgress":
        if self._board:
            self._board.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        if not exc:
            self._end_last()
        if self._board:
            self._board.__exit__(kind, exc, trace)

    def update(self, item: Json) -> None:
        """Takes one line of the server's stream."""
        key = item.get("digest") or item["status"]
        line = self._lines.get(key)
        if line is None:
            self._end_last()
            line = _Line(item["status"], self._clock())
            self._lines = {**self._lines, key: line}  # a new mapping: the board's thread may be reading the old one
        line.update(item)
        if not self._board and (text := line.plain()):
            self._out.write(text)
            self._out.flush()

    def above(self, text: str) -> None:
        """Writes lines of somebody else's without spoiling the picture."""
        if self._board:
            self._board.above(text)
        else:
            self._out.write(text)

    def _end_last(self) -> None:
        for line in self._lines.values():
            if not line.total:
                line.is_over = True

    def _moving(self) -> list[str]:
        now_s, width = self._clock(), shutil.get_terminal_size().columns
        return [line.moving(now_s, width) for line in self._lines.values()]
