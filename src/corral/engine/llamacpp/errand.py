"""A child process that does one thing to files and ends: started, heard, killed when it is given up. No native code here.

It is a module of this package, run by this Python. It holds no more rights over the server than its files: it gets a small
environment, its standard input ends when the server does, and then it ends too (see errand_child).
"""

import asyncio
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from corral.core.errors import EngineError
from corral.engine.llamacpp.process import lines

_KEPT_LINES: Final = 40
_PREFIX: Final = re.compile(  # of a logged error, and of an exception whose text is a sentence
    r"^(?:ERROR:[\w.-]+:|(?:[\w.]+\.)?(?:SafetensorsError|GgufError|ValueError|NotImplementedError|RuntimeError|OSError): )"
)
_PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH", "OMP_NUM_THREADS", "SYSTEMROOT")


class ErrandFailedError(EngineError):
    """The child said that it cannot be done. The text is the child's own reason."""

    code = "errand_failed"


async def run_errand(
    module: str,
    arguments: Sequence[str],
    *,
    scratch: Path,
    limit_s: float,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] = lambda _line: None,
) -> None:
    """Runs `python -m module`, with each line that it prints given to `on_line`. What it keeps for a while is in `scratch`.

    Raises ErrandFailedError with its last words, EngineError where it could not be run to an end.
    """
    command = [sys.executable, "-P", "-m", module, *arguments]
    surroundings = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    surroundings |= {"HOME": str(scratch), "TMPDIR": str(scratch), **(env or {})}
    try:
        child = await asyncio.create_subprocess_exec(
            *command,
            env=surroundings,
            cwd=scratch,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as exc:
        raise EngineError(f"no process can be started for {module}: {exc.strerror or exc}") from exc
    said: deque[str] = deque(maxlen=_KEPT_LINES)
    try:
        async with asyncio.timeout(limit_s):
            await _hear(child, on_line, said.append)
    except TimeoutError as exc:
        raise EngineError(f"{module} was ended: it was not done after {limit_s:.0f} seconds") from exc
    finally:
        if child.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
    if child.returncode:
        raise failure(child.returncode, list(said))


async def _hear(child: asyncio.subprocess.Process, on_line: Callable[[str], None], on_complaint: Callable[[str], None]) -> None:
    assert child.stdout is not None
    assert child.stderr is not None
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_pass_on(child.stdout, on_line), name="errand stdout")
        tasks.create_task(_pass_on(child.stderr, on_complaint), name="errand stderr")
    await child.wait()


async def _pass_on(stream: asyncio.StreamReader, to: Callable[[str], None]) -> None:
    async for line in lines(stream):
        to(line)


def failure(status: int, said: Sequence[str]) -> EngineError:
    """What a child's exit status and its last lines mean."""
    if status == -signal.SIGKILL:
        return EngineError("the process that did it was killed; most likely the machine ran out of memory")
    if status < 0:
        return EngineError(f"the process that did it crashed ({signal.Signals(-status).name}): {reason(said)}")
    return ErrandFailedError(reason(said))


def reason(said: Sequence[str]) -> str:
    """The one line of what a Python program wrote at its end that says why.

    >>> reason(["Traceback (most recent call last):", "ValueError: it is too large", ""])
    'it is too large'
    """
    spoken = [line.strip() for line in said if line.strip()]
    return _PREFIX.sub("", spoken[-1]) if spoken else "it gave no reason"
