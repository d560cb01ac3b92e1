"""The chat against a server that gives set answers, its lines typed by a script."""

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from corral.cli.client import Client
from corral.cli.keyboard import LineDroppedError
from corral.cli.repl import Conversation, terminal_body
from corral.cli.run import RunOptions
from corral.cli.session import Session
from corral.core.settings import parse_host
from tests.support.stub_server import Reply, Stub, stub_server
from tests.support.terminal import Terminal, screen

Json = dict[str, Any]
Typed = str | type[BaseException]
CARD: Json = {
    "details": {"family": "llama", "parameter_size": "1.38M", "quantization_level": "F16"},
    "capabilities": ["completion", "vision"],
    "model_info": {},
    "modelfile": "FROM x\n",
    "parameters": 'stop                           "a"',
    "license": "MIT",
    "template": "{{ .Prompt }}",
}
LOADED = Reply({"model": "m", "response": "", "done": True, "done_reason": "load"})
PNG = b"\x89PNG\r\n\x1a\n rest"


@pytest.fixture
def stub() -> Iterator[Stub]:
    with stub_server() as stub:
        stub.answer("POST", "/api/show", Reply(CARD))
        stub.answer("POST", "/api/generate", LOADED)
        stub.answer("POST", "/api/chat", said("A"))
        yield stub


def said(*pieces: str) -> Reply:
    lines = [{"message": {"role": "assistant", "content": piece}, "done": False} for piece in pieces]
    return Reply(lines=[*lines, {"message": {"role": "assistant", "content": ""}, "done": True, "eval_count": 3}])


@dataclass
class Script:
    """A keyboard on which this is typed."""

    typed: Iterator[Typed]
    remembers: bool = True
    prompts: list[str] = field(default_factory=list)

    def read(self, prompt: str, placeholder: str = "") -> str:
        self.prompts.append(prompt)
        line = next(self.typed, EOFError)
        if isinstance(line, str):
            return line
        raise line


@dataclass
class Talk:
    """What came of a chat."""

    out: str
    err: str
    session: Session
    keyboard: Script


Chat = Callable[..., Talk]


@pytest.fixture
def chat(stub: Stub) -> Chat:
    def talk(*typed: Typed, out: io.StringIO | None = None, card: Json | None = None, **options: Any) -> Talk:
        out, err = out or io.StringIO(), io.StringIO()
        session, keyboard = Session(RunOptions("m", **options), card or CARD), Script(iter(typed))
        client = Client(parse_host(stub.url))
        conversation = Conversation(client, session, keyboard, out=out, err=err, make_body=terminal_body)
        conversation.recall()
        conversation.loop()
        return Talk(out.getvalue(), err.getvalue(), session, keyboard)

    return talk


def sent(stub: Stub) -> list[list[str]]:
    """The contents of the messages of each request."""
    return [[message["content"] for message in body["messages"]] for body in stub.bodies("/api/chat") if body]


def last(stub: Stub, path: str = "/api/chat") -> Json:
    body = stub.bodies(path)[-1]
    assert body
    return body


def test_chat_keeps_the_conversation(chat: Chat, stub: Stub) -> None:
    stub.answer("POST", "/api/chat", said("Hel", "lo"), said("Yes"))
    talk = chat("hi", "really?", "/bye", "never read")
    assert (talk.out, talk.err) == ("Hello\n\nYes\n\n", "")
    assert sent(stub) == [["hi"], ["hi", "Hello", "really?"]]


def test_chat_shows_and_keeps_what_the_model_begins_with(chat: Chat, stub: Stub) -> None:
    opening = [
        {"role": "system", "content": "x"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "it's me"},
    ]
    talk = chat("and?", card=CARD | {"messages": opening})
    assert talk.out == ">>> hi\nit's me\n\nA\n\n"
    assert sent(stub) == [["and?"]]  # the server puts them before


def test_chat_clear_forgets_all_but_the_system_message(chat: Chat, stub: Stub) -> None:
    talk = chat("/set system Be brief.", "hi", "/clear", "again")
    assert talk.out == "Set system message.\nA\n\nCleared session context\nA\n\n"
    assert sent(stub) == [["Be brief.", "hi"], ["Be brief.", "again"]]


