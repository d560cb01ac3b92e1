import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from corral.cli.keyboard import EditorError, LineDroppedError, LineHistory, TerminalKeyboard, edited, history_path


@contextmanager
def keyboard(env: dict[str, str]) -> Iterator[tuple[TerminalKeyboard, PipeInput]]:
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        yield TerminalKeyboard(env), keys


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        pytest.param("hello\r", "hello", id="plain"),
        pytest.param("world\x01hello \r", "hello world", id="ctrl-a"),
        pytest.param("b\x01a\x05c\r", "abc", id="ctrl-e"),
        pytest.param("one two\x1bb\x1bbx\r", "xone two", id="alt-b"),
        pytest.param("one two\x01\x1bfx\r", "onex two", id="alt-f"),
        pytest.param("one two\x1bb\x0b\r", "one ", id="ctrl-k"),
        pytest.param("one two\x15x\r", "x", id="ctrl-u"),
        pytest.param("one two\x17x\r", "one x", id="ctrl-w"),
        pytest.param("one\x0c\r", "one", id="ctrl-l"),
        pytest.param("\x1b[200~two\nlines\x1b[201~\r", "two\nlines", id="pasted-lines-are-one-message"),
    ],
)
def test_keys_edit_the_line(env: dict[str, str], keys: str, line: str) -> None:
    with keyboard(env) as (board, pipe):
        pipe.send_text(keys)
        assert board.read(">>> ", "say something") == line


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        pytest.param("\x03", KeyboardInterrupt, id="ctrl-c-on-nothing"),
        pytest.param("text\x03", LineDroppedError, id="ctrl-c-on-text"),
        pytest.param("\x04", EOFError, id="ctrl-d"),
    ],
)
def test_keys_that_end_the_line(env: dict[str, str], keys: str, error: type[BaseException]) -> None:
    with keyboard(env) as (board, pipe):
        pipe.send_text(keys)
        with pytest.raises(error):
            board.read(">>> ")


def test_ctrl_g_opens_the_editor_and_its_text_is_edited_on(env: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "editor"
    script.write_text('#!/bin/sh\nprintf "%s and more\\n" "$(cat "$1")" > "$1.new" && mv "$1.new" "$1"\n')
    script.chmod(0o700)
    with keyboard(env | {"EDITOR": "false", "OLLAMA_EDITOR": str(script)}) as (board, pipe):
        pipe.send_text("draft\x07!\r")
        assert board.read(">>> ") == "draft and more!"


@pytest.mark.parametrize(
    ("editor", "text"),
    [
        pytest.param("no-such-editor", "editor 'no-such-editor' not found; OLLAMA_EDITOR names the one to use", id="missing"),
        pytest.param("false", "exit status 1", id="fails"),
        pytest.param("'unclosed", "No closing quotation", id="unreadable"),
    ],
)
def test_an_editor_that_cannot_be_used_is_named(editor: str, text: str) -> None:
    with pytest.raises(EditorError, match=text):
        edited("draft", {"EDITOR": editor})


async def lines(history: LineHistory) -> list[str]:
    return [line async for line in history.load()]


def remembered(path: Path) -> list[str]:
    return asyncio.run(lines(LineHistory(path, remembers=True)))


def test_lines_are_remembered_for_the_next_chat(env: dict[str, str]) -> None:
    with keyboard(env) as (board, pipe):
        pipe.send_text("first\rsecond\r")
        assert [board.read(">>> "), board.read(">>> ")] == ["first", "second"]
    path = history_path(env)
    assert remembered(path) == ["second", "first"]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["OLLAMA_NOHISTORY", "CORRAL_NOHISTORY"])
def test_nohistory_remembers_nothing_until_asked_to(env: dict[str, str], name: str) -> None:
    with keyboard(env | {name: "1"}) as (board, pipe):
        pipe.send_text("first\r")
        board.read(">>> ")
        assert not history_path(env).exists()
        board.remembers = True
        pipe.send_text("second\r")
        board.read(">>> ")
    assert remembered(history_path(env)) == ["second"]


def test_a_history_that_cannot_be_written_ends_no_chat(env: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    history_path(env).parent.write_text("a file where the folder should be")
    with keyboard(env) as (board, pipe):
        pipe.send_text("first\r")
        assert board.read(">>> ") == "first"
        assert not board.remembers
    assert "warning: lines are not remembered: " in capsys.readouterr().err
