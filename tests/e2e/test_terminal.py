"""The chat in a real terminal."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.process import CORRAL, ENDLESS, Server
from tests.support.tmux import Tmux, require_tmux, tmux

READY = ">>> Send a message (/? for help)"
MARKDOWN = "# Plan\n\nDo **this**:\n\n1. one\n2. two\n\n```python\nx = 1\n```\n\nDone."


def is_ready(screen: str) -> bool:
    return screen.rstrip().endswith(READY)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a socket's may not be long."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture
def chat(server: Server, folder: Path) -> Iterator[Tmux]:
    require_tmux()
    env = server.env(HOME=str(folder), LANG="C.UTF-8", LC_ALL="C.UTF-8")
    with tmux([*CORRAL, "run", "endless"], env, folder, columns=72, lines=20) as window:
        window.until(is_ready)
        yield window


def shown(server: Server, name: str) -> dict[str, object]:
    status, text = server.call("POST", "/api/show", {"model": name})
    assert status == 200, text
    card: dict[str, object] = json.loads(text)
    return card


@pytest.mark.timeout(120)
def test_chat_sets_asks_stops_saves_and_leaves(chat: Tmux, server: Server) -> None:
    chat.type("/set system You count.", "Enter")
    chat.until(lambda screen: "Set system message." in screen and is_ready(screen))
    chat.type('"""Count', "Enter")
    chat.until(lambda screen: screen.rstrip().endswith("..."))
    chat.type('for me."""', "Enter")
    chat.until(lambda screen: " 20 21 " in screen)
    chat.type("C-c")
    screen = chat.until(is_ready)
    assert "^C" not in screen
    chat.type("/save counted", "Enter")
    chat.until(lambda screen: "Created new model 'counted'" in screen and is_ready(screen))
    chat.type("C-c")
    chat.until(lambda screen: "Use Ctrl + d or /bye to exit." in screen and is_ready(screen))
    chat.type("/bye", "Enter")
    assert chat.ends()[0] == 0

    card = shown(server, "counted")
    assert card["system"] == "You count."
    messages = card["messages"]
    assert isinstance(messages, list)
    question, answer = messages
    assert question == {"role": "user", "content": "Count\nfor me."}
    assert ENDLESS.startswith(answer["content"])
    assert 60 < len(answer["content"]) < len(ENDLESS)


@pytest.mark.timeout(120)
def test_chat_takes_a_paste_as_one_message_and_remembers_lines(chat: Tmux, server: Server) -> None:
    chat.type("/set nothing", "Enter")
    chat.until(lambda screen: "Unknown command '/set nothing'" in screen and is_ready(screen))
    chat.type("Up")
    chat.until(lambda screen: screen.rstrip().endswith(">>> /set nothing"))
    chat.type("C-u")
    chat.until(is_ready)
    chat.paste("two\nlines")
    chat.until(lambda screen: "lines" in screen)
    chat.type("Enter")
    chat.until(lambda screen: " 20 21 " in screen)
    chat.type("C-c")
    chat.until(is_ready)
    chat.type("/save pasted", "Enter")
    chat.until(lambda screen: "Created new model 'pasted'" in screen and is_ready(screen))
    chat.type("C-d")
    assert chat.ends()[0] == 0
    messages = shown(server, "pasted")["messages"]
    assert isinstance(messages, list)
    assert messages[0]["content"] == "two\nlines"


@pytest.mark.timeout(120)
def test_chat_shows_markdown_and_keeps_what_scrolled_away(server: Server, folder: Path) -> None:
    require_tmux()
    server.add_scripted("planner", MARKDOWN, folder)
    env = server.env(HOME=str(folder), LANG="C.UTF-8", LC_ALL="C.UTF-8")
    with tmux([*CORRAL, "run", "planner"], env, folder, columns=72, lines=12) as window:
        for turn in range(4):
            window.until(lambda screen, done=turn: screen.count("Done.") == done and is_ready(screen), history=True)  # type: ignore[misc]
            if turn < 3:
                window.type(f"turn {turn}", "Enter")
        window.type("/bye", "Enter")
        _, lines = window.ends()
    answer = ["Plan", "", "Do this:", "", " 1. one", " 2. two", "", "```python", "x = 1", "```", "", "Done."]
    starts = [lines.index(f">>> turn {turn}") + 1 for turn in range(3)]
    assert [lines[at : at + len(answer)] for at in starts] == [answer] * 3
