"""A worker process: one model, one engine loop. `python -m corral.engine.llamacpp.worker FD` with a connected socket as FD.

Reads frames between steps, and sleeps in the kernel while there is nothing to do. Ends when its parent's end of the socket
closes, and when the parent dies, however that happens: then in the middle of a step, too.
"""

import logging
import os
import select
import socket
import sys
from collections.abc import Callable
from typing import Final

import llama_cpp.llama_cpp as api
import msgspec

from corral.core.errors import ModelLoadError
from corral.core.parent import end_with_parent
from corral.core.types import EngineInfo, LoadSpec
from corral.engine.llamacpp.worker.loaded import LoadedModel
from corral.engine.llamacpp.worker.loading import load
from corral.engine.llamacpp.worker.native.binding import NativeLog, Vocabulary
from corral.engine.llamacpp.worker.native.devices import devices
from corral.engine.llamacpp.worker.texts import Texts
from corral.engine.llamacpp.worker.words import Calls, detokenized, load_vocabulary, vocabulary_info
from corral.wire.link import (
    Attach,
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
_QUIET_S: Final = 0.25  # without work, after which there is time to tidy up
_END_S: Final = 1.2  # for what is to outlive the worker; the server waits a little longer for its end
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

    def is_quiet(self, within_s: float) -> bool:
        """Nothing comes for so long."""
        return not select.select([self._sock], [], [], within_s)[0]

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
        self._calls: Calls | None = None  # of the latter

    def run(self) -> None:
        found = devices()
        self._link.send(Hello(tuple(map(str, found)), sum(device.total_bytes for device in found if device.is_gpu)))
        while True:
            work = self._loaded or self._calls
            is_busy = work is not None and work.has_work
            if self._loaded and not is_busy:
                self._tidy(self._loaded)
            for frame in self._link.receive(wait=not is_busy):
                self._handle(frame)
            if self._loaded and self._loaded.has_work and (frames := self._loaded.step()):
                self._link.send(*frames)
            if self._calls and self._calls.has_work and (answers := self._calls.fetch(waits=True)):
                self._link.send(*answers)

    def close(self) -> None:
        """Nobody is left to work for."""
        if self._loaded:
            self._loaded.close(_END_S)

    def _tidy(self, loaded: LoadedModel) -> None:
        """Does what is for idle time, one thing after the other, until a frame comes."""
        while loaded.has_chores and self._link.is_quiet(_QUIET_S):
            loaded.tidy()
            self._link.send(*loaded.news())

    def _handle(self, frame: ToWorker) -> None:
        if isinstance(frame, Load):
            self._load(frame)
            return
        assert self._vocabulary is not None, "the parent asks for work before it has loaded a model"
        match frame:
            case Tokenize() if self._loaded:
                self._loaded.calls.begin(frame)
            case Tokenize() if self._calls:
                self._calls.begin(frame)
            case Detokenize():
                self._link.send(detokenized(self._vocabulary, frame))
            case Attach() | Submit() | Embed() | Cancel():
                if reply := self._taken(frame):
                    self._link.send(reply)
            case Limit() if self._loaded:
                self._loaded.limit(frame.limit_bytes)
                self._link.send(*self._loaded.news())

    def _taken(self, frame: Attach | Submit | Embed | Cancel) -> Frame | None:
        if self._loaded:
            return self._loaded.take(frame)
        if isinstance(frame, Cancel) and self._calls:
            self._calls.cancel(frame.job_id)
        if isinstance(frame, Attach | Cancel):
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
            self._calls = Calls(self._vocabulary, Texts())
            return vocabulary_info(spec)
        self._loaded = load(spec, self._native_log, tell)
        self._vocabulary = self._loaded.model.vocabulary
        return self._loaded.info()


def main() -> None:
    end_with_parent()
    fd, debug = int(sys.argv[1]), sys.argv[2:] == ["--debug"]
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, format="%(message)s", stream=sys.stderr)
    native_log = NativeLog(debug=debug)
    api.llama_backend_init()
    with socket.socket(fileno=fd) as sock:
        worker = Worker(Link(sock), native_log)
        try:
            worker.run()
        except ParentGoneError:
            log.debug("the server is gone")
            worker.close()
    os._exit(0)  # at once: a thread that reads a long text would be waited for


if __name__ == "__main__":
    main()
