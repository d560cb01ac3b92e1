"""The models on this machine: one store that is ours, and others that are read where they lie and never written.

Looking a model up is cheap enough for every request: manifests, texts and GGUF headers are read once and then only checked for
a newer file. A model that is damaged stands in nobody's way: it is an error to use it, and a line in a report to list it.
"""

import logging
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from corral.core.errors import BadRequestError, CorralError, ModelCorruptError, ModelNotFoundError, StoreError
from corral.store.blobs import Blobs, BlobWriter
from corral.store.files import FileStamp, make_folder, store_errors
from corral.store.gguf import GgufError
from corral.store.gguf_info import GgufInfo, read_info
from corral.store.layout import Layout, digest_hex, digest_of
from corral.store.manifests import Manifests, StoredManifest
from corral.store.model import (
    ADAPTER_LAYER,
    LICENSE_LAYER,
    MESSAGES_LAYER,
    MODEL_LAYER,
    PARAMS_LAYER,
    PROJECTOR_LAYER,
    SYSTEM_LAYER,
    TEMPLATE_LAYER,
    Model,
    decode_config,
    decode_messages,
    decode_parameters,
)
from corral.store.names import ModelName
from corral.wire.registry import Descriptor, Manifest

log: Final = logging.getLogger(__name__)
_CACHED_MODELS: Final = 512
_MAX_TEXT_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Damaged:
    """A model that cannot be used, and why."""

    name: ModelName
    error: CorralError


@dataclass(frozen=True, slots=True)
class Listing:
    models: list[Model]  # newest first
    damaged: list[Damaged]


class _Root:
    """One store's folder."""

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


