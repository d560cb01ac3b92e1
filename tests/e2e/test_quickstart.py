"""What `./start` does once everything is installed."""

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.process import Server, environment, free_port

QUICKSTART = [sys.executable, "-m", "corral.cli.quickstart"]


def test_quickstart_names_the_server_that_has_the_port(server: Server) -> None:
    done = subprocess.run(QUICKSTART, env=server.env(), capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: Corral ")
    assert f"is running at {server.url} already" in done.stderr


def test_quickstart_refuses_a_port_that_something_else_has(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        taken.settimeout(10)
        env = environment(tmp_path, OLLAMA_HOST=f"127.0.0.1:{taken.getsockname()[1]}")
        process = subprocess.Popen(QUICKSTART, env=env, stderr=subprocess.PIPE, text=True)
        connection, _ = taken.accept()
        connection.close()
        _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert err.startswith("Error: something else answers at ")


@contextmanager
def started(env: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """The quick start as a process that does not outlive the block."""
    with subprocess.Popen(QUICKSTART, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


@pytest.mark.timeout(120)
def test_quickstart_serves_says_what_to_try_and_ends_on_ctrl_c(smollm2_server: Server, tmp_path: Path) -> None:
    port = free_port()
    env = environment(tmp_path, OLLAMA_HOST=f"127.0.0.1:{port}", CORRAL_MODELS=str(smollm2_server.home / "models"))
    with started(env) as process:
        assert process.stdout
        lines: list[str] = []
        while not lines or not lines[-1].startswith("Ctrl-C"):
            lines.append(process.stdout.readline())
            assert lines[-1], "".join(lines)
        text = "".join(lines)
        assert text.count("smollm2:135m") == 3
        (curl,) = [line.strip() for line in lines if line.strip().startswith("curl ")]
        answer = subprocess.run(
            ["sh", "-c", curl.replace("curl ", "curl --silent ")], capture_output=True, text=True, check=True
        )
        assert json.loads(answer.stdout.splitlines()[-1])["done"] is True
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=30)
    assert process.returncode == 0
    assert re.fullmatch(r"[\d:]+ info +request .* path=/api/chat status=200 .*\n", log), log  # and nothing from before
