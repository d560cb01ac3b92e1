"""Reading and writing manifests: one line of JSON a model, written whole or not at all.

Names are matched without regard to case; the spelling that is on disk wins.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from corral.core.errors import ModelCorruptError
from corral.store.files import FileStamp, write_atomically
from corral.store.layout import Layout
from corral.store.names import ModelName
from corral.wire.registry import Descriptor, Manifest

_CACHED: Final = 512
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest as it lies on disk. `name` is spelled as there."""

    name: ModelName
    manifest: Manifest
    digest: str  # 64 hex digits of the file's bytes
    modified_ns: int

    @property
    def blobs(self) -> Iterator[Descriptor]:
        """The layers in order, then the config."""
        yield from self.manifest.layers
        yield self.manifest.config

    @property
    def size_bytes(self) -> int:
        return sum(blob.size for blob in self.blobs)


class Manifests:
    """The manifests of one store."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._read: dict[ModelName, tuple[FileStamp, StoredManifest]] = {}

    def read(self, name: ModelName) -> StoredManifest | None:
        """The manifest of this name, None where there is none. Raises ModelCorruptError for one that cannot be read."""
        if known := self.known(name):
            return known
        path = self._layout.manifest(name)
        try:
            stamp = FileStamp.of(path)
        except (FileNotFoundError, NotADirectoryError):
            other = self.spelling(name)
            return self.read(other) if other else None
        except OSError as exc:
            raise ModelCorruptError(f"model {name.short!r} cannot be read: {exc.strerror}: {path}") from exc
        stored = _stored(name, path, stamp.modified_ns)
        if len(self._read) >= _CACHED:
            self._read.clear()
        self._read[name] = (stamp, stored)
        return stored

    def known(self, name: ModelName) -> StoredManifest | None:
        """The manifest of the very name, where it has been read and its file has not changed since; nothing is read here."""
        stamp, stored = self._read.get(name, (None, None))
        return stored if stored and self._stamp(name) == stamp else None

    def has(self, name: ModelName) -> bool:
        """Whether there is a manifest of the very name; no folder is looked through."""
        return self._stamp(name) is not None

    def _stamp(self, name: ModelName) -> FileStamp | None:
        try:
            return FileStamp.of(self._layout.manifest(name))
        except OSError:
            return None

    def names(self) -> list[ModelName]:
        """Every model that has a manifest, in no order. Files that cannot be a manifest are passed over."""
        root = self._layout.manifests
        paths = (path for path in root.glob("*/*/*/*") if path.is_file())
        return [name for path in paths if (name := self._name_at(path.relative_to(root).parts))]

    def write(self, name: ModelName, manifest: Manifest | bytes) -> ModelName:
        """Writes it and gives the name as it is spelled on disk. Raises StoreError where it cannot be written."""
        spelled = self.spelling(name) or name
        text = manifest if isinstance(manifest, bytes) else msgspec.json.encode(manifest)
        write_atomically(self._layout.manifest(spelled), text)
        self._read.pop(spelled, None)  # a file's time is too coarse to tell two writes in a row apart
        return spelled

    def remove(self, name: ModelName) -> None:
        """Removes the manifest and the folders that this leaves empty."""
        path = self._layout.manifest(name)
        path.unlink(missing_ok=True)
        for folder in path.parents[:3]:
            try:
                folder.rmdir()
            except OSError:  # not empty
                return

    def spelling(self, name: ModelName) -> ModelName | None:
        """This name as it is spelled on disk; of several spellings the first by the alphabet. None where there is none."""
        paths: list[tuple[Path, tuple[str, ...]]] = [(self._layout.manifests, ())]
        for part in name.parts:
            paths = [(path / entry, (*parts, entry)) for path, parts in paths for entry in _same(path, part)]
        for path, parts in paths:
            if path.is_file() and (found := self._name_at(parts)):
                return found
        return None

    @staticmethod
    def _name_at(parts: tuple[str, ...]) -> ModelName | None:
        name = ModelName(*parts)
        return name if name.is_valid else None


def _same(folder: Path, name: str) -> list[str]:
    """The entries of a folder that are this name but for case; the very name first."""
    try:
        entries = [path.name for path in folder.iterdir()]
    except OSError:
        return []
    return sorted((entry for entry in entries if entry.lower() == name.lower()), key=lambda entry: (entry != name, entry))


def _stored(name: ModelName, path: Path, modified_ns: int) -> StoredManifest:
    try:
        text = path.read_bytes()
        manifest = msgspec.json.decode(text, type=Manifest)
    except (OSError, msgspec.DecodeError) as exc:
        raise ModelCorruptError(f"model {name.short!r} has a damaged manifest: {path}: {exc}; pull or create it again") from exc
    stored = StoredManifest(name, manifest, hashlib.sha256(text).hexdigest(), modified_ns)
    for blob in stored.blobs:
        if not _DIGEST.fullmatch(blob.digest) or blob.size < 0:
            raise ModelCorruptError(f"model {name.short!r} has a damaged manifest: {path}: digest {blob.digest!r}")
    return stored
