"""A worker process as the server holds it: started, spoken to in frames, heard when it dies, ended. No native code here."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from corral.core.aio import Background
from corral.wire.link import Frame, FrameSplitter, FromWorker, encode

log: Final = logging.getLogger(__name__)
_KEPT_LINES: Final = 20
_END_S: Final = 2.0
# llama.cpp's threads meet at a barrier hundreds of times a token. libgomp lets them spin there for milliseconds, which stalls
# everything when other processes want the cores too; so few turns cost nothing on a quiet machine. The user's setting wins.
_THREADING: Final = {"GOMP_SPINCOUNT": "500"}


class WorkerProcess(asyncio.Protocol):
    """One child process and the socket to it.

    `on_frame` is called for every frame, on the event loop; `on_death` once, when the socket closes, whichever side did it.
    """

    def __init__(self) -> None:
        self.on_frame: Callable[[FromWorker], None] = lambda _frame: None
        self.on_death: Callable[[], None] = lambda: None
        self.is_alive = False
        self.dead = asyncio.Event()
        self.last_words: deque[str] = deque(maxlen=_KEPT_LINES)
        self._process: asyncio.subprocess.Process | None = None
        self._transport: asyncio.Transport | None = None
        self._splitter = FrameSplitter()
        self._decoder: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
        self._background = Background(lambda error: log.error("worker watch failed", exc_info=error))

    @classmethod
    async def start(cls, *, debug: bool) -> "WorkerProcess":
        """A process that is being started; its Hello comes when it is up."""
        worker = cls()
        ours, theirs = socket.socketpair()
        with theirs:
            command = [
                sys.executable,
                "-m",
                "corral.engine.llamacpp.worker",
                str(theirs.fileno()),
                *(["--debug"] if debug else []),
            ]
            worker._process = await asyncio.create_subprocess_exec(
                *command,
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,  # a Ctrl-C in the terminal is the server's to handle
                env=_THREADING | os.environ,
            )
        worker._background.start(worker._listen(), name="worker stderr")
        ours.setblocking(False)
        await asyncio.get_running_loop().create_connection(lambda: worker, sock=ours)
        return worker

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def send(self, frame: Frame) -> None:
        """Queues the frame; one for a dead worker is dropped, its death is told anyway."""
        if self._transport and self.is_alive:
            self._transport.write(encode(frame))

    async def aclose(self) -> None:
        """Ends the process: at once if it is idle, by force if it does not listen. Safe to call twice."""
        if self._transport:
            self._transport.close()
        if self._process and self._process.returncode is None:
            try:
                async with asyncio.timeout(_END_S):
                    await self._process.wait()
            except TimeoutError:
                await self.kill()
        await self._background.aclose()

    async def kill(self) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()

    async def _listen(self) -> None:
        """Passes on what the process says on its standard error."""
        assert self._process is not None
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            text = line.decode(errors="replace").rstrip()
            self.last_words.append(text)
            log.info("worker says", extra={"pid": self.pid, "line": text})

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.is_alive = True

    def data_received(self, data: bytes) -> None:
        for body in self._splitter.feed(data):
            self.on_frame(self._decoder.decode(body))

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_alive = False
        self.dead.set()
        self.on_death()
