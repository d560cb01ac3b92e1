"""A worker process as the server holds it: started, spoken to in frames, heard when it dies, ended. No native code here."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec

from corral.core.aio import Background
from corral.wire.link import Frame, FrameSplitter, FromWorker, encode

log: Final = logging.getLogger(__name__)
_KEPT_LINES: Final = 20
_LONGEST_LINE: Final = 4096  # bytes; what is longer comes in pieces
_READ_BYTES: Final = 1 << 16
_END_S: Final = 2.0
# llama.cpp's threads meet at a barrier hundreds of times a token. libgomp lets them spin there for many milliseconds, which
# stalls everything when other programs want the cores too; with very few turns they sleep and wake all the time, 7 % of a quiet
# machine's speed. So many are a fraction of a millisecond; where cores are taken, threads.py does the rest. The user's own
# setting wins.
_SURROUNDINGS: Final = {
    "GOMP_SPINCOUNT": "5000",
    "GGML_NO_BACKTRACE": "1",  # else llama.cpp has a debugger write pages behind the line that says what is wrong
}


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
        self._is_writable = asyncio.Event()
        self._is_writable.set()
        self._splitter = FrameSplitter()
        self._decoder: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
        self._background = Background(lambda error: log.error("worker watch failed", exc_info=error))

    @classmethod
    async def start(cls, *, debug: bool) -> "WorkerProcess":
        """A process that is being started; its Hello comes when it is up. Raises OSError when there can be none."""
        worker = cls()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                await worker._spawn(theirs.fileno(), debug=debug)
            ours.setblocking(False)
            await asyncio.get_running_loop().create_connection(lambda: worker, sock=ours)
        except BaseException:
            ours.close()
            await worker.kill()
            raise
        return worker

    async def _spawn(self, fd: int, *, debug: bool) -> None:
        command = [sys.executable, "-m", "corral.engine.llamacpp.worker", str(fd), *(["--debug"] if debug else [])]
        self._process = await asyncio.create_subprocess_exec(
            *command,
            pass_fds=[fd],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C in the terminal is the server's to handle
            env=_SURROUNDINGS | os.environ,
        )
        self._background.start(self._listen(), name="worker stderr")

    @property
    def pid(self) -> int:
        """0 until there is a process."""
        return self._process.pid if self._process else 0

    def send(self, frame: Frame) -> None:
        """Queues the frame; one for a dead worker is dropped, its death is told anyway."""
        if self._transport and self.is_alive:
            self._transport.write(encode(frame))

    async def drain(self) -> None:
        """Waits until the worker has taken most of what it was sent, or is dead."""
        await self._is_writable.wait()

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
        """Ends the process by force. All that must be done is done before anything is waited for."""
        if self._transport:
            self._transport.close()
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
            await self._process.wait()
        await self._background.aclose()

    async def _listen(self) -> None:
        """Passes on what the process says on its standard error."""
        assert self._process is not None
        assert self._process.stderr is not None
        async for line in lines(self._process.stderr):
            self.last_words.append(line)
            log.info("worker says", extra={"pid": self.pid, "line": line})

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.is_alive = True

    def data_received(self, data: bytes) -> None:
        for body in self._splitter.feed(data):
            self.on_frame(self._decoder.decode(body))

    def pause_writing(self) -> None:
        self._is_writable.clear()

    def resume_writing(self) -> None:
        self._is_writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_alive = False
        self._is_writable.set()
        self.dead.set()
        self.on_death()


async def lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """The stream's lines, whatever is in them and however long: what writes to a pipe that nobody reads stands still."""
    rest = b""
    while data := await stream.read(_READ_BYTES):
        *whole, rest = (rest + data).split(b"\n")
        if len(rest) >= _LONGEST_LINE:
            whole, rest = [*whole, rest], b""
        for line in whole:
            for begin in range(0, len(line), _LONGEST_LINE):
                yield line[begin : begin + _LONGEST_LINE].decode(errors="replace").rstrip()
    if rest:
        yield rest.decode(errors="replace").rstrip()