def test_chat_takes_lines_between_quotes_as_one_message(chat: Chat, stub: Stub) -> None:
    talk = chat('"""one', "two", 'three"""', '"""short"""', '"""/bye"""', '"""pasted\nlines"""')
    assert sent(stub)[-1] == ["one\ntwo\nthree", "A", "short", "A", "/bye", "A", "pasted\nlines"]
    assert talk.keyboard.prompts == [">>> ", "... ", "... ", ">>> ", ">>> ", ">>> ", ">>> "]


@pytest.mark.parametrize(
    ("typed", "out"),
    [
        pytest.param([KeyboardInterrupt, "  ", "/exit"], "Use Ctrl + d or /bye to exit.\n", id="on-an-empty-line"),
        pytest.param([LineDroppedError, "/bye"], "", id="on-a-line-with-text"),
        pytest.param(['"""one', KeyboardInterrupt, "/bye"], "", id="between-quotes"),
    ],
)
def test_chat_ctrl_c_at_the_prompt(chat: Chat, stub: Stub, typed: Sequence[Typed], out: str) -> None:
    assert chat(*typed).out == out
    assert stub.asked == []


@pytest.mark.parametrize(
    ("line", "head"),
    [
        ("/?", "Available Commands:\n  /set "),
        ("/help", "Available Commands:\n  /set "),
        ("/? set", "Available Commands:\n  /set parameter ..."),
        ("/help /set", "Available Commands:\n  /set parameter ..."),
        ("/set", "Available Commands:\n  /set parameter ..."),
        ("/set system", "Available Commands:\n  /set parameter ..."),
        ("/help show", "Available Commands:\n  /show info"),
        ("/show", "Available Commands:\n  /show info"),
        ("/? shortcuts", "Available keyboard shortcuts:\n"),
        ("/set parameter", "Available Parameters:\n"),
        ("/set parameter seed", "Available Parameters:\n"),
        ("/load", "Usage:\n  /load <modelname>\n"),
        ("/save a b", "Usage:\n  /save <modelname>\n"),
        ("/frob x", "Unknown command '/frob'. Type /? for help\n"),
        ("/set what", "Unknown command '/set what'. Type /? for help\n"),
        ("/show what", "Unknown command '/show what'. Type /? for help\n"),
        ("/set format xml", "Invalid or missing format. For 'json' mode use '/set format json'\n"),
        ("/set think hard", "Couldn't set think: 'hard' is none of high, medium, low, max\n"),
    ],
)
def test_chat_explains_itself(chat: Chat, stub: Stub, line: str, head: str) -> None:
    assert chat(line).out.startswith(head)
    assert stub.asked == []


@pytest.mark.parametrize("line", ["/etc/hosts is what?", "/a.png?"])
def test_chat_sends_a_path_as_text(chat: Chat, stub: Stub, line: str) -> None:
    chat(line)
    assert sent(stub) == [[line]]


@pytest.mark.parametrize(
    ("line", "said", "want"),
    [
        pytest.param("/set verbose", "Set 'verbose' mode.\n", {"verbose": True}, id="verbose"),
        pytest.param("/set quiet", "Set 'quiet' mode.\n", {"verbose": False}, id="quiet"),
        pytest.param("/set wordwrap", "Set 'wordwrap' mode.\n", {"wrap": True}, id="wordwrap"),
        pytest.param("/set nowordwrap", "Set 'nowordwrap' mode.\n", {"wrap": False}, id="nowordwrap"),
        pytest.param("/set noformat", "Disabled format.\n", {"response_format": None}, id="noformat"),
        pytest.param("/set think", "Set 'think' mode.\n", {"think": True}, id="think"),
        pytest.param("/set think high", "Set 'think' mode to 'high'.\n", {"think": "high"}, id="think-level"),
        pytest.param("/set nothink", "Set 'nothink' mode.\n", {"think": False}, id="nothink"),
    ],
)
def test_chat_set_changes_the_options(chat: Chat, line: str, said: str, want: Json) -> None:
    talk = chat(line)
    assert talk.out == said
    assert {name: getattr(talk.session.options, name) for name in want} == want


