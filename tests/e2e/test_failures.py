"""What a client sees when things die: the worker, the client itself, the server."""

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from tests.support.process import ENDLESS, HELLO, Server, serving

MANY_WORDS = "word " * 3500


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    """A server that a test may hurt."""
    with serving(tmp_path / "home") as server:
        server.add_scripted("hello", HELLO, tmp_path)
        server.add_scripted("endless", ENDLESS, tmp_path)
        yield server


def connection(server: Server) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)


def begin(conn: http.client.HTTPConnection, **body: object) -> http.client.HTTPResponse:
    conn.request("POST", "/api/generate", json.dumps({"model": "endless", "prompt": "go", **body}))
    return conn.getresponse()


def engines(server: Server) -> list[psutil.Process]:
    """The workers that have a model; one that stands by has none."""
    children = psutil.Process(server.process.pid).children()
    return [child for child in children if any(Path(f.path).name.startswith("sha256-") for f in child.memory_maps())]


def says_hello(server: Server) -> bool:
    status, text = server.call("POST", "/api/generate", {"model": "hello", "prompt": "hi", "stream": False})
    return status == 200 and json.loads(text)["response"] == HELLO


def test_a_killed_worker_ends_the_stream_with_an_error_line_and_the_next_request_is_answered(own: Server) -> None:
    with closing(connection(own)) as conn:
        stream = begin(conn)
        assert json.loads(stream.readline())["done"] is False
        (worker,) = engines(own)
        worker.send_signal(signal.SIGKILL)
        killed_s = time.monotonic()
        lines = stream.read().splitlines()
        assert time.monotonic() - killed_s < 1
    assert json.loads(lines[-1]) == {"error": "an error was encountered while running the model: unexpected EOF"}
    status, text = own.call("POST", "/api/generate", {"model": "endless", "prompt": "go", "options": {"num_predict": 3}})
    assert status == 200
    assert json.loads(text.splitlines()[-1])["done"] is True


def test_a_client_that_leaves_in_prefill_makes_way_for_the_next(tmp_path: Path) -> None:
    with serving(tmp_path / "home", OLLAMA_NUM_PARALLEL="1") as server:
        server.add_scripted("hello", HELLO, tmp_path)
        assert says_hello(server)
        for _ in range(3):
            conn = connection(server)
            long = {"model": "hello", "prompt": MANY_WORDS + str(time.monotonic_ns()), "options": {"num_ctx": 32768}}
            conn.request("POST", "/api/generate", json.dumps(long))
            conn.close()
        assert says_hello(server)  # the one place is free, or this would wait for three long prompts
        status, text = server.call("GET", "/api/ps", b"")
        assert status == 200
        assert len(json.loads(text)["models"]) == 1


def test_ctrl_c_on_the_server_ends_running_answers_with_an_error_line(tmp_path: Path) -> None:
    with serving(tmp_path / "home") as server:
        server.add_scripted("endless", ENDLESS, tmp_path)
        with closing(connection(server)) as conn:
            stream = begin(conn)
            stream.readline()
            workers = psutil.Process(server.process.pid).children()
            timer = threading.Timer(0, os.kill, (server.process.pid, signal.SIGINT))
            timer.start()
            last = json.loads(stream.read().splitlines()[-1])
            timer.join()
        assert last == {"error": "the server is shutting down"}
        assert server.process.wait(10) == 0
        gone, alive = psutil.wait_procs(workers, 5)
        assert len(gone) == len(workers), alive


def test_a_second_ctrl_c_leaves_no_traceback_behind(tmp_path: Path) -> None:
    with serving(tmp_path / "home") as server:
        server.add_scripted("endless", ENDLESS, tmp_path)
        with closing(connection(server)) as conn:
            stream = begin(conn)
            stream.readline()
            for _ in range(2):
                server.process.send_signal(signal.SIGINT)
            assert json.loads(stream.read().splitlines()[-1]) == {"error": "the server is shutting down"}
        assert server.process.wait(10) == 0
    assert "Traceback" not in "".join(server.log)


def test_workers_end_when_the_server_is_killed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving(home, exit_code=-signal.SIGKILL) as server:
        server.add_scripted("hello", HELLO, tmp_path)
        assert says_hello(server)
        workers = psutil.Process(server.process.pid).children()
        assert workers
        server.process.kill()
        _, alive = psutil.wait_procs(workers, 5)
        assert not alive
    with serving(home) as again:
        assert says_hello(again)
