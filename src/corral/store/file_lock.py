"""Locks on open files: who is at work on one, among the processes of a machine. The only place that asks the system for one.

A lock lasts until its file is closed, also by the end of the process. Some file systems, mostly of networks, know no locks:
there nobody can tell who is at work, so work goes on, and what is left of it is not cleared away by this sign alone.
"""

import errno
import fcntl
from typing import Final, Literal

Holder = Literal["us", "others", "unknown"]  # unknown: the file system knows no locks
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


def try_lock(fd: int) -> Holder:
    """Locks the open file, if nobody else has; says who holds it now. Raises OSError."""
    return _locked(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def wait_for_lock(fd: int) -> None:
    """Locks the open file as soon as nobody else has it. Raises OSError."""
    _locked(fd, fcntl.LOCK_EX)


def _locked(fd: int, operation: int) -> Holder:
    try:
        fcntl.flock(fd, operation)
    except BlockingIOError:
        return "others"
    except OSError as exc:
        if exc.errno not in _NO_LOCKS:
            raise
        return "unknown"
    return "us"
