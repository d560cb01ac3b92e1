"""Push and pull by `corral serve` processes against a real registry, with the bytes counted on their way, and with kill -9."""

import hashlib
import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.docker_registry import CountingProxy, docker_registry
from tests.support.gguf_files import write_random
from tests.support.process import Server, run_corral, serving

MB = 1_000_000
HEADERS = MB // 10  # what requests, answers and the small layers may take


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with docker_registry(tmp_path_factory.mktemp("docker")) as port:
        yield port


@pytest.fixture
def proxy(registry: int) -> Iterator[CountingProxy]:
    with CountingProxy(registry) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real model of about 90 MB."""
    return write_random(tmp_path_factory.mktemp("gguf") / "big.gguf", width=1024, layers=3, heads=8, kv_heads=4, ff=4096)


def make(server: Server, name: str, gguf: Path) -> int:
    """Creates the model through the API; gives the size of its weights."""
    data = gguf.read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert server.call("POST", f"/api/blobs/{digest}", data)[0] == 201
    body = {"model": name, "files": {"m.gguf": digest}, "template": "{{ .Prompt }}", "system": "Be kind.", "stream": False}
    status, said = server.call("POST", "/api/create", body)
    assert status == 200, said
    return len(data)


def digest_of(server: Server, name: str) -> str:
    tags: list[dict[str, Any]] = json.loads(server.call("GET", "/api/tags", b"")[1])["models"]
    return next(str(model["digest"]) for model in tags if model["name"] == name)


def claimed_bytes(home: Path) -> int:
    """What the partial files of a store say is there."""
    total = 0
    for note in (home / "models" / "blobs").glob("sha256-*-partial-*"):
        total += int(json.loads(note.read_text())["Completed"])
    return total


def until(condition: Any, timeout_s: float = 30) -> None:
    """Another process has no other way to tell."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


@pytest.mark.timeout(180)
def test_what_is_pushed_deleted_and_pulled_is_the_same_model(tmp_path: Path, proxy: CountingProxy, big: Path) -> None:
    name = f"127.0.0.1:{proxy.port}/me/hello:v1"
    with serving(tmp_path) as server:
        size = make(server, name, big)
        before = digest_of(server, name)
        pushed = run_corral(server, "push", name, "--insecure")
        assert (pushed.code, pushed.out) == (0, f"\nYou can find your model at:\n\n\t{name}\n"), pushed.err
        assert pushed.err.startswith("retrieving manifest\npushing ")
        assert pushed.err.endswith("\npushing manifest\nsuccess\n")
        assert size <= proxy.to_server <= size + HEADERS

        proxy.open()
        assert run_corral(server, "push", name, "--insecure").code == 0
        assert proxy.to_server <= HEADERS

        assert run_corral(server, "rm", name).code == 0
        assert not list((tmp_path / "models" / "blobs").glob("sha256-*"))
        proxy.open()
        pulled = run_corral(server, "pull", name, "--insecure")
        assert pulled.code == 0, pulled.err
        assert size <= proxy.to_client <= size + HEADERS
        assert digest_of(server, name) == before


@pytest.mark.timeout(180)
def test_a_pull_that_was_killed_transfers_only_the_rest(tmp_path: Path, proxy: CountingProxy, big: Path) -> None:
    name = f"127.0.0.1:{proxy.port}/me/half:v1"
    with serving(tmp_path / "first") as server:
        size = make(server, name, big)
        before = digest_of(server, name)
        assert run_corral(server, "push", name, "--insecure").code == 0

    home = tmp_path / "second"
    home.mkdir()
    proxy.open()
    proxy.hold_after = size // 2
    with ExitStack() as stack:
        server = stack.enter_context(serving(home, exit_code=-signal.SIGKILL))
        pull = threading.Thread(target=run_corral, args=(server, "pull", name, "--insecure"))
        pull.start()
        assert proxy.is_holding.wait(60)
        until(lambda: claimed_bytes(home) > size * 0.45)  # the second or so until what has come is made sure of
        server.process.kill()
        server.process.wait()
        pull.join()
    claimed = claimed_bytes(home)
    assert size * 0.45 < claimed <= size // 2

    proxy.open()
    with serving(home) as server:
        assert claimed_bytes(home) == claimed, "a start keeps what was downloaded"
        pulled = run_corral(server, "pull", name, "--insecure")
        assert pulled.code == 0, pulled.err
        assert proxy.to_client <= size - claimed + HEADERS
        assert digest_of(server, name) == before
        assert not list((home / "models" / "blobs").glob("*partial*"))


@pytest.mark.timeout(180)
def test_a_push_goes_on_after_its_connection_was_cut(tmp_path: Path, proxy: CountingProxy, big: Path) -> None:
    name = f"127.0.0.1:{proxy.port}/me/cut:v1"
    with serving(tmp_path) as server:
        size = make(server, name, big)
        proxy.cut_after = size // 2
        pushed = run_corral(server, "push", name, "--insecure")
        assert pushed.code == 0, pushed.err
        before = digest_of(server, name)
        assert run_corral(server, "rm", name).code == 0
        assert run_corral(server, "pull", name, "--insecure").code == 0
        assert digest_of(server, name) == before


def test_what_the_registry_does_not_have_is_told(tmp_path: Path, proxy: CountingProxy) -> None:
    with serving(tmp_path) as server:
        pulled = run_corral(server, "pull", f"127.0.0.1:{proxy.port}/me/nope", "--insecure")
        assert (pulled.code, pulled.out) == (1, "")
        assert pulled.err == "pulling manifest\nError: pull model manifest: file does not exist\n"
        pushed = run_corral(server, "push", f"127.0.0.1:{proxy.port}/me/nope", "--insecure")
        assert (pushed.code, pushed.out) == (1, "")
        assert pushed.err.startswith("retrieving manifest\ncouldn't retrieve manifest\nError: model '127.0.0.1:")
