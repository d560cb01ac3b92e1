"""One writer at a time, among the threads of a server and the servers of a machine.

Who writes a manifest, or removes what no manifest names, holds the lock: so nobody removes a layer between another's look for
it and the manifest that needs it. Reading and taking blobs in need no lock, because files appear and change by a rename.
The lock is on a file of its own, `.lock` in the store's folder; the system drops it with the process that held it. A file
system that knows no locks leaves only the threads apart. Ollama takes no such lock.
"""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from corral.core.errors import StoreError
from corral.store.file_lock import try_lock
from corral.store.files import make_folder, store_errors
from corral.store.layout import LOCK_FILE

log: Final = logging.getLogger(__name__)
_PATIENCE_S: Final = 60.0
_LOOK_S: Final = 0.01


class StoreLock:
    """The lock of the store in `root`. Not to be taken twice by one thread."""

    def __init__(self, root: Path, *, patience_s: float = _PATIENCE_S) -> None:
        self._root = root
        self._patience_s = patience_s
        self._threads = threading.Lock()
        self._is_reported = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Raises StoreError where the store cannot be written, or another process does not let go of it."""
        with self._threads:
            path = self._root / LOCK_FILE
            with store_errors(path):
                make_folder(self._root)
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            try:
                self._wait(fd)
                yield
            finally:
                os.close(fd)

    def _wait(self, fd: int) -> None:
        until_s = time.monotonic() + self._patience_s
        while True:
            with store_errors(self._root, "lock"):
                holder = try_lock(fd)
            if holder != "others":
                if holder == "unknown":
                    self._report()
                return
            if time.monotonic() > until_s:
                raise StoreError(
                    f"cannot write {self._root}: another process has held its lock for {self._patience_s:.0f} s; "
                    "try again, or end that process"
                )
            time.sleep(_LOOK_S)

    def _report(self) -> None:
        if not self._is_reported:
            self._is_reported = True
            log.warning("store without locks", extra={"store": str(self._root)})
