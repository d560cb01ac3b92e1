"""Grammars that may take for ever are tried in a process of their own first, which can be killed. The worker's side of it.

A grammar passes if it is compiled there, and its first steps are taken, within a second and a gigabyte. Then the worker
compiles it again, which takes as long. The process is started when first needed, and ends when it has had nothing to do for a
while, or with the worker.
"""

import hashlib
import signal
import socket
import subprocess
import sys
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Final

import msgspec

from corral.core.errors import BadRequestError, EngineError
from corral.core.types import Grammar

CPU_S: Final = 1.0
MEMORY_BYTES: Final = 1 << 30
WAIT_S: Final = 5.0  # in which a second of the processor's time is to be had
_START_S: Final = 30.0
_REMEMBERED: Final = 256  # grammars that were refused
_OUT_OF_MEMORY: Final = (-signal.SIGABRT, -signal.SIGKILL, 1)  # Rust aborts, the kernel kills, Python raises
_ADVICE: Final = "use fewer and simpler patterns, smaller counts, or fewer properties and choices"


class Words(msgspec.Struct, frozen=True, array_like=True):
    """The first message: the vocabulary."""

    tokens: Sequence[bytes]
    ends: Sequence[int]


class Verdict(msgspec.Struct, frozen=True, array_like=True):
    """`refusal` is why it cannot be used, or empty."""

    refusal: str


class Trials:
    """Owns the process, which is gone with it. For one thread, with which the process ends as well."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._child: subprocess.Popen[bytes] | None = None
        self._link: Connection | None = None
        self._end: Callable[[], object] = lambda: None
        self._refused: OrderedDict[bytes, str] = OrderedDict()

    @property
    def pid(self) -> int:
        """0 while there is no process."""
        return self._child.pid if self._child else 0

    def hold(self, grammar: Grammar) -> None:
        """Returns where the grammar may be compiled. Raises BadRequestError, EngineError where no process can be had."""
        key = hashlib.sha256(f"{grammar.kind} {grammar.text}".encode("utf-8", "replace")).digest()
        refusal = self._refused.get(key) or self._tried(grammar)
        if not refusal:
            return
        self._refused[key] = refusal
        self._refused.move_to_end(key)
        if len(self._refused) > _REMEMBERED:
            self._refused.popitem(last=False)
        raise BadRequestError(refusal)

    def close(self) -> None:
        self._end()
        self._child = self._link = None

    def _tried(self, grammar: Grammar) -> str:
        for _ in range(2):  # a process that has waited for too long may just have ended
            link = self._ready()
            try:
                link.send_bytes(msgspec.msgpack.encode(grammar))
                return msgspec.msgpack.decode(_heard(link, WAIT_S), type=Verdict).refusal
            except TimeoutError as exc:  # another time it may be quicker: the machine has other things to do
                self.close()
                raise BadRequestError(_excess(f"{WAIT_S:g} s")) from exc
            except (EOFError, OSError):
                if refusal := self._killed():
                    return refusal
        raise EngineError("grammars cannot be tried: the process that does it ended without a word")

    def _ready(self) -> Connection:
        """The process, when it knows the vocabulary."""
        if self._link is None:
            self._link = self._started()
            try:
                self._link.send_bytes(msgspec.msgpack.encode(self._words))
                _heard(self._link, _START_S)
            except (EOFError, OSError) as exc:
                self.close()
                raise EngineError("grammars cannot be tried: the process that does it could not start") from exc
        return self._link

    def _started(self) -> Connection:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "corral.engine.llamacpp.worker.grammar.trying", str(theirs.fileno())]
        try:
            self._child = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        except OSError as exc:
            ours.close()
            raise EngineError(f"grammars cannot be tried: no process can be started: {exc.strerror or exc}") from exc
        finally:
            theirs.close()
        link = Connection(ours.detach())
        self._end = weakref.finalize(self, _ended, self._child, link)
        return link

    def _killed(self) -> str:
        """What a process died of while it tried a grammar; nothing if it had just gone."""
        assert self._child is not None
        status = self._child.wait()
        self.close()
        if status == -signal.SIGPROF:
            return _excess(f"{CPU_S:g} s of processor time")
        return _excess(f"{MEMORY_BYTES >> 20} MB") if status in _OUT_OF_MEMORY else ""


def _excess(most: str) -> str:
    return f"the answer's grammar cannot be used: it takes more than {most} to compile, which is all it may take; {_ADVICE}"


def _ended(child: subprocess.Popen[bytes], link: Connection) -> None:
    link.close()
    child.kill()
    child.wait()


def _heard(link: Connection, wait_s: float) -> bytes:
    """What the process says. Raises TimeoutError, EOFError, OSError."""
    if not link.poll(wait_s):
        raise TimeoutError
    return link.recv_bytes()
