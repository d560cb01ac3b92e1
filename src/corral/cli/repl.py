"""The chat that `corral run MODEL` opens on a terminal: reads a message or a command, asks, shows the answer, and again."""

import os
import re
import sys
from collections.abc import Callable
from typing import Final, NamedTuple, TextIO

from corral.cli.answer import AnswerWriter, Body, PlainBody, harmless, show_piece, text_of, timings
from corral.cli.attachments import attach, left_out
from corral.cli.client import Client, Json
from corral.cli.keyboard import Keyboard, LineDroppedError, TerminalKeyboard
from corral.cli.progress import Spinner
from corral.cli.run import RunOptions
from corral.cli.session import Session
from corral.cli.slash import FENCE, Commands
from corral.cli.terminal import can_move, has_colours, height, silent_keys, text_width
from corral.core.errors import CorralError

PROMPT: Final = ">>> "
MORE: Final = "... "
PLACEHOLDER: Final = "Send a message (/? for help)"
HINT: Final = "Use Ctrl + d or /bye to exit."
_COMMAND = re.compile(r"\s*(/[^\s/.]*)(?=\s|$)")
_OPENS_FENCE = re.compile(rf"(?:/set\s+system\s+)?{FENCE}")

MakeBody = Callable[[RunOptions, TextIO], Body]


class Entry(NamedTuple):
    """What the user entered. A text in quotes is a message whatever it begins with."""

    text: str
    is_quoted: bool = False

    @property
    def command(self) -> str:
        """The command's name, or "": a path has more than one slash, or a dot."""
        found = None if self.is_quoted else _COMMAND.match(self.text)
        return found[1] if found else ""


def chat(client: Client, options: RunOptions, card: Json) -> None:
    """Loads the model, shows the messages that it begins with, and talks until the user leaves."""
    session = Session(options, card)
    with Spinner(sys.stderr):
        client.call("POST", "/api/generate", session.load())
    talk = Conversation(client, session, TerminalKeyboard(os.environ), out=sys.stdout, err=sys.stderr, make_body=terminal_body)
    talk.recall()
    talk.loop()


def plain_body(options: RunOptions, out: TextIO) -> Body:
    return PlainBody(out, width=text_width() if options.wrap and can_move(out) else 0)


def terminal_body(options: RunOptions, out: TextIO) -> Body:
    """Markdown where the terminal can show it and the user has not asked for the bare text."""
    if not options.wrap or options.response_format is not None or not can_move(out):
        return plain_body(options, out)
    from corral.cli.markdown import MarkdownBody

    return MarkdownBody(out, lambda: (text_width(), height()), has_colours=has_colours(out))


class Conversation:
    """The loop around one session."""

    def __init__(
        self,
        client: Client,
        session: Session,
        keyboard: Keyboard,
        *,
        out: TextIO,
        err: TextIO,
        make_body: MakeBody = plain_body,
    ) -> None:
        self._client, self._session, self._keyboard = client, session, keyboard
        self._out, self._err, self._make_body = out, err, make_body
        self._commands = Commands(client, session, keyboard, out=out, err=err, recall=self.recall)

    def recall(self) -> None:
        """Shows the conversation that the model begins with; the server puts it before every other."""
        for message in self._session.opening:
            if message["role"] == "user":
                self._out.write(f"{PROMPT}{harmless(message['content'])}\n")
            elif message["role"] == "assistant":
                writer = self._writer(lambda: None)
                writer.text(message["content"])
                writer.close()
                self._out.write("\n\n")
        self._out.flush()

    def loop(self) -> None:
        while True:
            try:
                entry = self._next_entry()
            except EOFError:
                return
            except LineDroppedError:
                continue
            except KeyboardInterrupt:
                self._write(f"{HINT}\n")
                continue
            if entry.command in ("/bye", "/exit"):
                return
            try:
                self._take(entry)
            except KeyboardInterrupt:  # it stops what goes on, never the chat
                self._write("\n")

    def _take(self, entry: Entry) -> None:
        if entry.command:
            self._commands.run(entry.text.strip())
        elif entry.text.strip():
            self._ask(entry.text)

    def _next_entry(self) -> Entry:
        line = self._keyboard.read(PROMPT, PLACEHOLDER).rstrip()
        opening = _OPENS_FENCE.match(line)
        if not opening:
            return Entry(line)
        text = line[opening.end() :]
        while not text.endswith(FENCE):
            text = f"{text}\n{self._next_line()}"
        if line.startswith(FENCE):
            return Entry(text.removesuffix(FENCE).strip("\n"), is_quoted=True)
        return Entry(opening[0] + text)

    def _next_line(self) -> str:
        try:
            return self._keyboard.read(MORE).rstrip()
        except KeyboardInterrupt:
            raise LineDroppedError from None

    def _ask(self, text: str) -> None:
        """One turn. Ctrl-C stops the answer and what came of it stays said; an error leaves the conversation as it was."""
        answer: list[str] = []
        try:
            question = self._question(text)
            done = self._stream(self._session.question(question), answer)
        except KeyboardInterrupt:
            done = {}
        except CorralError as exc:
            self._write("\n" if answer else "")
            self._err.write(f"error: {exc}\n\n")
            return
        self._write("\n\n")
        if answer:
            self._session.messages += [question, {"role": "assistant", "content": "".join(answer)}]
        if self._session.options.verbose and done:
            self._err.write(timings(done))

    def _question(self, text: str) -> Json:
        """The message, with the files that it names. Raises AttachmentError."""
        found = attach(text, self._session.capabilities)
        for path, kind in found.left_out:
            self._err.write(left_out(path, kind, self._session.model))
        for file in found.files:
            self._err.write(f"Added {file.kind.name} '{file.path}'\n")
        images = {"images": [file.data for file in found.files]} if found.files else {}
        return {"role": "user", "content": found.text, **images}

    def _stream(self, request: Json, answer: list[str]) -> Json:
        done: Json = {}
        with silent_keys(), Spinner(self._err) as spinner, self._client.stream("/api/chat", request) as items:
            writer = self._writer(spinner.stop)
            try:
                for item in items:
                    if text := text_of(item):
                        answer.append(text)
                    show_piece(writer, item)
                    done = item
            finally:
                spinner.stop()
                writer.close()
        return done

    def _writer(self, begin: Callable[[], None]) -> AnswerWriter:
        options = self._session.options
        return options.writer(self._out, self._err, begin, self._make_body(options, self._out))

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