@dataclass(frozen=True, slots=True)
class _Known:
    """A model that was read, and what it was read from."""

    root: _Root
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

    def __init__(self, root: Path, extra_roots: Sequence[Path] = ()) -> None:
        self._own = _Root(root)
        self._roots = (self._own, *(_Root(path) for path in extra_roots))
        self._changing = threading.Lock()  # no blob is removed while a manifest that may need it is written
        self._models: dict[ModelName, _Known] = {}

    @property
    def root(self) -> Path:
        return self._own.layout.root

    def get(self, name: ModelName) -> Model:
        """The model of this name, in whatever case. Raises ModelNotFoundError, ModelCorruptError."""
        root, stored = self._find(name)
        known = self._models.get(stored.name)
        if known and known.stored == stored and known.is_file_same:
            return known.model
        model, file = self._load(stored)
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
                if name.key not in models:
                    models[name.key] = self._or_damaged(name)
        usable = [model for model in models.values() if isinstance(model, Model)]
        usable.sort(key=lambda model: model.modified_ns, reverse=True)
        return Listing(usable, [model for model in models.values() if isinstance(model, Damaged)])

    def delete(self, name: ModelName) -> None:
        """Removes the manifest and the layers that no other model has.

        Raises ModelNotFoundError, BadRequestError for a model of a store that is only read, StoreError. A damaged model can be
        deleted.
        """
        with self._changing:
            spelled = self._spelled(name)
            blobs = self._blobs_of(spelled)
            try:
                self._own.manifests.remove(spelled)
            except OSError as exc:
                raise StoreError(f"cannot remove model {spelled.short!r}: {exc.strerror}") from exc
            self._remove_unused(blobs)
        self._models.pop(spelled, None)

    def has_blob(self, digest: str) -> bool:
        return self.blob_path(digest) is not None

    def blob_path(self, digest: str) -> Path | None:
        """Where the blob lies, in whatever store. Raises BadRequestError where `digest` is none."""
        for root in self._readable():
            if path := root.blobs.path(digest):
                return path
        return None

    def is_used(self, digest: str) -> bool:
        """Whether a model of our own store has this blob."""
        return digest in self._used()[0]

    def start_blob(self, expected: str | None = None) -> BlobWriter:
        """A writer for one blob; `expected` is the digest it must have. Raises BadRequestError, StoreError."""
        return BlobWriter(self._own.layout, expected)

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
        with self._changing:
            return self._written(name, manifest, layers)

    def replace(self, name: ModelName, manifest: Manifest | bytes, *, prune: bool) -> set[str]:
        """The same; with `prune`, blobs that only the model before it had are removed. Gives their digests."""
        layers = _decoded(manifest)
        with self._changing:
            before = self._blobs_of(name)
            self._written(name, manifest, layers)
            return self._remove_unused(before) if prune else set()

    def sweep(self) -> None:
        """Removes what writers that were killed have left behind."""
        self._own.blobs.sweep()

    def info(self, path: Path, name: ModelName) -> GgufInfo:
        """What a model's file says of itself. Raises ModelCorruptError."""
        try:
            return read_info(path)
        except GgufError as exc:
            raise ModelCorruptError(f"model {name.short!r} cannot be read: {exc}: {path}") from exc
        except OSError as exc:
            raise ModelCorruptError(f"model {name.short!r} cannot be read: {exc.strerror}: {path}") from exc

    def _written(self, name: ModelName, manifest: Manifest | bytes, layers: Manifest) -> ModelName:
        for blob in (*layers.layers, layers.config):
            if not self.has_blob(blob.digest):
                raise StoreError(
                    f"model {name.short!r} was not written: its layer {blob.digest} is not in the store; try again"
                )
        return self._own.manifests.write(name, manifest)

    def _find(self, name: ModelName) -> tuple[_Root, StoredManifest]:
        for root in self._readable():
            if stored := root.manifests.read(name):
                return root, stored
        raise ModelNotFoundError(name.short)

    def _readable(self) -> Iterator[_Root]:
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

    def _blobs_of(self, name: ModelName) -> set[str]:
        try:
            stored = self._own.manifests.read(name)
        except ModelCorruptError:
            return set()
        return {blob.digest for blob in stored.blobs} if stored else set()

    def _remove_unused(self, digests: Iterable[str]) -> set[str]:
        """Removes those of the blobs that no model has, and gives them."""
        used, damaged = self._used()
        if damaged:  # nobody knows what it needs, so all is kept
            log.warning("layers kept", extra={"damaged": damaged.short})
            return set()
        unused = set(digests) - used
        for digest in unused:
            self._own.blobs.remove(digest)
        return unused

    def _used(self) -> tuple[set[str], ModelName | None]:
        """The blobs of all models of our own store, and a model whose manifest cannot be read, if there is one."""
        used: set[str] = set()
        damaged = None
        for name in self._own.manifests.names():
            try:
                stored = self._own.manifests.read(name)
            except ModelCorruptError:
                damaged = name
            else:
                used.update(blob.digest for blob in (stored.blobs if stored else ()))
        return used, damaged

    def _or_damaged(self, name: ModelName) -> Model | Damaged:
        try:
            return self.get(name)
        except CorralError as exc:
            return Damaged(name, exc)

    def _load(self, stored: StoredManifest) -> tuple[Model, FileStamp]:
        name = stored.name
        config = decode_config(self._bytes(stored.manifest.config, name), name)
        layers = _by_type(stored.manifest.layers)
        weights = layers.get(MODEL_LAYER)
        if not weights:
            raise ModelCorruptError(f"model {name.short!r} has no weights that can be run; pull or create it again")
        texts = {kind: self._text(layers[kind][-1], name) for kind in (TEMPLATE_LAYER, SYSTEM_LAYER) if kind in layers}
        model_path = self._path(weights[0], name)
        file = self._stamp(model_path, name)
        parameters, messages = layers.get(PARAMS_LAYER), layers.get(MESSAGES_LAYER)
        model = Model(
            name=name,
            digest=stored.digest,
            size_bytes=stored.size_bytes,
            modified_ns=stored.modified_ns,
            config=config,
            model_path=model_path,
            projector_paths=tuple(self._path(layer, name) for layer in layers.get(PROJECTOR_LAYER, ())),
            adapter_paths=tuple(self._path(layer, name) for layer in layers.get(ADAPTER_LAYER, ())),
            template=texts.get(TEMPLATE_LAYER),
            system=texts.get(SYSTEM_LAYER, ""),
            parameters=decode_parameters(self._bytes(parameters[-1], name), name) if parameters else {},
            messages=decode_messages(self._bytes(messages[-1], name), name) if messages else (),
            licenses=tuple(self._text(layer, name) for layer in layers.get(LICENSE_LAYER, ())),
            gguf=self.info(model_path, name),
            parent=weights[0].parent,
        )
        return model, file

    def _path(self, blob: Descriptor, name: ModelName) -> Path:
        """Where a layer lies, whole. Raises ModelCorruptError where it does not."""
        path = self.blob_path(blob.digest)
        if not path:
            raise ModelCorruptError(
                f"model {name.short!r} is incomplete: its layer {blob.digest} is missing; pull or create it again"
            )
        size_bytes = self._stamp(path, name).size_bytes
        if size_bytes != blob.size:
            raise ModelCorruptError(
                f"model {name.short!r} is damaged: its layer {blob.digest} has {size_bytes} bytes and should have {blob.size}; "
                "pull or create it again"
            )
        return path

    @staticmethod
    def _stamp(path: Path, name: ModelName) -> FileStamp:
        try:
            return FileStamp.of(path)
        except OSError as exc:  # it was there a moment ago
            raise ModelCorruptError(f"model {name.short!r} cannot be read: {exc.strerror}: {path}") from exc

    def _bytes(self, blob: Descriptor, name: ModelName) -> bytes:
        path = self._path(blob, name)
        if blob.size > _MAX_TEXT_BYTES:
            raise ModelCorruptError(f"model {name.short!r} is damaged: its layer {blob.digest} is no text: {blob.size} bytes")
        try:
            return path.read_bytes()
        except OSError as exc:
            raise ModelCorruptError(f"model {name.short!r} cannot be read: {exc.strerror}: {path}") from exc

    def _text(self, blob: Descriptor, name: ModelName) -> str:
        return self._bytes(blob, name).decode("utf-8", "replace")


def _by_type(layers: Iterable[Descriptor]) -> dict[str, list[Descriptor]]:
    found: dict[str, list[Descriptor]] = {}
    for layer in layers:
        found.setdefault(layer.media_type, []).append(layer)
    return found


def _decoded(manifest: Manifest | bytes) -> Manifest:
    """Raises StoreError for bytes that are no manifest."""
    if isinstance(manifest, Manifest):
        return manifest
    try:
        return msgspec.json.decode(manifest, type=Manifest)
    except msgspec.DecodeError as exc:
        raise StoreError(f"not a manifest: {exc}") from exc
