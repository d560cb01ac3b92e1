"""A worker process: one model, one engine loop. `python -m corral.engine.llamacpp.worker FD` with a connected socket as FD.

Reads frames between steps, and sleeps in the kernel while there is nothing to do. Ends when its parent's end of the socket
closes, which happens however the parent dies.
"""

import logging
import socket
import sys
from typing import Final

import llama_cpp.llama_cpp as api
import msgspec

from corral.core.errors import EngineError, ModelLoadError
from corral.engine.llamacpp.binding import NativeLog
from corral.engine.llamacpp.devices import devices
from corral.engine.llamacpp.embedder import Words
from corral.engine.llamacpp.loaded import LoadedModel
from corral.engine.llamacpp.loading import load
from corral.wire.link import (
    Cancel,
    Embed,
    Frame,
    FrameSplitter,
    Hello,
    Limit,
    Load,
    Loaded,
    LoadFailed,
    Progress,
    Submit,
    Tokenize,
    TokenizeFailed,
    Tokens,
    ToWorker,
    encode,
)

log: Final = logging.getLogger(__name__)
_READ_BYTES: Final = 1 << 18
_PROGRESS_STEP: Final = 0.01


class ParentGoneError(Exception):
    """Nobody is left to work for."""


class Link:
    """The worker's end of the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._splitter = FrameSplitter()
        self._decoder: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)

    def send(self, *frames: Frame) -> None:
        """Raises ParentGoneError."""
        try:
            self._sock.sendall(b"".join(map(encode, frames)))
        except OSError as exc:
            raise ParentGoneError from exc

    def receive(self, *, wait: bool) -> list[ToWorker]:
        """The frames that have come; with `wait`, at least one. Raises ParentGoneError."""
        try:
            data = self._sock.recv(_READ_BYTES, 0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        except OSError as exc:
            raise ParentGoneError from exc
        if not data:
            raise ParentGoneError
        return [self._decoder.decode(body) for body in self._splitter.feed(data)]


class Worker:
    """The loop: frames in, one step, frames out."""

    def __init__(self, link: Link, native_log: NativeLog) -> None:
        self._link = link
        self._native_log = native_log
        self._loaded: LoadedModel | None = None

    def run(self) -> None:
        found = devices()
        self._link.send(Hello(tuple(map(str, found)), sum(device.total_bytes for device in found if device.is_gpu)))
        while True:
            is_busy = self._loaded is not None and self._loaded.has_work
            for frame in self._link.receive(wait=not is_busy):
                self._handle(frame)
            if self._loaded and self._loaded.has_work and (frames := self._loaded.step()):
                self._link.send(*frames)

    def _handle(self, frame: ToWorker) -> None:
        if isinstance(frame, Load):
            self._load(frame)
            return
        assert self._loaded is not None, "the parent asks for work before it has loaded a model"
        match frame:
            case Submit() | Embed() | Cancel():
                if reply := self._loaded.take(frame):
                    self._link.send(reply)
            case Tokenize():
                self._link.send(tokenized(self._loaded.model.vocabulary, frame))
            case Limit():
                self._loaded.allowance.limit_bytes = frame.limit_bytes

    def _load(self, frame: Load) -> None:
        told = -1.0

        def tell(share: float) -> None:
            nonlocal told
            if share - told >= _PROGRESS_STEP:
                told = share
                self._link.send(Progress(share))

        try:
            self._loaded = load(frame.spec, self._native_log, tell)
        except ModelLoadError as error:
            self._link.send(LoadFailed(str(error)))
        else:
            self._link.send(Loaded(self._loaded.info()))


def tokenized(vocabulary: Words, frame: Tokenize) -> Frame:
    """The answer, also where llama.cpp refuses the text: that is no reason for all the other answers to end."""
    try:
        return Tokens(frame.call_id, vocabulary.tokenize(frame.text, add_special=frame.add_special))
    except EngineError as error:
        return TokenizeFailed(frame.call_id, str(error))


def main() -> None:
    fd, debug = int(sys.argv[1]), sys.argv[2:] == ["--debug"]
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, format="%(message)s", stream=sys.stderr)
    native_log = NativeLog(debug=debug)
    api.llama_backend_init()
    with socket.socket(fileno=fd) as sock:
        try:
            Worker(Link(sock), native_log).run()
        except ParentGoneError:
            log.debug("the server is gone")


if __name__ == "__main__":
    main()
