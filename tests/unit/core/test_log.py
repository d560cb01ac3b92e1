"""What anybody can have logged, and what the log makes of it."""

import io
import logging
import re
import sys
from collections.abc import Iterator

import pytest

from corral.core.log import ConsoleFormatter, configure

EVIL = "/\n12:00:00 error   all is lost\x1b[2J\x9b2J\r\u2028\u202e\x7f"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure(debug=False, stream=stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)
    logging.getLogger("asyncio").filters.clear()


def test_control_characters_make_no_line_and_reach_no_terminal(lines: io.StringIO) -> None:
    logging.getLogger("x").info("asked for %s", EVIL, extra={"path": EVIL, "name_text": "für 東京 🏔"})
    text = lines.getvalue()
    assert text.endswith("\n")
    assert text[:-1].isprintable()
    assert text.count("\\n12:00:00 error   all is lost\\x1b[2J\\x9b2J\\r\\u2028\\u202e\\x7f") == 2
    assert "name_text=für 東京 🏔" in text


def fail(text: str) -> None:
    raise ValueError(text)


def test_traceback_keeps_its_lines_and_none_begins_as_an_event_does() -> None:
    try:
        fail(EVIL)
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "request failed", (), sys.exc_info())
    first, *rest = ConsoleFormatter().format(record).split("\n")
    assert re.fullmatch(r"\d\d:\d\d:\d\d error   request failed", first)
    assert len(rest) > 2
    assert all(line.startswith("  ") and line.isprintable() for line in rest)
    assert rest[-1].startswith("  12:00:00 error   all is lost\\x1b")


def test_message_that_ends_its_own_line_stays_one_line(lines: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").error("Exception in ASGI application\n")
    assert lines.getvalue().endswith(" error   Exception in ASGI application\n")


def test_a_client_that_left_while_it_was_written_to_is_no_warning(lines: io.StringIO) -> None:
    asyncio_log = logging.getLogger("asyncio")
    asyncio_log.warning("socket.send() raised exception.")
    asyncio_log.warning("something else")
    assert lines.getvalue().count("\n") == 1
    assert "something else" in lines.getvalue()
