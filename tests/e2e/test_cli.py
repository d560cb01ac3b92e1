"""The command line as a process against a real server and a real worker."""

import os
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pexpect
import pytest

from corral import __version__
from tests.support.process import CORRAL, HELLO, Corral, Ran, Server, environment, free_port, run_corral


def test_run_prints_the_answer_and_nothing_else(corral: Corral) -> None:
    assert corral("run", "hello", "hi") == Ran(0, f"{HELLO}\n\n", "")


def test_run_reads_a_pipe(corral: Corral) -> None:
    assert corral("run", "hello", stdin="hi\n").out == f"{HELLO}\n\n"


def test_run_takes_a_closed_input_and_refuses_bytes_that_are_no_text(server: Server) -> None:
    def sh(line: str) -> subprocess.CompletedProcess[str]:
        command = line.replace("corral", shlex.join(CORRAL))
        return subprocess.run(["sh", "-c", command], env=server.env(), capture_output=True, text=True, check=False)

    assert sh("corral run hello hi <&-").stdout == f"{HELLO}\n\n"
    refused = sh(r"printf '\377' | corral run hello")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "Error: standard input is no UTF-8 text\n"


def test_run_verbose_prints_the_recorded_rows(corral: Corral) -> None:
    ran = corral("run", "hello", "hi", "--verbose")
    rows = [line[:22].strip() for line in ran.err.splitlines()]
    assert ran.out == f"{HELLO}\n\n"
    assert [row for row in rows if row != "prompt eval cached:"] == [
        "total duration:",
        "load duration:",
        "prompt eval count:",
        "prompt eval duration:",
        "prompt eval rate:",
        "eval count:",
        "eval duration:",
        "eval rate:",
    ]


def test_ls_show_ps_stop_tell_of_a_model(corral: Corral) -> None:
    assert re.fullmatch(
        r"NAME +ID +SIZE +MODIFIED\nhello:latest    [0-9a-f]{12}    [\d.]+ [KM]B +\S.* ago\n", corral("ls", "hello").out
    )
    card = corral("show", "hello")
    assert card.code == 0
    assert card.out.startswith("  Model\n    architecture        llama\n    parameters          ")
    corral("run", "hello", "hi")
    assert re.search(r"^hello:latest .* 100% (CPU|GPU) +\d+ +4 minutes from now$", corral("ps").out, re.MULTILINE)
    assert corral("stop", "hello") == Ran(0, "", "")
    assert "hello:latest" not in corral("ps").out


def test_rm_deletes_once(corral: Corral, server: Server) -> None:
    assert server.call("POST", "/api/create", {"model": "gone", "from": "hello", "system": "x", "stream": False})[0] == 200
    assert corral("rm", "gone") == Ran(0, "deleted 'gone'\n", "")
    assert corral("rm", "gone") == Ran(1, "", "Error: model 'gone' not found\n")
    assert corral("run", "hello", "hi").code == 0


def test_errors_are_the_recorded_ones(corral: Corral) -> None:
    assert corral("show", "nope") == Ran(1, "", "Error: model 'nope:latest' not found\n")
    assert corral("stop", "nope") == Ran(1, "", 'Error: couldn\'t find model "nope" to stop\n')
    assert corral("pull", "localhost:9/x", "--insecure") == Ran(1, "", "Error: 400 Bad Request: invalid model name\n")
    assert corral("run", "hello", "hi", "--think") == Ran(1, "", 'Error: 400 Bad Request: "hello" does not support thinking\n')


def test_run_of_an_unknown_model_tries_to_pull_it(corral: Corral) -> None:
    ran = corral("run", "localhost/library/nope", "hi", "--insecure")
    assert (ran.code, ran.out) == (1, "")
    assert re.match(r"pulling manifest\nError: .+\n$", ran.err)


def test_version_knows_its_server(corral: Corral) -> None:
    assert corral("--version") == Ran(0, f"corral version is {__version__}\n", "")


def test_serve_refuses_a_port_that_is_taken(server: Server, tmp_path: Path) -> None:
    address = urlsplit(server.url).netloc
    ran = subprocess.run(
        [*CORRAL, "serve"], env=environment(tmp_path, OLLAMA_HOST=address), capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert re.fullmatch(rf"Error: .*{address}.*in use.*\n", ran.stderr)


def test_ls_is_quick(corral: Corral) -> None:
    def once() -> float:
        began_s = time.perf_counter()
        assert corral("ls").code == 0
        return time.perf_counter() - began_s

    assert min(once() for _ in range(5)) <= 0.25


def test_ctrl_c_ends_run_with_130_and_frees_the_server(server: Server) -> None:
    with subprocess.Popen([*CORRAL, "run", "endless", "go"], env=server.env(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.read(20)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(10) == 130
    assert run_corral(server, "run", "hello", "hi").out == f"{HELLO}\n\n"


def test_a_closed_pipe_ends_run_quietly(server: Server) -> None:
    with subprocess.Popen(
        [*CORRAL, "run", "endless", "go"], env=server.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.read(20)
        process.stdout.close()
        assert process.wait(20) == 1
        assert process.stderr.read() == ""


@pytest.fixture
def chat(server: Server, tmp_path: Path) -> Iterator[pexpect.spawn]:
    """`corral run endless` on a terminal, at its first prompt."""
    env = server.env() | {"HOME": str(tmp_path), "PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm"}
    child = pexpect.spawn(CORRAL[0], [*CORRAL[1:], "run", "hello"], env=env, encoding="utf-8", timeout=20, dimensions=(30, 100))
    child.expect("Send a message")
    yield child
    child.close(force=True)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_chat_on_a_terminal_answers_and_leaves(chat: pexpect.spawn) -> None:
    chat.send("hi\r")
    chat.expect_exact(HELLO)
    chat.expect("Send a message")
    chat.sendintr()
    chat.expect_exact("Use Ctrl + d or /bye to exit.")
    chat.expect("Send a message")
    chat.send("/bye\r")
    chat.expect(pexpect.EOF)
    chat.wait()
    assert chat.exitstatus == 0
    history = Path(chat.env["HOME"]) / ".corral" / "history"
    assert "+hi" in history.read_text()
    assert history.stat().st_mode & 0o777 == 0o600


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_chat_ctrl_d_leaves(chat: pexpect.spawn) -> None:
    chat.sendeof()
    chat.expect(pexpect.EOF)
    chat.wait()
    assert chat.exitstatus == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_chat_ctrl_c_stops_the_answer_only(server: Server, tmp_path: Path) -> None:
    env = server.env() | {"HOME": str(tmp_path), "PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm"}
    child = pexpect.spawn(CORRAL[0], [*CORRAL[1:], "run", "endless"], env=env, encoding="utf-8", timeout=20)
    child.expect("Send a message")
    child.send("go\r")
    child.expect("20 21 22")
    child.sendintr()
    child.expect("Send a message")
    child.send("/bye\r")
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 0


def test_serve_is_ready_in_a_second(tmp_path: Path) -> None:
    """From the start of the process to an answer, the best of three."""

    def once() -> float:
        port = free_port()
        env = environment(tmp_path, OLLAMA_HOST=f"127.0.0.1:{port}")
        began_s = time.perf_counter()
        process = subprocess.Popen([*CORRAL, "serve"], env=env, stderr=subprocess.DEVNULL)
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    return time.perf_counter() - began_s
                except OSError:
                    os.sched_yield()
        finally:
            process.terminate()
            process.wait(20)

    assert min(once() for _ in range(3)) <= 1.0
