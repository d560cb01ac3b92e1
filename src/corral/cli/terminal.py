"""What the terminal at the other end can do, and how much room it has. Nothing here writes to it."""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, TextIO

_MARGIN: Final = 5  # columns that stay free at the right
_LEAST_WIDTH: Final = 20


def can_move(stream: TextIO, env: Mapping[str, str] | None = None) -> bool:
    """Whether the stream is a terminal that understands cursor movements. TERM=dumb says that it does not."""
    env = os.environ if env is None else env
    return stream.isatty() and env.get("TERM") != "dumb"


def has_colours(stream: TextIO, env: Mapping[str, str] | None = None) -> bool:
    """The same, where the user wants colours: https://no-color.org."""
    env = os.environ if env is None else env
    return can_move(stream, env) and not env.get("NO_COLOR")


def text_width() -> int:
    """Columns for running text."""
    return max(_LEAST_WIDTH, shutil.get_terminal_size().columns - _MARGIN)


def height() -> int:
    return shutil.get_terminal_size().lines


@contextmanager
def silent_keys(stream: TextIO | None = None) -> Iterator[None]:
    """While an answer is written, keys are not echoed into it; what is typed waits for the next prompt. Ctrl-C works on."""
    stream = sys.stdin if stream is None else stream
    try:
        import termios
    except ImportError:  # Windows
        yield
        return
    if stream is None or not stream.isatty():
        yield
        return
    before = termios.tcgetattr(stream)
    quiet = [*before]
    quiet[3] &= ~termios.ECHO
    termios.tcsetattr(stream, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(stream, termios.TCSADRAIN, before)
