"""The rendering process, `python -m corral.template.jinja.worker SECONDS`: renders job after job until its input ends.

What a template may cost is the kernel's business, since no check in Python sees into `'a' * 10**10`: the address space is
bounded, each job has its own share of processor time, and at its end the process is killed. Nothing can be opened or written
once the first job comes. A template that breaks out of jinja2's sandbox finds no secrets in the environment either.
"""

import contextlib
import pprint  # noqa: F401  imported while files can be opened, as are the others that jinja2 imports when it needs them
import resource
import signal
import sys
import textwrap  # noqa: F401
import warnings
from typing import IO, Final

import jinja2.constants
import jinja2.debug  # noqa: F401

from corral.template.jinja import environment, rendering
from corral.template.jinja.job import Job, Reply, decode_job, packed, read_body

MAX_MEMORY_BYTES: Final = 512 << 20


def main(max_cpu_s: float) -> None:
    """Has `max_cpu_s` seconds of processor time for each job."""
    warnings.simplefilter("ignore")  # a template's bad escapes are its author's business
    jobs, replies = sys.stdin.buffer, sys.stdout.buffer
    _warm_up()
    _confine()
    replies.write(packed(Reply()))  # ready
    replies.flush()
    while body := read_body(jobs):
        if not _answer(body, replies, max_cpu_s):
            return


def _warm_up() -> None:
    """Has everything imported that a rendering needs, the road of an error included."""
    for source in ("{{ messages }}{{ strftime_now('%Y') }}{{ 'a' | pprint }}", "{{ 1 / 0 }}"):
        with contextlib.suppress(rendering.RefusedError):
            rendering.render(Job(source=source, messages=[]))
    environment.compiled.cache_clear()


def _confine() -> None:
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    for what, limit in ((resource.RLIMIT_AS, MAX_MEMORY_BYTES), (resource.RLIMIT_NOFILE, 0), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(OSError, ValueError):  # not every system has every limit
            resource.setrlimit(what, (limit, limit))
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _answer(body: bytes, replies: IO[bytes], max_cpu_s: float) -> bool:
    """Writes the reply to one job. False where the process is fit for no other one."""
    is_fit = True
    signal.setitimer(signal.ITIMER_PROF, max_cpu_s)
    try:
        data = packed(_reply(body))
    except MemoryError:
        data = packed(Reply(kind="memory"))
        is_fit = False
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    replies.write(data)
    replies.flush()
    return is_fit


def _reply(body: bytes) -> Reply:
    try:
        return Reply(text=rendering.render(decode_job(body)))
    except rendering.RefusedError as exc:
        return Reply(error=str(exc), kind="refused")


if __name__ == "__main__":
    main(float(sys.argv[1]))
