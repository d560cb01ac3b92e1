"""The models on this machine: one store that is ours, and others that are read where they lie and never written.

Looking a model up is cheap enough for every request: manifests, texts and GGUF headers are read once and then only checked for
a newer file. A model that is damaged stands in nobody's way: it is an error to use it, and a line in a report to list it.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from corral.core.errors import BadRequestError, CorralError, ModelCorruptError, ModelNotFoundError, StoreError
from corral.core.tuning import Machine, Tuning
from corral.store.blobs import BlobWriter
from corral.store.care import YOUNG_S, Sweep, survey
from corral.store.files import FileStamp, make_folder, store_errors
from corral.store.gguf_info import GgufInfo
from corral.store.layout import digest_hex, digest_of
from corral.store.loading import Loader, info
from corral.store.local_file import LocalFile
from corral.store.lock import StoreLock
from corral.store.manifests import StoredManifest
from corral.store.model import MODEL_LAYER, Model
from corral.store.names import ModelName
from corral.store.roots import Root
from corral.store.tunings import Tunings
from corral.store.wanted import Wanted
from corral.wire.care import Pruned, StoreUse
from corral.wire.registry import Descriptor, Manifest

log: Final = logging.getLogger(__name__)
_CACHED_MODELS: Final = 512
_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Damaged:
    """A model that cannot be used, and why."""

    name: ModelName
    error: CorralError


@dataclass(frozen=True, slots=True)
class Listing:
    models: list[Model]  # newest first
    damaged: list[Damaged]


@dataclass(frozen=True, slots=True)
class _Known:
    """A model that was read, and what it was read from."""

    root: Root
    stored: StoredManifest
    file: FileStamp
    model: Model

    @property
    def is_file_same(self) -> bool:
        try:
            return FileStamp.of(self.model.model_path) == self.file
        except OSError:
            return False


class Store:
    """All stores as one. Blocking; safe to use from several threads.

    `root` is made when something is first written. Of two models of one name, the one in `root` is meant, then the one in
    the first of `extra_roots`.
    """

    def __init__(self, root: Path, extra_roots: Sequence[Path] = (), *, clock: Callable[[], float] = time.time) -> None:
        self._own = Root(root)
        self._roots = (self._own, *(Root(path) for path in extra_roots))
        self._lock = StoreLock(root)  # no blob is removed while a manifest that may need it is written
        self._clock = clock
        self._wanted = Wanted(clock)
        self._tunings = Tunings(self._own.layout)
        self._models: dict[ModelName, _Known] = {}

    @property
    def root(self) -> Path:
        return self._own.layout.root

    def get(self, name: ModelName) -> Model:
        """The model of this name, in whatever case. Raises ModelNotFoundError, ModelCorruptError."""
        for _ in range(_TRIES - 1):
            root, stored = self._find(name)
            try:
                return self._loaded(root, stored)
            except ModelCorruptError:
                if root.manifests.read(stored.name) == stored:
                    raise
        return self._loaded(*self._find(name))  # another server was quicker, and again

    def _loaded(self, root: Root, stored: StoredManifest) -> Model:
        known = self._models.get(stored.name)
        if known and known.stored == stored and known.is_file_same:
            return known.model
        model, file = Loader(partial(self._blob_for, root), stored, has_links=root is self._own).model()
        if len(self._models) >= _CACHED_MODELS:
            self._models.clear()
        self._models[stored.name] = _Known(root, stored, file, model)
        return model

    def cached(self, name: ModelName) -> Model | None:
        """What `get` gives, where it was given before in this spelling and no file has changed since. Reads nothing."""
        known = self._models.get(name)
        if not known or any(root.manifests.has(name) for root in self._roots[: self._roots.index(known.root)]):
            return None
        is_same = known.root.manifests.known(name) == known.stored and known.is_file_same
        return known.model if is_same else None

    def manifest(self, name: ModelName) -> StoredManifest:
        """The model's manifest alone. Raises ModelNotFoundError, ModelCorruptError."""
        return self._find(name)[1]

    def list(self) -> list[Model]:
        """Every usable model, newest first; the others are logged."""
        listing = self.scan()
        for damaged in listing.damaged:
            log.warning("damaged model", extra={"model": damaged.name.short, "error": str(damaged.error)})
        return listing.models

    def scan(self) -> Listing:
        """Every model, the usable ones newest first."""
        models: dict[tuple[str, ...], Model | Damaged] = {}
        for root in self._readable():
            for name in root.manifests.names():
                if name.key not in models and (found := self._or_damaged(name)):
                    models[name.key] = found
        usable = [model for model in models.values() if isinstance(model, Model)]
        usable.sort(key=lambda model: model.modified_ns, reverse=True)
        return Listing(usable, [model for model in models.values() if isinstance(model, Damaged)])

    def delete(self, name: ModelName) -> None:
        """Removes the manifest and the layers that no other model has.

        Raises ModelNotFoundError, BadRequestError for a model of a store that is only read, StoreError. A damaged model can be
        deleted.
        """
        with self._lock.held():
            spelled = self._spelled(name)
            blobs = self._own.digests(spelled)
            try:
                self._own.manifests.remove(spelled)
            except OSError as exc:
                raise StoreError(f"cannot remove model {spelled.short!r}: {exc.strerror}") from exc
            self._own.remove_unused(blobs, self._wanted)
            self._tunings.drop_orphans(self.has_blob)
        self._models.pop(spelled, None)

    def has_blob(self, digest: str) -> bool:
        return self.blob_path(digest) is not None

    def blob_path(self, digest: str) -> Path | None:
        """Where the blob lies, in whatever store. Raises BadRequestError where `digest` is none."""
        for root in self._readable():
            if path := root.blobs.path(digest):
                return path
        return None

    def _blob_for(self, root: Root, digest: str) -> Path | None:
        """Where the blob lies for a model of that store: there, before anywhere else."""
        return root.blobs.path(digest) or self.blob_path(digest)

    def is_used(self, digest: str) -> bool:
        """Whether a model of our own store has this blob."""
        return digest in self._own.used()[0]

    def start_blob(self, expected: str | None = None) -> BlobWriter:
        """A writer for one blob; `expected` is the digest it must have. Raises BadRequestError, StoreError."""
        return BlobWriter(self._own.layout, expected, wanted=self._wanted)

    def partial_path(self, digest: str) -> Path:
        """Where a blob grows while it is fetched. Raises BadRequestError where `digest` is none."""
        return self._own.layout.partial(digest)

    def put_blob(self, data: bytes, media_type: str) -> tuple[Descriptor, bool]:
        """Keeps a small blob; gives its layer and whether it is new. Raises StoreError."""
        digest, is_new = self._own.blobs.put(data)
        return Descriptor(media_type=media_type, digest=digest, size=len(data)), is_new

    def import_file(self, path: Path, digest: str, media_type: str = MODEL_LAYER) -> Descriptor:
        """Makes a finished file, whose digest the caller has checked, a blob and gives its layer. The file is moved.

        Raises StoreError, BadRequestError where `digest` is none.
        """
        digest = digest_of(digest_hex(digest))
        with store_errors(path):
            size_bytes = path.stat().st_size
        self._own.blobs.take(path, digest)
        return Descriptor(media_type=media_type, digest=digest, size=size_bytes)

    def adopt(self, digest: str) -> None:
        """Links a blob of a store that is only read into ours, so that ours keeps it; never copies.

        Where a link is not possible, the blob stays where it is and is used from there.
        """
        if self._own.blobs.path(digest) or not (path := self.blob_path(digest)):
            return
        target = self._own.layout.blob(digest)
        with suppress(OSError):  # another disk, or another owner's file
            make_folder(target.parent)
            target.hardlink_to(path)

    def write_manifest(self, name: ModelName, manifest: Manifest | bytes) -> ModelName:
        """Makes the model, or makes it another one; gives its name as the store spells it. `bytes` are kept as they are.

        Raises StoreError, also where a layer is missing: then nothing is written.
        """
        layers = _decoded(manifest)
        with self._lock.held():
            return self._written(name, manifest, layers)

    def replace(self, name: ModelName, manifest: Manifest | bytes, *, prune: bool) -> set[str]:
        """The same; with `prune`, blobs that only the model before it had are removed. Gives their digests."""
        layers = _decoded(manifest)
        with self._lock.held():
            before = self._own.digests(name)
            self._written(name, manifest, layers)
            removed = self._own.remove_unused(before, self._wanted) if prune else set()
            if removed:
                self._tunings.drop_orphans(self.has_blob)
            return removed

    def copy(self, source: ModelName, destination: ModelName, *, prune: bool) -> ModelName:
        """Gives a model a second name, its manifest byte for byte; gives that name as the store spells it.

        With `prune`, blobs that only a model which had this name before it had are removed. Layers of a store that is only
        read are linked into ours. Raises ModelNotFoundError, ModelCorruptError, StoreError.
        """
        stored = self.manifest(source)
        for blob in stored.blobs:
            self.adopt(blob.digest)
        with self._lock.held():
            before = self._own.digests(destination)
            spelled = self._written(destination, stored.text, stored.manifest)
            if prune:
                self._own.remove_unused(before, self._wanted)
            return spelled

    def tunings_stamp(self) -> FileStamp | None:
        """Another one whenever `tunings` gives others. Looks at a file's metadata, reads nothing."""
        return self._tunings.stamp()

    def tunings(self) -> Sequence[Tuning]:
        """Every choice that was measured for a model, of whatever machine."""
        return self._tunings.read()

    def put_tuning(self, tuning: Tuning) -> None:
        """Keeps a choice, in place of an older one for the same files on the same machine. Raises StoreError."""
        with self._lock.held():
            self._tunings.put(tuning)

    def remove_tuning(self, files: Sequence[str], machine: Machine) -> bool:
        """Forgets that choice; whether there was one. Raises StoreError."""
        with self._lock.held():
            return self._tunings.remove(files, machine)

    def usage(self) -> StoreUse:
        """What is in our own store, and who needs it. Raises StoreError."""
        return survey(self._own, self.blob_path, self._clock())

    def prune(self, *, dry_run: bool = False, partials: bool = False, older_than_s: float = YOUNG_S) -> Pruned:
        """Removes what nobody needs from our own store; with `dry_run` says what it would remove.

        That is blobs that no model names and files of writers that were killed, if they are older than that; with `partials`
        also what interrupted downloads left to go on with. Raises StoreError.
        """
        sweep = Sweep(partials=partials, dry_run=dry_run, older_than_s=older_than_s)
        if not self.root.is_dir():
            return Pruned()
        with self._lock.held():
            pruned = sweep.run(self._own, self._clock())
            if not dry_run:
                self._tunings.drop_orphans(self.has_blob)
            return pruned

    def sweep(self, *, noprune: bool = False) -> None:
        """What a server begins with: removes what writers that were killed have left behind, and blobs that nobody needs.

        With `noprune` the blobs are kept. Downloads that can be gone on with always are.
        """
        if not self.root.is_dir():
            return
        with self._lock.held():
            pruned = Sweep(blobs=not noprune).run(self._own, self._clock())
            self._tunings.drop_orphans(self.has_blob)
        if pruned.removed:
            size_bytes = sum(item.size_bytes for item in pruned.removed)
            log.info("store swept", extra={"files": len(pruned.removed), "bytes": size_bytes})

    def take_file(self, path: Path, digest: str, stop: threading.Event) -> None:
        """Makes a GGUF of this machine a blob, without a copy where that is possible; `stop` gives it up.

        Raises LocalFileError where it is not taken, BadRequestError where `digest` is none, StoreError.
        """
        with store_errors(self._own.layout.blobs):
            make_folder(self._own.layout.blobs)
        LocalFile(path, digest, stop).take(self._own.layout)
        self._wanted.add(digest)
        if not self.has_blob(digest):
            raise StoreError(f"{digest} was removed as soon as it was there; try again")

    def keep_blob(self, digest: str) -> bool:
        """Whether the blob is there, for somebody who is about to use it: nothing takes it within the next hour.

        Raises BadRequestError where `digest` is none.
        """
        if not self.has_blob(digest) or self._own.blobs.is_edited(digest):
            return False
        self._wanted.add(digest)
        self._own.blobs.refresh(digest)
        return self.has_blob(digest)

    def info(self, path: Path, name: ModelName) -> GgufInfo:
        """What a model's file says of itself. Raises ModelCorruptError."""
        return info(path, name)

    def _written(self, name: ModelName, manifest: Manifest | bytes, layers: Manifest) -> ModelName:
        for blob in (*layers.layers, layers.config):
            if not self.has_blob(blob.digest):
                raise StoreError(
                    f"model {name.short!r} was not written: its layer {blob.digest} is not in the store; try again"
                )
        spelled = self._own.manifests.write(name, manifest)
        self._wanted.drop(blob.digest for blob in (*layers.layers, layers.config))
        return spelled

    def _find(self, name: ModelName) -> tuple[Root, StoredManifest]:
        for root in self._readable():
            if stored := root.manifests.read(name):
                return root, stored
        raise ModelNotFoundError(name.short)

    def _readable(self) -> Iterator[Root]:
        """Our own store, then those of the others that this user may read."""
        yield self._own
        yield from (root for root in self._roots[1:] if root.is_readable())

    def _spelled(self, name: ModelName) -> ModelName:
        """The name as our own store spells it. Raises ModelNotFoundError, BadRequestError."""
        if spelled := self._own.manifests.spelling(name):
            return spelled
        for root in self._roots[1:]:
            if root.is_readable() and root.manifests.spelling(name):
                raise BadRequestError(
                    f"model {name.short!r} is in the store at {root.layout.root}, which is only read here; "
                    "remove it with the program that store belongs to"
                )
        raise ModelNotFoundError(name.short)

    def _or_damaged(self, name: ModelName) -> Model | Damaged | None:
        """None where it has just been removed."""
        try:
            return self.get(name)
        except ModelNotFoundError:
            return None
        except CorralError as exc:
            return Damaged(name, exc)


def _decoded(manifest: Manifest | bytes) -> Manifest:
    """Raises StoreError for bytes that are no manifest."""
    if isinstance(manifest, Manifest):
        return manifest
    try:
        return msgspec.json.decode(manifest, type=Manifest)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise StoreError(f"not a manifest: {exc}") from exc
