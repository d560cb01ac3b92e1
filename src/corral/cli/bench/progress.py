"""What is under way, on stderr: one line that moves on a terminal, a line for each step in a log."""

from types import TracebackType
from typing import TextIO

from corral.cli.progress import Board
from corral.cli.terminal import can_move


class Progress:
    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._text = ""
        self._board = Board(out, lambda: [self._text] if self._text else [], keep=False) if can_move(out) else None

    def __enter__(self) -> "Progress":
        if self._board:
            self._board.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        if self._board:
            self._board.__exit__(kind, exc, trace)

    def tell(self, text: str) -> None:
        self._text = text
        if not self._board:
            self._out.write(f"{text}\n")
            self._out.flush()
