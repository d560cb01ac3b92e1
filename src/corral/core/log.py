"""Logging: stdlib, one line an event: an event name and fields. Console by default, JSON when asked for."""

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


class ConsoleFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = self.formatTime(record, "%H:%M:%S")
        tail = "".join(f" {k}={v}" for k, v in _fields(record).items())
        text = f"{at} {record.levelname.lower():<7} {record.getMessage()}{tail}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {"time": record.created, "level": record.levelname.lower(), "event": record.getMessage()}
        line |= _fields(record)
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(*, debug: bool, as_json: bool = False, stream: TextIO | None = None) -> None:
    """Sends every logger's lines to `stream` (stderr), once. Prompts are never logged above DEBUG."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else ConsoleFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    logging.getLogger("asyncio").setLevel(logging.INFO)
