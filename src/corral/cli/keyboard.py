"""Lines from a person at a terminal: editing, history, and a text editor for long ones.

prompt_toolkit is here and nowhere else.
"""

import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from corral.core.errors import BadRequestError

_EDITORS: Final = ("CORRAL_EDITOR", "OLLAMA_EDITOR", "VISUAL", "EDITOR")
_USUAL_EDITOR: Final = "notepad" if sys.platform == "win32" else "vi"


class LineDroppedError(Exception):
    """Ctrl-C on a line that had text."""


class EditorError(BadRequestError):
    """The text editor cannot be used."""

    code = "editor"


class Keyboard(Protocol):
    """Where a chat's lines come from. `remembers`: whether they are kept for later chats."""

    remembers: bool

    def read(self, prompt: str, placeholder: str = "") -> str:
        """A line, or several that were pasted. EOFError: Ctrl-D; KeyboardInterrupt or LineDroppedError: Ctrl-C."""


class TerminalKeyboard:
    """The user's own terminal."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._history = LineHistory(history_path(env), remembers=not _asks_for_no_history(env))
        self._session: PromptSession[str] = PromptSession(
            history=self._history, key_bindings=self._bindings(), enable_suspend=True
        )
        self._wants_editor = False

    @property
    def remembers(self) -> bool:
        return self._history.remembers

    @remembers.setter
    def remembers(self, value: bool) -> None:
        self._history.remembers = value

    def read(self, prompt: str, placeholder: str = "") -> str:
        text = ""
        while True:
            self._wants_editor = False
            text = self._session.prompt(prompt, placeholder=[("fg:ansibrightblack", placeholder)], default=text)
            if not self._wants_editor:
                return text
            try:
                text = edited(text, self._env)
            except EditorError as exc:
                sys.stderr.write(f"error: {exc}\n")

    def _bindings(self) -> KeyBindings:
        bindings = KeyBindings()

        @bindings.add("c-c")
        def _(event: KeyPressEvent) -> None:
            event.app.exit(
                exception=LineDroppedError if event.current_buffer.text else KeyboardInterrupt, style="class:aborting"
            )

        @bindings.add("c-g")
        def _(event: KeyPressEvent) -> None:
            self._wants_editor = True
            event.app.exit(result=event.current_buffer.text)

        return bindings


class LineHistory(FileHistory):
    """Lines of this and earlier chats. What cannot be written is forgotten at the end, and the chat goes on."""

    def __init__(self, path: Path, *, remembers: bool) -> None:
        super().__init__(str(path))
        self._path = path
        self.remembers = remembers

    def load_history_strings(self) -> Iterable[str]:
        try:
            return list(super().load_history_strings()) if self.remembers else []
        except OSError as exc:
            self._give_up(exc)
            return []

    def store_string(self, string: str) -> None:
        if not self.remembers:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch(mode=0o600)
            super().store_string(string)
        except OSError as exc:
            self._give_up(exc)

    def _give_up(self, error: OSError) -> None:
        self.remembers = False
        sys.stderr.write(f"warning: lines are not remembered: {self._path}: {error.strerror or error}\n")


def history_path(env: Mapping[str, str]) -> Path:
    return Path(env.get("HOME") or Path.home()) / ".corral" / "history"


def _asks_for_no_history(env: Mapping[str, str]) -> bool:
    value = env.get("CORRAL_NOHISTORY") or env.get("OLLAMA_NOHISTORY", "")
    return value.lower() not in ("", "0", "false", "f")


def edited(text: str, env: Mapping[str, str]) -> str:
    """The text as it is when the user's editor has ended. Raises EditorError."""
    command = next((env[name] for name in _EDITORS if env.get(name, "").strip()), _USUAL_EDITOR)
    with tempfile.TemporaryDirectory(prefix="corral-") as folder:
        path = Path(folder) / "prompt.txt"
        path.write_text(text, encoding="utf-8")
        try:
            subprocess.run([*shlex.split(command), str(path)], check=True)
            return path.read_text(encoding="utf-8").rstrip("\n")
        except FileNotFoundError as exc:
            raise EditorError(f"editor {command!r} not found; OLLAMA_EDITOR names the one to use") from exc
        except (OSError, ValueError, subprocess.CalledProcessError) as exc:
            raise EditorError(f"editor {command!r}: {exc}") from exc
