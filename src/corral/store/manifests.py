"""Reading and writing manifests: one line of JSON a model, written whole or not at all.

Names are matched without regard to case; the spelling that is on disk wins. What lies there may have been written by anybody:
a manifest is believed once its form, its digests and its sizes have been looked at, and one that is too long is not read.
"""

import errno
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from corral.core.errors import BadRequestError, ModelCorruptError
from corral.store.files import FileStamp, read_bounded, write_atomically
from corral.store.layout import Layout
from corral.store.names import ModelName
from corral.wire.registry import Descriptor, Manifest

_CACHED: Final = 512
_PARTS: Final = 4  # of a name, and of a manifest's path
_MAX_BYTES: Final = 16 << 20  # a manifest of ten thousand layers has two million
_MAX_SIZE: Final = 1 << 53  # of a layer: what every reader of JSON can hold
_MAX_PART_BYTES: Final = 255  # of a file's name, on all common file systems
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest as it lies on disk. `name` is spelled as there."""

    name: ModelName
    manifest: Manifest
    digest: str  # 64 hex digits of the file's bytes
    modified_ns: int
    text: bytes = b""  # the file's bytes

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
            if exc.errno == errno.ENAMETOOLONG:
                return None
            raise ModelCorruptError(f"model {name.short!r} cannot be read: {exc.strerror}: {path}") from exc
        stored = _stored(ModelName(*name.parts), path, stamp.modified_ns)
        if not stored:
            return None
        if len(self._read) >= _CACHED:
            self._read.clear()
        self._read[name] = (stamp, stored)
        return stored

    def forget(self) -> None:
        """What is read next is read from disk, whatever the time of a file says."""
        self._read.clear()

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
        found: list[tuple[Path, tuple[str, ...]]] = [(self._layout.manifests, ())]
        for _ in range(_PARTS):
            found = [(path / entry, (*parts, entry)) for path, parts in found for entry in _entries(path)]
        return [name for path, parts in found if (name := self._name_at(parts)) and _is_file(path)]

    def write(self, name: ModelName, manifest: Manifest | bytes) -> ModelName:
        """Writes it and gives the name as it is spelled on disk. Raises StoreError, BadRequestError for a name too long."""
        spelled = self.spelling(name) or name
        if any(len(part.encode()) > _MAX_PART_BYTES for part in spelled.parts):
            raise BadRequestError(f"model name {name.short[:80]!r}… is too long to be a file's name; shorten it")
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
            if _is_file(path) and (found := self._name_at(parts)):
                return found
        return None

    @staticmethod
    def _name_at(parts: tuple[str, ...]) -> ModelName | None:
        name = ModelName(*parts)
        return name if name.is_valid else None


def _same(folder: Path, name: str) -> list[str]:
    """The entries of a folder that are this name but for case; the very name first."""
    found = (entry for entry in _entries(folder) if entry.lower() == name.lower())
    return sorted(found, key=lambda entry: (entry != name, entry))


def _entries(folder: Path) -> list[str]:
    """Nothing where it is no folder, or is none any more: the last model in it was removed."""
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []


def _is_file(path: Path) -> bool:
    """Also where this user may not look."""
    try:
        return path.is_file()
    except OSError:
        return False


def _stored(name: ModelName, path: Path, modified_ns: int) -> StoredManifest | None:
    """None where it has just been removed."""

    def damaged(why: object) -> ModelCorruptError:
        return ModelCorruptError(f"model {name.short!r} has a damaged manifest: {path}: {why}; pull or create it again")

    try:
        text = read_bounded(path, _MAX_BYTES)
        manifest = msgspec.json.decode(text, type=Manifest)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise damaged(exc.strerror) from exc
    except msgspec.DecodeError as exc:
        raise damaged(exc) from exc
    except RecursionError as exc:
        raise damaged("it is nested too deeply") from exc
    stored = StoredManifest(name, manifest, hashlib.sha256(text).hexdigest(), modified_ns, text)
    for blob in stored.blobs:
        if not _DIGEST.fullmatch(blob.digest):
            raise damaged(f"digest {blob.digest[:80]!r}")
        if not 0 <= blob.size < _MAX_SIZE:
            raise damaged(f"a size of {str(blob.size)[:30]} bytes")
    return stored
