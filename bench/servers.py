"""Starting servers to measure, and surely ending them: Corral with a store of its own, and llama.cpp's server.

All listen on loopback, on ports that were free. A server ends with the block that started it, whatever ends the block: what
does not go by itself is killed, its own children too. On Linux it also ends when this program is killed.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from http_load import wait_up
from peers import tool

CORRAL: Final = Path(sys.executable).with_name("corral")
NAME: Final = "bench"  # of the model, in Corral's store
STANDBY_S: Final = 4.5  # after a load, until the next standby worker is up
_END_S: Final = 20.0
_PR_SET_PDEATHSIG: Final = 1


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as s:
        return int(s.getsockname()[1])


def ends_on_signals() -> None:
    """From now on a signal that would end this program at once ends it as Ctrl-C does: by way of every `finally`."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.default_int_handler)


def _dies_with_parent() -> Callable[[], None] | None:
    """To be called in a new child, before it becomes the program. Only Linux has a way."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # not in the child: a library is not to be looked for between fork and exec
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _own_environment() -> dict[str, str]:
    """Without what is set for another Ollama or llama.cpp on this machine; CORRAL_… is set for what is measured here."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("OLLAMA_", "LLAMA_ARG_"))}


@contextlib.contextmanager
def process(
    argv: Sequence[str | Path], env: Mapping[str, str] | None = None, log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """The command, running for the length of a block, in a session of its own: Ctrl-C is ours to handle."""
    with contextlib.ExitStack() as files:
        out = files.enter_context(log.open("wb")) if log else subprocess.DEVNULL
        child = subprocess.Popen(
            list(map(str, argv)),
            env=_own_environment() | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            preexec_fn=_dies_with_parent(),
        )
        try:
            yield child
        finally:
            _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Asks the process to go, then makes it go; and all that it had started."""
    own = tree(child.pid)[1:]
    child.terminate()
    try:
        child.wait(_END_S)
    except subprocess.TimeoutExpired:
        print(f"process {child.pid} did not end within {_END_S:g} s and was killed", file=sys.stderr)
    finally:  # a second Ctrl-C leaves nothing behind either
        child.kill()
        child.wait()
        _, left = psutil.wait_procs(own, timeout=_END_S / 4)
        for one in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


def tree(pid: int) -> list[psutil.Process]:
    """The process, if it is there, and all that descend from it."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


@dataclass(frozen=True, slots=True)
class Server:
    """A running `corral serve`."""

    port: int
    env: dict[str, str]
    pid: int
    ready_s: float

    def add(self, name: str, gguf: Path, template: str = "") -> None:
        """Uploads the file and makes a model of it, with a template of Go's where its own is none."""
        digest = "sha256:" + hashlib.sha256(gguf.read_bytes()).hexdigest()
        url = f"http://127.0.0.1:{self.port}/api"
        with gguf.open("rb") as file:
            urllib.request.urlopen(
                urllib.request.Request(f"{url}/blobs/{digest}", file, {"Content-Length": str(gguf.stat().st_size)})
            )
        body = {"model": name, "files": {gguf.name: digest}, "stream": False, **({"template": template} if template else {})}
        urllib.request.urlopen(f"{url}/create", json.dumps(body).encode())


@contextlib.contextmanager
def corral(env: Mapping[str, str] | None = None, *, store: Path | None = None, log: Path | None = None) -> Iterator[Server]:
    """Corral from this checkout, with a store of its own that goes with it, or a given one that stays."""
    port = free_port()
    with contextlib.ExitStack() as stack:
        models = store or Path(tempfile.mkdtemp(prefix="corral-bench-"))
        if not store:
            stack.callback(shutil.rmtree, models, ignore_errors=True)
        own = {"CORRAL_HOST": f"127.0.0.1:{port}", "CORRAL_MODELS": str(models), **(env or {})}
        began_s = time.monotonic()
        child = stack.enter_context(process([CORRAL, "serve"], own, log))
        wait_up(port)
        yield Server(port, own, child.pid, time.monotonic() - began_s)


@contextlib.contextmanager
def peer(gguf: Path, slots: int = 1, more: Sequence[str | Path] = ()) -> Iterator[int]:
    """llama.cpp's server on the file; gives its port when it answers."""
    with peer_process(gguf, slots, more) as (port, _):
        yield port


@contextlib.contextmanager
def peer_process(
    gguf: Path, slots: int = 1, more: Sequence[str | Path] = (), log: Path | None = None
) -> Iterator[tuple[int, int]]:
    """The same; gives its port and its process."""
    port = free_port()
    argv = [tool("llama-server"), "-m", gguf, "--port", str(port), "-np", str(slots), "--no-webui", *more]
    with process(argv, log=log) as child:
        wait_up(port, "/health")
        yield port, child.pid
