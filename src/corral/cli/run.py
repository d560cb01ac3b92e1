"""`corral run`: one answer for a prompt given on the command line or in a pipe, else a chat."""

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TextIO

from corral.cli.answer import AnswerWriter, show_piece, timings
from corral.cli.client import Client, Json, ServerError
from corral.cli.progress import Spinner
from corral.cli.pull import INSECURE, fetch
from corral.cli.usage import HOST_VARIABLE, Command, Flag, UsageError
from corral.core.units import keep_alive_s

_MARGIN: Final = 5  # columns that stay free at the right
_LEAST_WIDTH: Final = 20
_THINK: Final[Mapping[str, bool | str]] = {
    "true": True,
    "false": False,
    "high": "high",
    "medium": "medium",
    "low": "low",
    "max": "max",
}


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the flags say."""

    model: str
    keep_alive: str = ""
    response_format: Any = None
    think: bool | str | None = None
    hide_thinking: bool = False
    verbose: bool = False
    wrap: bool = True

    def body(self) -> Json:
        """The part of a request that chat and generate have in common."""
        given = {"keep_alive": self.keep_alive or None, "format": self.response_format, "think": self.think}
        return {"model": self.model, "stream": True} | {name: value for name, value in given.items() if value is not None}

    def writer(self, out: TextIO, err: TextIO) -> AnswerWriter:
        width = max(_LEAST_WIDTH, shutil.get_terminal_size().columns - _MARGIN) if self.wrap and out.isatty() else 0
        return AnswerWriter(out, err, width=width, hide_thinking=self.hide_thinking)


def _run(words: tuple[str, ...], *, insecure: bool, **flags: Any) -> None:
    options = _options(words[0], **flags)
    client = Client()
    card = _have(client, options.model, insecure=insecure)
    prompt = _prompt(words[1:])
    if prompt is None:
        from corral.cli.repl import chat

        chat(client, options, card)
    else:
        _answer_once(client, options, prompt)


def _options(
    model: str,
    *,
    keepalive: str,
    response_format: str,
    think: str,
    hidethinking: bool,
    verbose: bool,
    nowordwrap: bool,
) -> RunOptions:
    if keepalive:
        keep_alive_s(keepalive)  # a bad one is refused before anything is loaded
    if think and think not in _THINK:
        raise UsageError(f'invalid value for --think: "{think}" (must be true, false, high, medium, low, or max)')
    return RunOptions(
        model=model,
        keep_alive=keepalive,
        response_format=_format(response_format),
        think=_THINK[think] if think else None,
        hide_thinking=hidethinking,
        verbose=verbose,
        wrap=not nowordwrap,
    )


def _format(text: str) -> Any:
    """A JSON Schema as an object; a word as it is, for the server to judge."""
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _have(client: Client, model: str, *, insecure: bool) -> Json:
    """The model's card; pulls the model first where it is missing."""
    try:
        return client.call("POST", "/api/show", {"model": model})
    except ServerError as exc:
        if exc.status != 404:
            raise
    fetch(client, model, insecure=insecure)
    return client.call("POST", "/api/show", {"model": model})


def _prompt(words: tuple[str, ...]) -> str | None:
    """What a pipe brings, then the words of the command line. None: nothing was said and a person is there to say it."""
    parts = list(words)
    if sys.stdin is None:  # closed by the caller
        return " ".join(parts)
    if not sys.stdin.isatty():
        piped = _piped()
        return " ".join([piped, *parts] if piped else parts)
    if not parts and sys.stdout.isatty():
        return None
    return " ".join(parts)


def _piped() -> str:
    try:
        text = sys.stdin.read()
        text.encode()  # in some locales Python lets other bytes through in disguise
    except UnicodeError as exc:
        raise UsageError("standard input is no UTF-8 text") from exc
    return text


def _answer_once(client: Client, options: RunOptions, prompt: str) -> None:
    done: Json = {}
    writer = options.writer(sys.stdout, sys.stderr)
    with Spinner(sys.stderr) as spinner, client.stream("/api/generate", options.body() | {"prompt": prompt}) as items:
        try:
            for item in items:
                spinner.stop()
                show_piece(writer, item)
                done = item
        finally:
            writer.close()
    if prompt:
        sys.stdout.write("\n\n")
        sys.stdout.flush()
    if options.verbose:
        sys.stderr.write(timings(done))


run = Command(
    "run",
    _run,
    usage="run MODEL [PROMPT]",
    summary="Run a model",
    flags=[
        Flag("--format", "response_format", default="", placeholder="string", help="Response format (e.g. json)"),
        Flag("--hidethinking", is_flag=True, help="Hide thinking output (if provided)"),
        INSECURE,
        Flag("--keepalive", default="", placeholder="string", help="Duration to keep a model loaded (e.g. 5m)"),
        Flag("--nowordwrap", is_flag=True, help="Don't wrap words to the next line automatically"),
        Flag(
            "--think",
            default="",
            placeholder="string",
            bare_value="true",
            help="Enable thinking mode: true/false or high/medium/low for supported models",
        ),
        Flag("--verbose", is_flag=True, help="Show timings for response"),
    ],
    at_least=1,
    environment=HOST_VARIABLE | {"OLLAMA_NOHISTORY": "Do not preserve readline history"},
)
