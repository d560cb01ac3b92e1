"""The whole application over a scripted engine: in process for golden answers, on a loopback port for the official clients."""

import hashlib
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import uvicorn

from corral.core.settings import Settings, parse_host
from corral.engine.fake import FakeLauncher, Script
from tests.support.gguf_files import write_scripted

if TYPE_CHECKING:
    from corral.app import Corral

HELLO_SAYS = "Hello, I am a scripted model."


@dataclass(frozen=True, slots=True)
class Rig:
    """One server, what it stands on, and a client of it."""

    corral: "Corral"
    launcher: FakeLauncher
    http: httpx.AsyncClient

    def say(self, *pieces: str, **more: object) -> None:
        """What the next answer is made of; without it every answer is "Hello", ", ", "world"."""
        self.launcher.scripts.append(Script(pieces, **more))  # type: ignore[arg-type]  # the caller names Script's fields


@dataclass(frozen=True, slots=True)
class Upload:
    """A model file, as a client has it."""

    data: bytes
    digest: str


@pytest.fixture(scope="session")
def hello_gguf(tmp_path_factory: pytest.TempPathFactory) -> Upload:
    path = write_scripted(tmp_path_factory.mktemp("gguf") / "hello.gguf", HELLO_SAYS)
    data = path.read_bytes()
    return Upload(data, "sha256:" + hashlib.sha256(data).hexdigest())


def _corral(models: Path, launcher: FakeLauncher) -> "Corral":
    from corral.app import Corral  # knows every layer; tests of one of them need not

    return Corral(Settings(address=parse_host("127.0.0.1:11434"), models=models), launcher=launcher)


@asynccontextmanager
async def _rig(models: Path) -> AsyncIterator[Rig]:
    launcher = FakeLauncher()
    corral = _corral(models, launcher)
    transport = httpx.ASGITransport(app=corral.asgi)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:11434") as client:
            yield Rig(corral, launcher, client)
    finally:
        await corral.aclose()


@pytest.fixture
async def empty(tmp_path: Path) -> AsyncIterator[Rig]:
    """A server without models."""
    async with _rig(tmp_path / "models") as rig:
        yield rig


@pytest.fixture
async def rig(empty: Rig, hello_gguf: Upload) -> Rig:
    """A server with one model, `hello`."""
    uploaded = await empty.http.post(f"/api/blobs/{hello_gguf.digest}", content=hello_gguf.data)
    assert uploaded.status_code == 201, uploaded.text
    body = {"model": "hello", "files": {"hello.gguf": hello_gguf.digest}, "stream": False}
    made = await empty.http.post("/api/create", json=body)
    assert made.json() == {"status": "success"}, made.text
    return empty


@dataclass(frozen=True, slots=True)
class LiveServer:
    url: str
    launcher: FakeLauncher


@pytest.fixture
def live_server(tmp_path: Path, hello_gguf: Upload) -> Iterator[LiveServer]:
    """The same on a port, in a thread with its own event loop, with the model `hello`."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    launcher = FakeLauncher()
    corral = _corral(tmp_path / "models", launcher)
    config = uvicorn.Config(corral.asgi, http="httptools", ws="none", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="server")
    thread.start()
    try:
        with httpx.Client(base_url=url) as client:
            client.post(f"/api/blobs/{hello_gguf.digest}", content=hello_gguf.data).raise_for_status()
            body = {"model": "hello", "files": {"hello.gguf": hello_gguf.digest}, "stream": False}
            client.post("/api/create", json=body).raise_for_status()
        yield LiveServer(url, launcher)
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
