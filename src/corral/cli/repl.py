"""The chat that `corral run MODEL` opens on a terminal: prompt_toolkit in, plain text out, the conversation kept between."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TextIO

from corral.cli.answer import show_piece, timings
from corral.cli.client import Client, Json
from corral.cli.progress import Spinner
from corral.cli.run import RunOptions
from corral.core.errors import CorralError

PROMPT: Final = ">>> "
MORE: Final = "... "
FENCE: Final = '"""'
PLACEHOLDER: Final = "Send a message (/? for help)"
HELP: Final = f"""\
Available Commands:
  /clear          Clear session context
  /bye            Exit
  /?, /help       Help for a command

Use {FENCE} to begin a multi-line message.

"""

Read = Callable[[str, str], str]  # (prompt, placeholder) -> a line; EOFError: Ctrl-D, KeyboardInterrupt: Ctrl-C


def chat(client: Client, options: RunOptions, card: Json) -> None:
    """Loads the model, shows the messages that it begins with, and talks until the user leaves."""
    with Spinner(sys.stderr):
        load = {name: value for name, value in options.body().items() if name in ("model", "keep_alive")}
        client.call("POST", "/api/generate", load | {"stream": False})
    conversation = Conversation(client, options, keyboard(os.environ), out=sys.stdout, err=sys.stderr)
    for message in card.get("messages") or ():
        conversation.recall(message)
    conversation.loop()


class Conversation:
    """What was said so far, and the loop around it."""

    def __init__(self, client: Client, options: RunOptions, read: Read, *, out: TextIO, err: TextIO) -> None:
        self._client, self._options, self._read, self._out, self._err = client, options, read, out, err
        self._messages: list[Json] = []

    def recall(self, message: Json) -> None:
        """Shows a message of the model's own beginning; the server puts it before every conversation."""
        self._out.write(f"{PROMPT}{message['content']}\n" if message["role"] == "user" else f"{message['content']}\n\n")

    def loop(self) -> None:
        while True:
            try:
                text = self._next_message()
            except EOFError:
                return
            except KeyboardInterrupt:
                self._out.write("Use Ctrl + d or /bye to exit.\n")
                continue
            if text in ("/bye", "/exit"):
                return
            self._take(text)

    def _take(self, text: str) -> None:
        word = text.split(maxsplit=1)[0] if text.strip() else ""
        match word:
            case "":
                pass
            case "/clear":
                self._messages.clear()
                self._out.write("Cleared session context\n")
            case "/?" | "/help":
                self._out.write(HELP)
            case _ if word.startswith("/") and "/" not in word[1:]:
                self._out.write(f"Unknown command '{word}'. Type /? for help\n")
            case _:
                self._ask(text)

    def _next_message(self) -> str:
        line = self._read(PROMPT, PLACEHOLDER).rstrip()
        if not line.startswith(FENCE):
            return line
        lines = [line.removeprefix(FENCE)]
        while not lines[-1].endswith(FENCE):
            lines.append(self._read(MORE, "").rstrip())
        return "\n".join(lines).removesuffix(FENCE).strip("\n")

    def _ask(self, text: str) -> None:
        """One turn. Ctrl-C stops the answer and what came of it stays said; an error leaves the conversation as it was."""
        question: Json = {"role": "user", "content": text}
        answer: list[str] = []
        try:
            done = self._stream([*self._messages, question], answer)
        except KeyboardInterrupt:
            done = {}
        except CorralError as exc:
            self._out.write("\n" if answer else "")
            self._out.flush()
            self._err.write(f"Error: {exc}\n\n")
            return
        self._out.write("\n\n")
        self._out.flush()
        if answer:
            self._messages += [question, {"role": "assistant", "content": "".join(answer)}]
        if self._options.verbose and done:
            self._err.write(timings(done))

    def _stream(self, messages: list[Json], answer: list[str]) -> Json:
        done: Json = {}
        writer = self._options.writer(self._out, self._err)
        body = self._options.body() | {"messages": messages}
        with Spinner(self._err) as spinner, self._client.stream("/api/chat", body) as items:
            try:
                for item in items:
                    spinner.stop()
                    if text := show_piece(writer, item):
                        answer.append(text)
                    done = item
            finally:
                writer.close()
        return done


def history_path(env: Mapping[str, str]) -> Path | None:
    """Where lines are remembered; None where CORRAL_NOHISTORY or OLLAMA_NOHISTORY says not to."""
    if env.get("CORRAL_NOHISTORY") or env.get("OLLAMA_NOHISTORY"):
        return None
    return Path(env.get("HOME") or Path.home()) / ".corral" / "history"


def keyboard(env: Mapping[str, str]) -> Read:
    """Reads lines from the terminal, with editing and history."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory

    path = history_path(env)
    history: History = InMemoryHistory()
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        history = FileHistory(str(path))
    session: PromptSession[str] = PromptSession(history=history)

    def read(prompt: str, placeholder: str) -> str:
        return session.prompt(prompt, placeholder=[("fg:ansibrightblack", placeholder)])

    return read