def test_chat_set_format_holds_where_the_server_takes_it(chat: Chat, stub: Stub) -> None:
    stub.answer("POST", "/api/chat", Reply({"model": "m", "_debug_info": {"rendered_template": "x"}}), said("{}"))
    talk = chat("/set format json", "hi", "/set noformat", "hi")
    assert (talk.out, talk.err) == ("Set format to 'json' mode.\n{}\n\nDisabled format.\n{}\n\n", "")
    assert [body and body.get("format") for body in stub.bodies("/api/chat")] == ["json", "json", None]
    assert (stub.bodies("/api/chat")[0] or {})["_debug_render_only"] is True


def test_chat_set_format_is_refused_at_once_where_the_server_cannot(chat: Chat, stub: Stub) -> None:
    stub.answer("POST", "/api/chat", Reply({"error": "format: there is no structured output"}, status=501), said("A"))
    talk = chat("/set format json", "hi")
    assert (talk.out, talk.err) == ("A\n\n", "error: format: there is no structured output\n")
    assert talk.session.options.response_format is None
    assert "format" not in last(stub)


def test_chat_set_think_warns_where_the_model_does_not(chat: Chat, stub: Stub) -> None:
    stub.answer("POST", "/api/chat", Reply({"error": '"m" does not support thinking'}, status=400))
    talk = chat("/set think", "hi")
    assert talk.err == (
        'warning: model "m" does not support thinking output\nerror: 400 Bad Request: "m" does not support thinking\n\n'
    )
    assert last(stub)["think"] is True
    assert chat("/set think", card=CARD | {"capabilities": ["completion", "thinking"]}).err == ""


def test_chat_set_history_switches_the_keyboard(chat: Chat) -> None:
    assert chat("/set nohistory").keyboard.remembers is False
    assert chat("/set nohistory", "/set history").keyboard.remembers is True


@pytest.mark.parametrize(
    ("line", "said", "want"),
    [
        pytest.param("temperature 0.5", "Set parameter 'temperature' to '0.5'\n", {"temperature": 0.5}, id="float"),
        pytest.param("seed 42", "Set parameter 'seed' to '42'\n", {"seed": 42}, id="int"),
        pytest.param("use_mmap false", "Set parameter 'use_mmap' to 'false'\n", {"use_mmap": False}, id="bool"),
        pytest.param('stop "User: " ###', "Set parameter 'stop' to 'User: , ###'\n", {"stop": ["User: ", "###"]}, id="stops"),
        pytest.param("stop it's", "Set parameter 'stop' to 'it's'\n", {"stop": ["it's"]}, id="lone-quote"),
        pytest.param("wings 2", "Couldn't set parameter: unknown parameter 'wings'\n", {}, id="unknown"),
        pytest.param("seed x", "Couldn't set parameter: invalid int value 'x' for parameter 'seed'\n", {}, id="no-number"),
        pytest.param("seed 1 2", "Couldn't set parameter: seed takes one value, not 2\n", {}, id="too-many"),
    ],
)
def test_chat_set_parameter_goes_with_every_request(chat: Chat, stub: Stub, line: str, said: str, want: Json) -> None:
    talk = chat(f"/set parameter {line}", "hi")
    assert talk.out == f"{said}A\n\n"
    assert last(stub).get("options", {}) == want


def test_chat_set_system_takes_several_lines(chat: Chat, stub: Stub) -> None:
    talk = chat('/set system """You are', 'brief."""', "hi", "/set  system  Be  long.", "go on")
    assert talk.out == "Set system message.\nA\n\nSet system message.\nA\n\n"
    assert sent(stub) == [["You are\nbrief.", "hi"], ["Be  long.", "hi", "A", "go on"]]
    assert [message["role"] for message in last(stub)["messages"]] == ["system", "user", "assistant", "user"]


def test_chat_show_has_a_text_for_each_part(chat: Chat, stub: Stub) -> None:
    parts = ("license", "modelfile", "template", "system")
    talk = chat("/set system Be brief.", "/set parameter seed 1", *(f"/show {part}" for part in parts), "/show info")
    assert talk.out.removeprefix("Set system message.\nSet parameter 'seed' to '1'\n").startswith(
        "MIT\nFROM x\n\n{{ .Prompt }}\nNo system message was specified for this model.\n  Model\n    architecture"
    )
    assert last(stub, "/api/show") == {"model": "m", "system": "Be brief.", "options": {"seed": 1}}


