"""The commands of a chat: everything that begins with a slash. They change the session, and write on the terminal."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, TextIO

from corral.cli import help_texts
from corral.cli.client import Client, Json, ServerError
from corral.cli.keyboard import Keyboard
from corral.cli.models import listing
from corral.cli.progress import Spinner
from corral.cli.session import Session
from corral.cli.show import card
from corral.core.errors import BadRequestError, CorralError

FENCE: Final = '"""'
_LEVELS: Final = ("high", "medium", "low", "max")


class Commands:
    """Carries commands out on one session."""

    def __init__(
        self, client: Client, session: Session, keyboard: Keyboard, *, out: TextIO, err: TextIO, recall: Callable[[], None]
    ) -> None:
        """`recall` shows the conversation that the session's model begins with."""
        self._client, self._session, self._keyboard = client, session, keyboard
        self._out, self._err, self._recall = out, err, recall
        self._table: Final[dict[str, Callable[[str], None]]] = {
            "/set": self._set,
            "/show": self._show,
            "/load": self._load,
            "/save": self._save,
            "/clear": self._clear,
            "/list": self._list,
            "/?": self._help,
            "/help": self._help,
        }

    def run(self, line: str) -> None:
        """The line begins with a slash. What fails is said; nothing is raised but KeyboardInterrupt."""
        word, rest = _first(line)
        command = self._table.get(word)
        if command is None:
            self._say(f"Unknown command '{word}'. Type /? for help")
            return
        try:
            command(rest)
        except CorralError as exc:
            self._err.write(f"error: {exc}\n")

    def _say(self, text: str) -> None:
        self._out.write(f"{text}\n")
        self._out.flush()

    def _help(self, topic: str) -> None:
        self._say(help_texts.TOPICS.get(topic.removeprefix("/"), help_texts.COMMANDS))

    def _list(self, prefix: str) -> None:
        self._out.write(listing(self._client, prefix))

    def _clear(self, _rest: str) -> None:
        self._session.messages.clear()
        self._say("Cleared session context")

    def _load(self, name: str) -> None:
        if len(name.split()) != 1:
            self._say("Usage:\n  /load <modelname>")
            return
        self._say(f"Loading model '{name}'")
        fresh = Session(replace(self._session.options, model=name), {}, parameters=self._session.parameters)
        try:
            with Spinner(self._err):
                fresh.card = self._client.call("POST", "/api/show", {"model": name})
                self._client.call("POST", "/api/generate", fresh.load())
        except ServerError as exc:
            if exc.status != 404:
                raise
            self._say(f"Couldn't find model '{name}'")
            return
        self._session.become(fresh)
        self._recall()

    def _save(self, name: str) -> None:
        if len(name.split()) != 1:
            self._say("Usage:\n  /save <modelname>")
            return
        try:
            with self._client.stream("/api/create", self._session.saved_as(name)) as statuses:
                for _ in statuses:
                    pass
        except ServerError as exc:
            if "invalid model name" not in exc.text:
                raise
            self._say(f"error: The model name '{name}' is invalid")
        else:
            self._say(f"Created new model '{name}'")

    def _show(self, part: str) -> None:
        if not part:
            self._say(help_texts.SHOW)
            return
        if part not in ("info", "license", "modelfile", "parameters", "system", "template"):
            self._say(f"Unknown command '/show {part}'. Type /? for help")
            return
        look = self._session.look(self._client)
        match part:
            case "info":
                self._out.write(card(look, verbose=False))
            case "modelfile":
                self._say(look["modelfile"])
            case "parameters":
                self._show_parameters(look)
            case "license":
                self._say(look.get("license") or "No license was specified for this model.")
            case "system":
                self._say(look.get("system") or "No system message was specified for this model.")
            case "template":
                self._say(look.get("template") or "No prompt template was specified for this model.")

    def _show_parameters(self, look: Json) -> None:
        own = self._session.card.get("parameters") or "No additional parameters were specified for this model."
        self._say("Model defined parameters:\n" + "".join(f"  {line}\n" for line in own.splitlines()))
        if self._session.parameters:
            lines = (f"  {name:<30} {_spelled(value)}\n" for name, value in self._session.parameters.items())
            self._say("User defined parameters:\n" + "".join(lines))

    def _set(self, rest: str) -> None:
        name, value = _first(rest)
        match name:
            case "":
                self._say(help_texts.SET)
            case "parameter":
                self._set_parameter(value)
            case "system":
                self._set_system(value)
            case "history" | "nohistory":
                self._keyboard.remembers = name == "history"
                self._say(f"Set '{name}' mode.")
            case "wordwrap" | "nowordwrap":
                self._session.options = replace(self._session.options, wrap=name == "wordwrap")
                self._say(f"Set '{name}' mode.")
            case "verbose" | "quiet":
                self._session.options = replace(self._session.options, verbose=name == "verbose")
                self._say(f"Set '{name}' mode.")
            case "format" | "noformat":
                self._set_format(name, value)
            case "think" | "nothink":
                self._set_think(name, value)
            case _:
                self._say(f"Unknown command '/set {name}'. Type /? for help")

    def _set_format(self, name: str, value: str) -> None:
        if name == "format" and value != "json":
            self._say("Invalid or missing format. For 'json' mode use '/set format json'")
            return
        if name == "noformat":
            self._session.options = replace(self._session.options, response_format=None)
            self._say("Disabled format.")
            return
        self._client.call("POST", "/api/chat", self._session.trial(format=value))  # refused now rather than at every message
        self._session.options = replace(self._session.options, response_format=value)
        self._say(f"Set format to '{value}' mode.")

    def _set_think(self, name: str, level: str) -> None:
        if name == "think" and level and level not in _LEVELS:
            self._say(f"Couldn't set think: '{level}' is none of {', '.join(_LEVELS)}")
            return
        if "thinking" not in self._session.capabilities:
            self._err.write(f'warning: model "{self._session.model}" does not support thinking output\n')
        self._session.options = replace(self._session.options, think=(level or True) if name == "think" else False)
        self._say(f"Set 'think' mode to '{level}'." if level and name == "think" else f"Set '{name}' mode.")

    def _set_system(self, text: str) -> None:
        if not text:
            self._say(help_texts.SET)
            return
        if text.startswith(FENCE):
            text = text.removeprefix(FENCE).removesuffix(FENCE).strip("\n")
        self._session.system = text
        self._say("Set system message.")

    def _set_parameter(self, rest: str) -> None:
        name, value = _first(rest)
        if not value:
            self._say(help_texts.PARAMETERS)
            return
        words = _words(value)
        try:
            self._session.parameters[name] = option_value(name, words)
        except BadRequestError as exc:
            self._say(f"Couldn't set parameter: {exc}")
            return
        self._say(f"Set parameter '{name}' to '{', '.join(words)}'")


def option_value(name: str, words: Sequence[str]) -> Any:
    """What the words mean as the value of that option. Raises BadRequestError."""
    from corral.store import Instruction, parameter  # late: a chat rarely needs it

    values = [parameter(Instruction("parameter", word, name)) for word in words]
    if isinstance(values[0], list):
        return [item for value in values for item in value]
    if len(values) > 1:
        raise BadRequestError(f"{name} takes one value, not {len(values)}")
    return values[0]


def _first(text: str) -> tuple[str, str]:
    """The first word, and the rest as it is."""
    word, *rest = text.split(maxsplit=1) or [""]
    return word, rest[0].strip() if rest else ""


def _words(text: str) -> list[str]:
    """Words as in a shell, so that a value may hold spaces."""
    try:
        return shlex.split(text)
    except ValueError:  # a quote that nothing ends is meant as it is
        return text.split()


def _spelled(value: Any) -> str:
    return " ".join(map(repr, value)) if isinstance(value, list) else str(value)
