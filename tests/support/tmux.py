"""A program in a real terminal: a tmux session of its own, keys typed into it, its screen read."""

import os
import re
import select
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest


def require_tmux() -> None:
    """Skips where tmux is not installed; in continuous integration its absence is an error."""
    if not shutil.which("tmux") and not os.environ.get("CI"):
        pytest.skip("tmux is not installed")


_ENDED = re.compile(r"^\[exit (\d+)\]$", re.MULTILINE)


class Tmux:
    """One window. Waiting means: until the program has written something that makes it so."""

    def __init__(self, socket: Path, output: int) -> None:
        self._socket, self._output = socket, output

    def type(self, *keys: str) -> None:
        """Keys by tmux's names ("Enter", "C-c", "Up"); anything else is text."""
        for key in keys:
            is_named = key in ("Enter", "Up", "Down", "Escape") or key.startswith(("C-", "M-"))
            self._run("send-keys", *([] if is_named else ["-l"]), key)

    def paste(self, text: str) -> None:
        """As if from the clipboard: bracketed where the program asked for that."""
        self._run("set-buffer", text)
        self._run("paste-buffer", "-p")

    def screen(self, *, history: bool = False) -> str:
        return self._run("capture-pane", "-p", *(["-S", "-"] if history else []))

    def until(self, is_so: Callable[[str], bool], *, history: bool = False, timeout_s: float = 30) -> str:
        """The screen, with `history` what scrolled away too, once it is so. Fails with the screen as it is in the end."""
        end_s = time.monotonic() + timeout_s
        while not is_so(screen := self.screen(history=history)):
            assert time.monotonic() < end_s, f"not in {timeout_s} s; the screen is\n{screen}"
            self._wait_for_output()
        return screen

    def ends(self, *, timeout_s: float = 30) -> tuple[int, list[str]]:
        """Waits until the program has ended: its exit code, and the lines that it wrote, what scrolled away included."""
        text = self.until(lambda screen: _ENDED.search(screen) is not None, history=True, timeout_s=timeout_s)
        found = _ENDED.search(text)
        assert found
        return int(found[1]), [line.rstrip() for line in text[: found.start()].splitlines()]

    def _wait_for_output(self) -> None:
        """Until the program writes, a second at most."""
        if select.select([self._output], [], [], 1.0)[0]:
            os.read(self._output, 1 << 16)

    def _run(self, *args: str) -> str:
        done = subprocess.run(["tmux", "-S", str(self._socket), *args], capture_output=True, text=True, check=True)
        return done.stdout


@contextmanager
def tmux(command: Sequence[str], env: Mapping[str, str], folder: Path, *, columns: int = 80, lines: int = 24) -> Iterator[Tmux]:
    """Runs the command in a terminal of that size until the block ends, under an empty line.

    `folder` takes the socket: its path must be short.
    """
    socket, fifo = folder / "s", folder / "out"
    os.mkfifo(fifo)
    output = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    clean = {name: value for name, value in env.items() if name not in ("TMUX", "TMUX_PANE")}
    base = ["tmux", "-S", str(socket), "-f", "/dev/null"]
    go = folder / "go"  # opened when the pipe of the output is laid, so that nothing is missed
    os.mkfifo(go)
    script = f"cat {shlex.quote(str(go))}; echo; {shlex.join(command)}; echo [exit $?]; read _"
    try:
        subprocess.run([*base, "new-session", "-d", "-x", str(columns), "-y", str(lines), script], env=clean, check=True)
        subprocess.run([*base, "pipe-pane", "-O", f"cat >{shlex.quote(str(fifo))}"], env=clean, check=True)
        go.write_text("")
        yield Tmux(socket, output)
    finally:
        subprocess.run([*base, "kill-server"], env=clean, check=False, capture_output=True)
        os.close(output)
