"""The line chat against a server that gives set answers, its lines typed by a script."""

import io
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from corral.cli.client import Client
from corral.cli.repl import Conversation, history_path
from corral.cli.run import RunOptions
from corral.core.settings import parse_host
from tests.support.stub_server import Reply, Stub, stub_server

Typed = str | type[BaseException]


@pytest.fixture
def stub() -> Iterator[Stub]:
    with stub_server() as stub:
        yield stub


def said(*pieces: str) -> Reply:
    lines = [{"message": {"role": "assistant", "content": piece}, "done": False} for piece in pieces]
    return Reply(lines=[*lines, {"message": {"role": "assistant", "content": ""}, "done": True, "eval_count": 3}])


def talk(
    stub: Stub, typed: Sequence[Typed], *, verbose: bool = False, out: io.StringIO | None = None
) -> tuple[str, str, list[str]]:
    """What the chat writes on stdout and stderr, and the prompts that it shows, when this is typed."""
    out, err, prompts, left = out or io.StringIO(), io.StringIO(), [], iter(typed)

    def read(prompt: str, _placeholder: str) -> str:
        prompts.append(prompt)
        line = next(left, EOFError)
        if isinstance(line, str):
            return line
        raise line

    Conversation(Client(parse_host(stub.url)), RunOptions("m", verbose=verbose), read, out=out, err=err).loop()
    return out.getvalue(), err.getvalue(), prompts


def sent(stub: Stub) -> list[list[str]]:
    """The contents of the messages of each request."""
    return [[message["content"] for message in body["messages"]] for body in stub.bodies("/api/chat") if body]


def test_chat_keeps_the_conversation(stub: Stub) -> None:
    stub.answer("POST", "/api/chat", said("Hel", "lo"), said("Yes"))
    out, err, _ = talk(stub, ["hi", "really?", "/bye", "never read"])
    assert (out, err) == ("Hello\n\nYes\n\n", "")
    assert sent(stub) == [["hi"], ["hi", "Hello", "really?"]]


def test_chat_clear_forgets(stub: Stub) -> None:
    stub.answer("POST", "/api/chat", said("A"))
    out, _, _ = talk(stub, ["hi", "/clear", "again"])
    assert out == "A\n\nCleared session context\nA\n\n"
    assert sent(stub) == [["hi"], ["again"]]


def test_chat_takes_lines_between_quotes_as_one_message(stub: Stub) -> None:
    stub.answer("POST", "/api/chat", said("A"))
    _, _, prompts = talk(stub, ['"""one', "two", 'three"""', '"""short"""'])
    assert sent(stub) == [["one\ntwo\nthree"], ["one\ntwo\nthree", "A", "short"]]
    assert prompts == [">>> ", "... ", "... ", ">>> ", ">>> "]


def test_chat_ctrl_c_at_the_prompt_says_how_to_leave(stub: Stub) -> None:
    out, _, _ = talk(stub, [KeyboardInterrupt, "  ", "/exit"])
    assert out == "Use Ctrl + d or /bye to exit.\n"
    assert stub.asked == []


def test_chat_explains_itself_and_refuses_unknown_commands(stub: Stub) -> None:
    out, _, _ = talk(stub, ["/?", "/frob x"])
    assert "/clear" in out
    assert out.endswith("Unknown command '/frob'. Type /? for help\n")
    assert stub.asked == []


def test_chat_sends_a_path_as_text(stub: Stub) -> None:
    stub.answer("POST", "/api/chat", said("A"))
    talk(stub, ["/etc/hosts is what?"])
    assert sent(stub) == [["/etc/hosts is what?"]]


def test_chat_goes_on_after_an_error_as_if_nothing_was_said(stub: Stub) -> None:
    stub.answer("POST", "/api/chat", Reply({"error": "server busy"}, status=503), said("A"))
    out, err, _ = talk(stub, ["hi", "again"])
    assert (out, err) == ("A\n\n", "Error: 503 Service Unavailable: server busy\n\n")
    assert sent(stub) == [["hi"], ["again"]]


def test_chat_verbose_prints_timings(stub: Stub) -> None:
    stub.answer("POST", "/api/chat", said("A"))
    _, err, _ = talk(stub, ["hi"], verbose=True)
    assert err == "eval count:           3 token(s)\n"


def test_chat_ctrl_c_keeps_what_was_said_so_far(stub: Stub) -> None:
    hold = threading.Event()
    first = {"message": {"role": "assistant", "content": "A be"}, "done": False}
    stub.answer("POST", "/api/chat", Reply(lines=[first], hold=hold), said("B"))

    class Interrupted(io.StringIO):
        """The user presses Ctrl-C when the first piece is on the screen."""

        def write(self, text: str) -> int:
            super().write(text)
            if text == "A be":
                raise KeyboardInterrupt
            return len(text)

    out, _, _ = talk(stub, ["hi", "go on"], out=Interrupted())
    hold.set()
    assert out == "A be\n\nB\n\n"


@pytest.mark.parametrize(
    ("env", "path"),
    [
        ({"HOME": "/h"}, Path("/h/.corral/history")),
        ({"HOME": "/h", "OLLAMA_NOHISTORY": "1"}, None),
        ({"HOME": "/h", "CORRAL_NOHISTORY": "1"}, None),
    ],
)
def test_history_is_kept_unless_told_otherwise(env: dict[str, str], path: Path | None) -> None:
    assert history_path(env) == path
