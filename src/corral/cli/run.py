"""`corral run`: one answer for a prompt given on the command line or in a pipe, else a chat."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

import click

from corral.cli.answer import AnswerWriter, Body, show_piece, timings
from corral.cli.attachments import attach, left_out
from corral.cli.client import Client, Json, ServerError
from corral.cli.progress import Spinner
from corral.cli.pull import INSECURE, fetch
from corral.cli.terminal import can_move, has_colours, text_width
from corral.cli.usage import HOST_VARIABLE, Command, Flag, Switch, UsageError
from corral.core.units import keep_alive_s

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
    truncate: bool | None = None
    dimensions: int = 0

    def body(self) -> Json:
        """The part of a request that chat and generate have in common."""
        given = {"keep_alive": self.keep_alive or None, "format": self.response_format, "think": self.think}
        return {"model": self.model, "stream": True} | {name: value for name, value in given.items() if value is not None}

    def writer(self, out: TextIO, err: TextIO, begin: Callable[[], None], body: Body | None = None) -> AnswerWriter:
        return AnswerWriter(
            out,
            err,
            body=body,
            width=text_width() if self.wrap and can_move(out) else 0,
            is_grey=has_colours(out),
            hide_thinking=self.hide_thinking,
            begin=begin,
        )


def _run(words: tuple[str, ...], *, insecure: bool, **flags: Any) -> None:
    options = _options(words[0], **flags)
    client = Client()
    card = _have(client, options.model, insecure=insecure)
    prompt = _prompt(words[1:])
    if "embedding" in (card.get("capabilities") or ()):
        _embed(client, options, prompt)
        return
    if options.dimensions or options.truncate is not None:
        raise UsageError(f'--dimensions and --truncate are for embedding models, and "{options.model}" is none')
    if prompt is None:
        from corral.cli.repl import chat

        chat(client, options, card)
    else:
        _answer_once(client, options, prompt, card)


def _options(
    model: str,
    *,
    keepalive: str,
    response_format: str,
    think: str,
    hidethinking: bool,
    verbose: bool,
    nowordwrap: bool,
    truncate: bool | None,
    dimensions: int,
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
        truncate=truncate,
        dimensions=dimensions,
    )


def _format(text: str) -> Any:
    """A JSON Schema as an object, also from a file that is named; any other word as it is, for the server to judge.

    Raises UsageError for a file that has none.
    """
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return _schema_in(text) if text != "json" and os.path.isfile(text) else text  # noqa: PTH113  any text will do


def _schema_in(path: str) -> Any:
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as exc:
        raise UsageError(f"--format: '{path}' cannot be read: {exc.strerror or exc}") from exc
    except ValueError as exc:
        raise UsageError(f"--format: '{path}' is no JSON: {exc}") from exc


def _have(client: Client, model: str, *, insecure: bool) -> Json:
    """The model's card; pulls the model first where it is missing."""
    try:
        return client.call("POST", "/api/show", {"model": model})
    except ServerError as exc:
        if exc.status != 404:
            raise
    try:
        fetch(client, model, insecure=insecure)
    except ServerError as exc:
        raise ServerError(exc.status, exc.text, model=model) from exc
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


def _answer_once(client: Client, options: RunOptions, prompt: str, card: Json) -> None:
    request = options.body() | _attached(prompt, card, options.model)
    done: Json = {}
    with Spinner(sys.stderr) as spinner, client.stream("/api/generate", request) as items:
        writer = options.writer(sys.stdout, sys.stderr, spinner.stop)
        try:
            for item in items:
                show_piece(writer, item)
                done = item
        finally:
            spinner.stop()
            writer.close()
    if prompt:
        sys.stdout.write("\n\n")
        sys.stdout.flush()
    elif sys.stderr.isatty():
        sys.stderr.write(f"loaded '{options.model}'\n")
    if options.verbose:
        sys.stderr.write(timings(done))


def _attached(prompt: str, card: Json, model: str) -> Json:
    """The prompt, and the files that it names where the model can take them."""
    found = attach(prompt, card.get("capabilities") or ())
    for path, kind in found.left_out:
        sys.stderr.write(left_out(path, kind, model))
    if not found.files:
        return {"prompt": prompt}
    for file in found.files:
        sys.stderr.write(f"Added {file.kind.name} '{file.path}'\n")
    return {"prompt": found.text, "images": [file.data for file in found.files]}


def _embed(client: Client, options: RunOptions, prompt: str | None) -> None:
    """Prints the text's vector as JSON on one line."""
    if not prompt:
        raise UsageError(f'embedding models require input text. Usage: corral run {options.model} "your text here"')
    given = {"keep_alive": options.keep_alive or None, "truncate": options.truncate, "dimensions": options.dimensions or None}
    request = {"model": options.model, "input": prompt} | {name: value for name, value in given.items() if value is not None}
    with Spinner(sys.stderr):
        answer = client.call("POST", "/api/embed", request)
    click.echo(json.dumps(answer["embeddings"][0], separators=(",", ":")))


run = Command(
    "run",
    _run,
    usage="run MODEL [PROMPT]",
    summary="Run a model",
    flags=[
        Flag(
            "--dimensions",
            type=click.IntRange(min=0),
            default=0,
            placeholder="int",
            help="Truncate output embeddings to specified dimension (embedding models only)",
        ),
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
        Switch(
            "--truncate",
            help="For embedding models: truncate inputs exceeding context length (default: true). "
            "Set --truncate=false to error instead",
        ),
        Flag("--verbose", is_flag=True, help="Show timings for response"),
    ],
    at_least=1,
    environment={
        "OLLAMA_EDITOR": "Path to editor for interactive prompt editing (Ctrl+G)",
        **HOST_VARIABLE,
        "OLLAMA_NOHISTORY": "Do not preserve readline history",
    },
)
