"""A worker process: one model, one engine loop. `python -m corral.engine.llamacpp.worker FD` with a connected socket as FD.

Reads frames between steps, and sleeps in the kernel while there is nothing to do. Ends when its parent's end of the socket
closes, which happens however the parent dies.
"""

import logging
import os
import socket
import sys
from collections.abc import Callable
from typing import Final

import llama_cpp.llama_cpp as api
import msgspec

from corral.core.errors import ModelLoadError
from corral.core.types import EngineInfo, LoadSpec
from corral.engine.llamacpp.worker.loaded import LoadedModel
from corral.engine.llamacpp.worker.loading import load
from corral.engine.llamacpp.worker.native.binding import NativeLog, Vocabulary
from corral.engine.llamacpp.worker.native.devices import devices
from corral.engine.llamacpp.worker.words import detokenized, load_vocabulary, tokenized, vocabulary_info
from corral.wire.link import (
    Cancel,
    Detokenize,
    Embed,
    Frame,
    FrameSplitter,
    Hello,
    JobFailed,
    Limit,
    Load,
    Loaded,
    LoadFailed,
    Progress,
    Submit,
    Tokenize,
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
        self._vocabulary: Vocabulary | None = None  # the loaded model's, or all that was wanted of one

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
        assert self._vocabulary is not None, "the parent asks for work before it has loaded a model"
        match frame:
            case Tokenize() if self._loaded:
                self._loaded.calls.begin(frame)
            case Tokenize():
                self._link.send(tokenized(self._vocabulary, frame))
            case Detokenize():
                self._link.send(detokenized(self._vocabulary, frame))
            case Submit() | Embed() | Cancel():
                if reply := self._taken(frame):
                    self._link.send(reply)
            case Limit() if self._loaded:
                self._loaded.allowance.limit_bytes = frame.limit_bytes

    def _taken(self, frame: Submit | Embed | Cancel) -> Frame | None:
        if self._loaded:
            return self._loaded.take(frame)
        if isinstance(frame, Cancel):
            return None
        return JobFailed(frame.job_id, "only the model's vocabulary is loaded")

    def _load(self, frame: Load) -> None:
        told = -1.0

        def tell(share: float) -> None:
            nonlocal told
            if share - told >= _PROGRESS_STEP:
                told = share
                self._link.send(Progress(share))

        try:
            self._link.send(Loaded(self._load_as(frame.spec, tell)))
        except ModelLoadError as error:
            self._link.send(LoadFailed(str(error)))

    def _load_as(self, spec: LoadSpec, tell: Callable[[float], None]) -> EngineInfo:
        if spec.vocab_only:
            self._vocabulary = load_vocabulary(spec)
            return vocabulary_info(spec)
        self._loaded = load(spec, self._native_log, tell)
        self._vocabulary = self._loaded.model.vocabulary
        return self._loaded.info()


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
    os._exit(0)  # at once: a thread that reads a long text would be waited for


if __name__ == "__main__":
    main()
