"""One store's folder: its layout, its manifests, its blobs, and whether this user may look into it."""

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from corral.core.errors import ModelCorruptError
from corral.store.blobs import Blobs
from corral.store.layout import Layout
from corral.store.manifests import Manifests
from corral.store.names import ModelName
from corral.store.wanted import Wanted

log: Final = logging.getLogger(__name__)


class Root:
    def __init__(self, path: Path) -> None:
        self.layout = Layout(path)
        self.manifests = Manifests(self.layout)
        self.blobs = Blobs(self.layout)
        self._is_reported = False

    def is_readable(self) -> bool:
        """False, and once a line in the log, where this user may not look into it."""
        try:
            for folder in (self.layout.manifests, self.layout.blobs):
                with suppress(FileNotFoundError, NotADirectoryError):
                    os.scandir(folder).close()
        except OSError as exc:
            if not self._is_reported:
                self._is_reported = True
                log.warning("models passed over", extra={"store": str(self.layout.root), "error": exc.strerror})
            return False
        return True

    def digests(self, name: ModelName) -> set[str]:
        """The blobs that this model names; none where there is no such model, or its manifest is damaged."""
        try:
            stored = self.manifests.read(name)
        except ModelCorruptError:
            return set()
        return {blob.digest for blob in stored.blobs} if stored else set()

    def used(self) -> tuple[dict[str, set[ModelName]], list[ModelName]]:
        """By blob the models that name it, and those models whose manifests cannot be read."""
        users: dict[str, set[ModelName]] = {}
        damaged: list[ModelName] = []
        for name in self.manifests.names():
            try:
                stored = self.manifests.read(name)
            except ModelCorruptError:
                damaged.append(name)
                continue
            for blob in stored.blobs if stored else ():
                users.setdefault(blob.digest, set()).add(name)
        return users, damaged

    def remove_unused(self, digests: set[str], wanted: Wanted) -> set[str]:
        """Removes those of the blobs that no model has and no client counts on, and gives them.

        Whoever calls it holds the store's lock. Manifests are read again: another server may have written them since.
        """
        self.manifests.forget()
        users, damaged = self.used()
        if damaged:  # nobody knows what it needs, so all is kept
            log.warning("layers kept", extra={"damaged": damaged[0].short})
            return set()
        return wanted.remove_others(digests - users.keys(), self.blobs.remove)
