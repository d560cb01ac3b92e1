"""The child's side of an errand: it ends with its server, and speaks in lines."""

import os
import sys
import threading


def end_with_server() -> None:
    """Ends this process as soon as the server's end of the standard input is gone, in the middle of whatever it does."""
    threading.Thread(target=_wait_for_end, name="server watch", daemon=True).start()


def _wait_for_end() -> None:
    while os.read(0, 1024):
        pass
    os._exit(1)


def say(line: str) -> None:
    """Tells the server a line, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
