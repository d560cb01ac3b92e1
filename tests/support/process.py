"""`corral serve` and other command lines as processes of their own."""

import contextlib
import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.gguf_files import write_scripted

ROOT = Path(__file__).parents[2]
CORRAL = [sys.executable, "-m", "corral.cli.main"]
USERS = dict(os.environ)  # before any test's clean environment: pip's cache and index settings are the user's
HELLO = "Hello, I am a scripted model. Bye."
# counts, then says what hardly repeats itself, so that guessing ahead does not end it early: it takes a few seconds
ENDLESS = " ".join(str(number if number < 100 else number * 7919 % 10007) for number in range(800))


def environment(home: Path, **more: str) -> dict[str, str]:
    """The user's environment with a home of its own and no setting of ours, but with the user's pip cache."""
    env = {name: value for name, value in USERS.items() if not name.startswith(("OLLAMA_", "CORRAL_"))}
    cache = USERS.get("XDG_CACHE_HOME") or str(Path(USERS.get("HOME", "~")).expanduser() / ".cache")
    return env | {"HOME": str(home), "PIP_CACHE_DIR": f"{cache}/pip", "PYTHONUNBUFFERED": "1"} | more


@dataclass(slots=True)
class Server:
    """`corral serve` in a process of its own."""

    process: subprocess.Popen[str]
    home: Path
    url: str
    log: list[str] = field(default_factory=list)

    def env(self, **more: str) -> dict[str, str]:
        return environment(self.home, OLLAMA_HOST=self.url, **more)

    def call(self, method: str, path: str, body: bytes | Mapping[str, object]) -> tuple[int, str]:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body if isinstance(body, bytes) else json.dumps(body).encode())
            response = connection.getresponse()
            return response.status, response.read().decode()

    def add_scripted(self, name: str, say: str, folder: Path) -> None:
        self.add(write_scripted(folder / f"{name}.gguf", say), name)

    def add(self, file: Path, name: str, projector: Path | None = None, **more: object) -> None:
        """Makes a model of a GGUF, and of a projector's beside it. `more` are fields of the request."""
        files = {"m.gguf": self._uploaded(file)} | ({"mmproj.gguf": self._uploaded(projector)} if projector else {})
        body = {"model": name, "files": files, "stream": False, **more}
        status, said = self.call("POST", "/api/create", body)
        assert status == 200, said

    def _uploaded(self, file: Path) -> str:
        data = file.read_bytes()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        assert self.call("POST", f"/api/blobs/{digest}", data)[0] in (200, 201)
        return digest


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(home: Path, *, exit_code: int = 0, command: Sequence[str] = (*CORRAL, "serve"), **more: str) -> Iterator[Server]:
    """A server on a free port, ready; ended with Ctrl-C if it has not ended yet, and its exit code checked."""
    address = f"127.0.0.1:{free_port()}"
    env = environment(home, **{"CORRAL_HOST": address, "CORRAL_MODELS": str(home / "models"), **more})
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    server = Server(process, home, f"http://{address}")
    is_ready = threading.Event()

    def listen() -> None:
        for line in process.stderr or ():
            server.log.append(line)
            if " listens on " in line:
                is_ready.set()
        is_ready.set()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    assert is_ready.wait(30)
    assert process.poll() is None, "".join(server.log)
    try:
        yield server
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(20)
        thread.join()
        if process.stderr:
            process.stderr.close()
    assert code == exit_code, "".join(server.log)


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str


Corral = Callable[..., Ran]


def run_corral(server: Server, *args: str, stdin: str = "", timeout_s: float = 60) -> Ran:
    done = subprocess.run(
        [*CORRAL, *args], env=server.env(), input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    return Ran(done.returncode, done.stdout, done.stderr)
