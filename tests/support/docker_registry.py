"""Debian's docker-registry as a process, and a proxy before it that counts what goes through and can hold it back.

The program is the one on PATH, or else that of Debian's package, fetched once and unpacked into the user's cache, without root.
"""

import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

from tests.support.process import USERS

PACKAGE = "docker-registry"
CACHE = Path(USERS.get("XDG_CACHE_HOME") or str(Path(USERS.get("HOME", "~")).expanduser() / ".cache")) / "corral" / "tests"
_CONFIG = """\
version: 0.1
log: {{level: info, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: true}}}}
http: {{addr: 127.0.0.1:0, secret: not-much-of-one, debug: {{addr: ""}}}}
"""
_LISTENS = re.compile(r"listening on 127\.0\.0\.1:(\d+)")


def program() -> str:
    """The path of docker-registry. Where it cannot be had, a skip with the reason; in CI a failure."""
    try:
        return shutil.which(PACKAGE) or _fetched()
    except (OSError, subprocess.SubprocessError) as exc:
        said = getattr(exc, "stderr", "") or str(exc)
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{PACKAGE} is neither installed nor to be had from Debian: {said[-300:]}")


def _fetched() -> str:
    target = CACHE / PACKAGE
    binary = target / "usr" / "bin" / PACKAGE
    if not binary.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            _download(Path(folder))
            (archive,) = Path(folder).glob("*.deb")
            _run("dpkg", "-x", str(archive), f"{folder}/unpacked", cwd=Path(folder))
            with suppress(OSError):  # another run of the tests was quicker
                Path(folder, "unpacked").rename(target)
    return str(binary)


def _download(folder: Path) -> None:
    """The package, into the folder; with package lists of its own where the system's are missing or too old."""
    try:
        _run("apt-get", "download", PACKAGE, cwd=folder)
    except subprocess.CalledProcessError:
        own = [f"-oDir::State={folder}/state", f"-oDir::Cache={folder}/cache", "-oDebug::NoLocking=1", "-oAPT::Sandbox::User="]
        (folder / "state" / "lists" / "partial").mkdir(parents=True)
        (folder / "cache" / "archives" / "partial").mkdir(parents=True)
        _run("apt-get", *own, "update", cwd=folder)
        _run("apt-get", *own, "download", PACKAGE, cwd=folder)


def _run(*command: str, cwd: Path) -> None:
    subprocess.run(command, cwd=cwd, env=USERS, capture_output=True, text=True, check=True, timeout=300)


@contextmanager
def docker_registry(folder: Path) -> Iterator[int]:
    """The port of a registry that keeps its files in the folder, until the block ends."""
    config = folder / "registry.yml"
    config.write_text(_CONFIG.format(root=folder / "registry"))
    command = [program(), "serve", str(config)]
    with subprocess.Popen(command, env={"PATH": USERS["PATH"]}, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        log = iter(process.stderr)
        try:
            found = next((found for line in log if (found := _LISTENS.search(line))), None)
            assert found, "docker-registry ended before it listened"
            threading.Thread(target=lambda: list(log), daemon=True).start()  # a full pipe would stop it
            yield int(found[1])
        finally:
            process.terminate()
            process.wait(10)


@dataclass
class CountingProxy:
    """Passes bytes between clients and a server on loopback, each direction in a thread, and counts them. A context manager."""

    target: int
    hold_after: int = 1 << 62  # bytes towards clients; more wait until `open` is called
    cut_after: int = 1 << 62  # bytes towards the server: then the connection breaks, once
    to_client: int = 0
    to_server: int = 0
    port: int = 0
    is_holding: threading.Event = field(default_factory=threading.Event)
    _moving: threading.Condition = field(default_factory=threading.Condition)
    _sockets: list[socket.socket] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.open()
        with self._moving:
            for found in self._sockets:
                _close(found)

    def open(self) -> None:
        """Lets everything through, and counts from nothing."""
        with self._moving:
            self.hold_after, self.to_client, self.to_server = 1 << 62, 0, 0
            self._moving.notify_all()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                with self._moving:
                    self._sockets += [client, server]
                threading.Thread(target=self._pump, args=(client, server, self._towards_server), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, self._towards_client), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket, count: Callable[[int], bool]) -> None:
        with suppress(OSError):
            while (data := source.recv(1 << 14)) and count(len(data)):
                sink.sendall(data)
        _close(source)
        _close(sink)

    def _towards_client(self, size: int) -> bool:
        with self._moving:
            while self.to_client + size > self.hold_after:
                self.is_holding.set()
                self._moving.wait()
            self.to_client += size
        return True

    def _towards_server(self, size: int) -> bool:
        with self._moving:
            self.to_server += size
            is_cut = self.to_server > self.cut_after
            if is_cut:
                self.cut_after = 1 << 62
            return not is_cut


def _close(found: socket.socket) -> None:
    with suppress(OSError):
        found.shutdown(socket.SHUT_RDWR)
    found.close()
