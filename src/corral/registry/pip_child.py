"""What the child process runs: pip, and a watch on the server. Run as a file, so it imports nothing of ours.

The standard input ends when the server does, however that ended; then this process ends with all that it started.
"""

import os
import runpy
import signal
import threading


def _end_with_server() -> None:
    while os.read(0, 1024):
        pass
    os.killpg(0, signal.SIGKILL)  # it leads a process group of its own


if __name__ == "__main__":
    threading.Thread(target=_end_with_server, name="server watch", daemon=True).start()
    runpy.run_module("pip", run_name="__main__", alter_sys=True)
