"""The rendering processes as the server holds them: started on need, given one job at a time, killed when they hang.

Blocking: a caller waits in a thread, for at most MAX_WAIT_S until a process is free and as long for its rendering. A process
that dies without its job's doing costs nothing but a second try in another one. They end with the pool that holds them, and
when the server is killed by the end of their input.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from threading import Condition
from types import TracebackType
from typing import Final, Self

import msgspec

from corral.core.errors import BadRequestError, CorralError, QueueFullError, ServerStoppingError
from corral.template.jinja.job import HEAD_BYTES, MAX_REPLY_BYTES, Job, Reply, decode_reply, packed

MAX_PROCESSES: Final = 4
MAX_CPU_S: Final = 5.0  # of processor time for one job
MAX_WAIT_S: Final = 30.0  # for a free process; for a start; for a job on a machine that has no processor to spare for it
_END_S: Final = 1.0
_READ_BYTES: Final = 1 << 18
_WRITE_BYTES: Final = 1 << 20
_CRASHES: Final = tuple(-number for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE))
_KEPT_VARIABLES: Final = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_TIME", "TZ")


class RenderingFailedError(CorralError):
    """A rendering process could not be started, or went away by itself."""

    code = "rendering_failed"


class _ProcessGoneError(Exception):
    """The process has ended. `status` is how, as a Popen says it: a negative number is a signal; None: it was ended by us."""

    def __init__(self, status: int | None, *, is_late: bool = False) -> None:
        super().__init__(f"it took more than {MAX_WAIT_S:.0f} s" if is_late else f"it ended with {status}")
        self.status = status
        self.is_late = is_late

    def blamed(self) -> BadRequestError | None:
        """What the template did to it: it can use up its time, and with luck it can crash Python. None: it was not that."""
        if self.is_late or self.status == -signal.SIGPROF:
            return BadRequestError("chat template: rendering it takes too long; it may loop without end")
        if self.status in _CRASHES:
            return BadRequestError(f"chat template: rendering it crashed ({signal.Signals(-self.status).name})")
        return None


class RenderingProcess:
    """One child process and the pipes to it."""

    def __init__(self, max_cpu_s: float) -> None:
        """Raises OSError where there can be none, _ProcessGoneError where it does not get ready."""
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", "corral.template.jinja.worker", str(max_cpu_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C in the terminal is the server's to handle
            env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
            bufsize=0,
        )
        assert self._child.stdin
        assert self._child.stdout
        self._in, self._out = self._child.stdin.fileno(), self._child.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        self._exchange(b"")

    @property
    def pid(self) -> int:
        return self._child.pid

    def is_alive(self) -> bool:
        return self._child.poll() is None

    def render(self, job: Job) -> Reply:
        """Raises _ProcessGoneError, and then there is no process any more."""
        data = self._exchange(packed(job))
        try:
            return decode_reply(data)
        except msgspec.DecodeError:
            self.kill()
            raise _ProcessGoneError(None) from None

    def signal_end(self) -> None:
        """Has it end, in the middle of a job or not; for another thread than the one that waits for the job."""
        self._child.kill()

    def kill(self) -> int | None:
        """Ends it and closes the pipes. How it ended: a negative number is a signal. None where it was this that ended it."""
        status = self._child.poll()
        if status is None:
            self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe:
                pipe.close()
        return status

    def _exchange(self, data: bytes) -> bytes:
        """Sends this and waits for one reply. Both ways at a time: a pipe holds neither a big job nor a big reply."""
        deadline = time.monotonic() + MAX_WAIT_S
        unsent, got = memoryview(data), bytearray()
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        try:
            while (wanted := _wanted(got)) > len(got):
                if unsent:
                    unsent = unsent[_sent(self._in, unsent) :]
                    if unsent:
                        poll.register(self._in, select.POLLOUT)
                    else:
                        with contextlib.suppress(KeyError):  # it all went at once
                            poll.unregister(self._in)
                ready = dict(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
                if not ready:
                    raise _ProcessGoneError(self._ended(is_late=True), is_late=True)
                if wanted > MAX_REPLY_BYTES:
                    raise BrokenPipeError
                if self._out in ready:
                    got += _received(self._out)
        except OSError:
            raise _ProcessGoneError(self._ended(is_late=False)) from None
        return bytes(got[HEAD_BYTES:])

    def _ended(self, *, is_late: bool) -> int | None:
        if not is_late:  # its pipes are closed: it is about to be gone
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(_END_S)
        return self.kill()


def _wanted(got: bytearray) -> int:
    """How long the reply is with its head, as far as that is known."""
    return HEAD_BYTES if len(got) < HEAD_BYTES else HEAD_BYTES + int.from_bytes(got[:HEAD_BYTES], "big")


def _sent(fd: int, data: memoryview) -> int:
    """How much of it the pipe could take."""
    try:
        return os.write(fd, data[:_WRITE_BYTES])
    except BlockingIOError:
        return 0


def _received(fd: int) -> bytes:
    data = os.read(fd, _READ_BYTES)
    if not data:
        raise BrokenPipeError
    return data


class RenderingProcesses:
    """At most MAX_PROCESSES of them, started when a job comes and none is free. Safe to use from several threads.

    Whoever makes it closes it.
    """

    def __init__(
        self, *, max_processes: int = MAX_PROCESSES, max_cpu_s: float = MAX_CPU_S, max_wait_s: float = MAX_WAIT_S
    ) -> None:
        """`max_wait_s`: for a process to be free."""
        self._max_processes = max_processes
        self._max_cpu_s = max_cpu_s
        self._max_wait_s = max_wait_s
        self._free: list[RenderingProcess] = []
        self._busy: set[RenderingProcess] = set()
        self._count = 0
        self._is_closed = False
        self._changed = Condition()

    def render(self, job: Job) -> str:
        """The text. Raises BadRequestError for what the template says or does, RenderingFailedError for our own failure.

        QueueFullError where no process is free for long, ServerStoppingError once the pool is closed.
        """
        try:
            reply = self._reply(job)
        except _ProcessGoneError:  # whatever ended it, an operator or a lack of memory: nothing is lost by another try
            try:
                reply = self._reply(job)
            except _ProcessGoneError as gone:
                raise RenderingFailedError(f"the process that rendered the template is gone: {gone}; try again") from None
        if reply.kind == "refused":
            raise BadRequestError(f"chat template: {reply.error}")
        if reply.kind == "memory":
            raise BadRequestError("chat template: rendering it needs too much memory")
        return reply.text

    def close(self) -> None:
        """Ends them all, in the middle of a job or not, with an error to whoever waits. Safe to call twice."""
        with self._changed:
            self._is_closed = True
            free, self._free = self._free, []
            self._count -= len(free)
            for process in self._busy:
                process.signal_end()  # its caller's thread sees to the rest
            self._changed.notify_all()
        for process in free:
            process.kill()

    def pids(self) -> list[int]:
        """Those that wait for a job."""
        with self._changed:
            return [process.pid for process in self._free]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()

    def _reply(self, job: Job) -> Reply:
        """Raises _ProcessGoneError where the process went away by no doing of the template's."""
        process = self._taken()
        is_fit = False
        try:
            reply = process.render(job)
            is_fit = reply.kind != "memory"
        except _ProcessGoneError as gone:
            if self._is_closed:
                raise ServerStoppingError from None
            if blamed := gone.blamed():
                raise blamed from None
            raise
        finally:
            self._give_back(process, is_fit=is_fit)
        return reply

    def _taken(self) -> RenderingProcess:
        """A process for one job, one that waits for it or a new one."""
        process = self._waiting_one()
        if process:
            return process
        try:
            process = RenderingProcess(self._max_cpu_s)
        except (OSError, _ProcessGoneError) as exc:
            self._forget()
            raise RenderingFailedError(f"no process for rendering templates could be started: {exc}") from exc
        with self._changed:
            if not self._is_closed:
                self._busy.add(process)
                return process
        process.kill()
        self._forget()
        raise ServerStoppingError

    def _waiting_one(self) -> RenderingProcess | None:
        """One that waits for a job, as soon as there is one; None where another may be started, which counts from now on."""
        end_s = time.monotonic() + self._max_wait_s
        with self._changed:
            while True:
                if self._is_closed:
                    raise ServerStoppingError
                while self._free:
                    process = self._free.pop()
                    if process.is_alive():
                        self._busy.add(process)
                        return process
                    process.kill()
                    self._count -= 1
                if self._count < self._max_processes:
                    self._count += 1
                    return None
                if not self._changed.wait(end_s - time.monotonic()):
                    raise QueueFullError

    def _give_back(self, process: RenderingProcess, *, is_fit: bool) -> None:
        with self._changed:
            self._busy.discard(process)
            if is_fit and not self._is_closed:
                self._free.append(process)
                self._changed.notify()
                return
        process.kill()
        self._forget()

    def _forget(self) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify()
