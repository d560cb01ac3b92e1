"""A real server as a process, its models made through its own API, and the command line as a process against it."""

import os
from collections.abc import Iterator

import pytest

from tests.support.process import ENDLESS, HELLO, Corral, Ran, Server, run_corral, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with scripted models: `hello` says one sentence, `endless` counts for some seconds."""
    folder = tmp_path_factory.mktemp("scripted")
    with serving(tmp_path_factory.mktemp("home")) as server:
        server.add_scripted("hello", HELLO, folder)
        server.add_scripted("endless", ENDLESS, folder)
        yield server


@pytest.fixture
def corral(server: Server) -> Corral:
    """Runs a command line as a process against the server with the scripted models."""

    def run(*args: str, stdin: str = "") -> Ran:
        return run_corral(server, *args, stdin=stdin)

    return run


@pytest.fixture(scope="session")
def smollm2_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that has pulled the default model through the command line; its answers are short."""
    with serving(tmp_path_factory.mktemp("home")) as server:
        ran = run_corral(server, "pull", "smollm2:135m", timeout_s=600)
        if ran.code and not os.environ.get("CI"):
            pytest.skip(f"the default model cannot be had here: {ran.err[-300:]}")
        assert ran.code == 0, ran.err
        short = {"model": "smollm2:135m", "from": "smollm2:135m", "parameters": {"num_predict": 40}, "stream": False}
        assert server.call("POST", "/api/create", short)[0] == 200  # so small a model may ramble without end
        yield server
