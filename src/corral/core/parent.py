"""A process ends when the one that started it has ended, however that came about: no worker is left behind.

A worker hears it from its socket, too, but only between two steps: not while it is in native code, which may take minutes.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_LOOK_EVERY_S: Final = 0.5


def end_with_parent() -> None:
    """Has this process end with its parent, in the middle of whatever it does. To be called as early as can be.

    On Linux the kernel sees to it, when the thread of the parent that started this process ends: that is a server's event loop,
    or a thread that lives as long as its process. Elsewhere a thread looks who the parent is.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    threading.Thread(target=_watch, args=(os.getppid(),), name="parent watch", daemon=True).start()


def _watch(parent: int) -> None:
    """Also for a parent that was gone before the kernel was told of it: whoever adopts orphans ends hardly ever."""
    while os.getppid() == parent != 1:
        time.sleep(_LOOK_EVERY_S)
    os._exit(1)