def test_chat_show_parameters_tells_the_models_from_the_users(chat: Chat) -> None:
    assert chat("/show parameters").out == 'Model defined parameters:\n  stop                           "a"\n\n'
    talk = chat("/set parameter top_k 3", "/show parameters", card=CARD | {"parameters": ""})
    assert talk.out == (
        "Set parameter 'top_k' to '3'\nModel defined parameters:\n  No additional parameters were specified for this model.\n\n"
        "User defined parameters:\n  top_k                          3\n\n"
    )


def test_chat_show_says_what_a_model_has_not(chat: Chat, stub: Stub) -> None:
    stub.answer("POST", "/api/show", Reply({"details": {}, "model_info": {}, "modelfile": ""}))
    assert chat("/show license", "/show template").out == (
        "No license was specified for this model.\nNo prompt template was specified for this model.\n"
    )


def test_chat_load_begins_anew_with_another_model(chat: Chat, stub: Stub) -> None:
    other = CARD | {"messages": [{"role": "assistant", "content": "I am other."}]}
    stub.answer("POST", "/api/show", Reply(other))
    talk = chat("/set system Be brief.", "/set parameter seed 1", "hi", "/load other", "you?")
    assert talk.out.endswith("Loading model 'other'\nI am other.\n\nA\n\n")
    assert last(stub, "/api/generate") == {"model": "other", "stream": False, "options": {"seed": 1}}
    assert (last(stub)["model"], sent(stub)[-1]) == ("other", ["you?"])


def test_chat_load_of_a_missing_model_changes_nothing(chat: Chat, stub: Stub) -> None:
    stub.answer("POST", "/api/show", Reply({"error": "model 'nope:latest' not found"}, status=404))
    talk = chat("hi", "/load nope", "again")
    assert talk.out == "A\n\nLoading model 'nope'\nCouldn't find model 'nope'\nA\n\n"
    assert sent(stub)[-1] == ["hi", "A", "again"]


def test_chat_load_that_fails_goes_on_with_the_model_that_was(chat: Chat, stub: Stub) -> None:
    stub.answer("POST", "/api/generate", Reply({"error": "no memory"}, status=500))
    talk = chat("/load big", "hi")
    assert talk.err == "error: no memory\n"
    assert last(stub)["model"] == "m"


def test_chat_save_makes_a_model_of_all_that_was_said_and_set(chat: Chat, stub: Stub) -> None:
    stub.answer("POST", "/api/create", Reply(lines=[{"status": "writing manifest"}, {"status": "success"}]))
    opening = [{"role": "user", "content": "0"}, {"role": "assistant", "content": "1"}]
    talk = chat("/set system Be brief.", "/set parameter seed 1", "hi", "/save mine", card=CARD | {"messages": opening})
    assert talk.out.endswith("Created new model 'mine'\n")
    assert last(stub, "/api/create") == {
        "model": "mine",
        "from": "m",
        "stream": True,
        "system": "Be brief.",
        "parameters": {"seed": 1},
        "messages": [*opening, {"role": "user", "content": "hi"}, {"role": "assistant", "content": "A"}],
    }


@pytest.mark.parametrize(
    ("error", "out", "err"),
    [
        pytest.param("invalid model name", "error: The model name '../x' is invalid\n", "", id="name"),
        pytest.param("disk full", "", "error: 400 Bad Request: disk full\n", id="other"),
    ],
)
def test_chat_save_that_fails_says_why(chat: Chat, stub: Stub, error: str, out: str, err: str) -> None:
    stub.answer("POST", "/api/create", Reply({"error": error}, status=400))
    talk = chat("/save ../x")
    assert (talk.out, talk.err) == (out, err)


def test_chat_list_shows_the_models(chat: Chat, stub: Stub) -> None:
    model = {"name": "m:latest", "digest": "a" * 64, "size": 2_000_000, "modified_at": "2020-01-01T00:00:00Z"}
    stub.answer("GET", "/api/tags", Reply({"models": [model, model | {"name": "x:1"}]}))
    lines = chat("/list M").out.splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "m:latest"]


