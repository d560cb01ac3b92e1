"""Logging: stdlib, one line an event: an event name and fields. Console by default, JSON when asked for.

What is logged may come from anybody: whatever it holds, it makes no line that looks like one of ours, and no control
character of it reaches a terminal.
"""

import json
import logging
import sys
from contextvars import ContextVar
from typing import Final, TextIO

request_id: Final[ContextVar[str]] = ContextVar("request_id", default="")
_PLAIN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def _fields(record: logging.LogRecord) -> dict[str, object]:
    out: dict[str, object] = {}
    if rid := request_id.get():
        out["request_id"] = rid
    out.update((k, v) for k, v in vars(record).items() if k not in _PLAIN)
    return out


def _visible(text: str) -> str:
    r"""The text with what is no printable character escaped as Python writes it.

    >>> print(_visible("a\n\x1b[2Jé"))
    a\n\x1b[2Jé
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


class ConsoleFormatter(logging.Formatter):
    """A line an event. A traceback follows on lines that are set in, so that none begins as an event does."""

    def format(self, record: logging.LogRecord) -> str:
        at = self.formatTime(record, "%H:%M:%S")
        tail = "".join(f" {k}={v}" for k, v in _fields(record).items())
        text = f"{at} {record.levelname.lower():<7} {_visible(record.getMessage().strip() + tail)}"
        if not record.exc_info:
            return text
        trace = self.formatException(record.exc_info).split("\n")
        return "\n".join([text, *(f"  {_visible(line)}" for line in trace)])


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {"time": record.created, "level": record.levelname.lower(), "event": record.getMessage()}
        line |= _fields(record)
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _WithoutLeavers(logging.Filter):
    """Leaves out what asyncio says of a client that has left while it was written to: its request's own line tells that."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.msg != "socket.send() raised exception."


def configure(*, debug: bool, as_json: bool = False, stream: TextIO | None = None) -> None:
    """Sends every logger's lines to `stream` (stderr), once. Prompts are never logged above DEBUG."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else ConsoleFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    asyncio_log = logging.getLogger("asyncio")
    asyncio_log.setLevel(logging.INFO)
    asyncio_log.filters[:] = [_WithoutLeavers()]