def test_chat_goes_on_after_an_error_as_if_nothing_was_said(chat: Chat, stub: Stub) -> None:
    stub.answer("POST", "/api/chat", Reply({"error": "server busy"}, status=503), said("A"))
    talk = chat("hi", "again")
    assert (talk.out, talk.err) == ("A\n\n", "error: 503 Service Unavailable: server busy\n\n")
    assert sent(stub) == [["hi"], ["again"]]


def test_chat_goes_on_after_the_server_died_and_came_back(chat: Chat, stub: Stub) -> None:
    first = {"message": {"role": "assistant", "content": "A be"}, "done": False}
    stub.answer("POST", "/api/chat", Reply(lines=[first], is_cut=True), said("B"))
    talk = chat("hi", "again")
    assert talk.out == "A be\nB\n\n"
    assert talk.err == f"error: the server at {stub.url} broke off its answer (connection closed)\n\n"


def test_chat_verbose_prints_timings(chat: Chat) -> None:
    assert chat("hi", verbose=True).err == "eval count:           3 token(s)\n"


def test_chat_attaches_pictures_that_a_message_names(chat: Chat, stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "b.png").write_text("text")
    talk = chat(f"what is {tmp_path}/a.png ?", f"and {tmp_path}/b.png ?")
    assert talk.err.splitlines()[0] == f"Added image '{tmp_path}/a.png'"
    assert talk.err.splitlines()[1] == f"error: cannot attach '{tmp_path}/b.png': it is no JPEG, PNG or WebP image"
    (message,) = last(stub)["messages"]
    assert message == {"role": "user", "content": "what is  ?", "images": ["iVBORw0KGgogcmVzdA=="]}
    chat(f"what is {tmp_path}/a.png ?", card=CARD | {"capabilities": ["completion"]})
    assert sent(stub)[-1] == [f"what is {tmp_path}/a.png ?"]


class Interrupted(io.StringIO):
    """The user presses Ctrl-C when the first piece is on the screen."""

    def write(self, text: str) -> int:
        super().write(text)
        if text == "A be":
            raise KeyboardInterrupt
        return len(text)


def test_chat_ctrl_c_keeps_what_was_said_so_far(chat: Chat, stub: Stub) -> None:
    hold = threading.Event()
    first = [{"message": {"role": "assistant", "content": piece}, "done": False} for piece in ("So: ", "A be")]
    stub.answer("POST", "/api/chat", Reply(lines=first, hold=hold), said("B"))
    talk = chat("hi", "go on", out=Interrupted())
    hold.set()
    assert talk.out == "So: A be\n\nB\n\n"
    assert sent(stub)[-1] == ["hi", "So: A be", "go on"]


def test_chat_on_a_terminal_shows_markdown_and_elsewhere_the_text(chat: Chat, stub: Stub) -> None:
    stub.answer("POST", "/api/chat", said("Hello **wo", "rld**\n\n- x"))
    assert chat("hi").out == "Hello **world**\n\n- x\n\n"
    assert screen(chat("hi", out=Terminal()).out) == ["Hello world", "", " • x", "", ""]
    assert chat("hi", out=Terminal(), wrap=False).out == "Hello **world**\n\n- x\n\n"
    assert chat("hi", out=Terminal(), response_format="json").out == "Hello **world**\n\n- x\n\n"


def test_chat_on_a_dumb_terminal_writes_no_sequences(chat: Chat, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stub.answer("POST", "/api/chat", said("Hello **world** " * 20))
    assert chat("hi", out=Terminal()).out == "Hello **world** " * 20 + "\n\n"


def test_chat_shows_thoughts_above_the_answer(chat: Chat, stub: Stub) -> None:
    thought = {"message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": False}
    stub.answer("POST", "/api/chat", Reply(lines=[thought, *said("A").lines]))
    assert screen(chat("hi", out=Terminal()).out) == ["Thinking...", "hm", "...done thinking.", "", "A", "", ""]
    assert screen(chat("hi", out=Terminal(), hide_thinking=True).out) == ["A", "", ""]
    assert sent(stub)[-1] == ["hi"]
