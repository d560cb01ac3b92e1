"""From a manifest to a model: every layer found, held against what the manifest says of it, and read where it is a text."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from corral.core.errors import ModelCorruptError
from corral.store.files import FileStamp, read_bounded
from corral.store.gguf import GgufError, GgufHeader, read_header
from corral.store.gguf_info import GgufInfo, read_info
from corral.store.manifests import StoredManifest
from corral.store.model import (
    ADAPTER_LAYER,
    DRAFT_LAYER,
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
from corral.wire.registry import Descriptor

MAX_TEXT_BYTES: Final = 16 << 20  # of a layer that is read as a text


@dataclass(frozen=True, slots=True)
class Loader:
    """Reads one model. `find` gives the path of a blob, or None; nothing is read but what it gives.

    `has_links`: in the model's store a blob may be a link to a file that its owner goes on writing.
    """

    find: Callable[[str], Path | None]
    stored: StoredManifest
    has_links: bool = True

    @property
    def name(self) -> ModelName:
        return self.stored.name

    def model(self) -> tuple[Model, FileStamp]:
        """The model, and the stamp of the file with its weights. Raises ModelCorruptError, NotSupportedError."""
        manifest, name = self.stored.manifest, self.name
        paths = {blob.digest: self._path(blob) for blob in self.stored.blobs}
        config = decode_config(self._bytes(manifest.config), name)
        layers = _by_type(manifest.layers)
        weights = layers.get(MODEL_LAYER)
        if not weights:
            raise ModelCorruptError(f"model {name.short!r} has no weights that can be run; pull or create it again")
        texts = {kind: self._text(layers[kind][-1]) for kind in (TEMPLATE_LAYER, SYSTEM_LAYER) if kind in layers}
        model_path = paths[weights[0].digest]
        file = self._stamp(model_path)
        projector_paths = tuple(paths[layer.digest] for layer in layers.get(PROJECTOR_LAYER, ()))
        parameters, messages = layers.get(PARAMS_LAYER), layers.get(MESSAGES_LAYER)
        model = Model(
            name=name,
            digest=self.stored.digest,
            size_bytes=self.stored.size_bytes,
            modified_ns=self.stored.modified_ns,
            config=config,
            model_path=model_path,
            projector_paths=projector_paths,
            projectors=tuple(info(path, name) for path in projector_paths),
            adapter_paths=tuple(paths[layer.digest] for layer in layers.get(ADAPTER_LAYER, ())),
            draft_paths=tuple(paths[layer.digest] for layer in layers.get(DRAFT_LAYER, ())),
            template=texts.get(TEMPLATE_LAYER),
            system=texts.get(SYSTEM_LAYER, ""),
            parameters=decode_parameters(self._bytes(parameters[-1]), name) if parameters else {},
            messages=decode_messages(self._bytes(messages[-1]), name) if messages else (),
            licenses=tuple(self._text(layer) for layer in layers.get(LICENSE_LAYER, ())),
            gguf=info(model_path, name),
            parent=weights[0].parent,
        )
        return model, file

    def _path(self, blob: Descriptor) -> Path:
        """Where a layer lies, whole. Raises ModelCorruptError where it does not."""
        path = self.find(blob.digest)
        if not path:
            raise ModelCorruptError(
                f"model {self.name.short!r} is incomplete: its layer {blob.digest} is missing; pull or create it again"
            )
        found = self._stat(path)
        if found.st_size != blob.size:
            raise ModelCorruptError(
                f"model {self.name.short!r} is damaged: its layer {blob.digest} has {found.st_size} bytes and should have "
                f"{blob.size}; pull or create it again"
            )
        if self.has_links and found.st_nlink > 1 and found.st_mtime_ns > self.stored.modified_ns:
            raise ModelCorruptError(
                f"model {self.name.short!r} is damaged: its layer {blob.digest} is a link to a file that was written after the "
                "model was made; remove the model, then pull or create it again"
            )
        return path

    def _stat(self, path: Path) -> os.stat_result:
        try:
            return path.stat()
        except OSError as exc:  # it was there a moment ago
            raise self._unreadable(path, exc) from exc

    def _stamp(self, path: Path) -> FileStamp:
        found = self._stat(path)
        return FileStamp(found.st_ino, found.st_size, found.st_mtime_ns)

    def _bytes(self, blob: Descriptor) -> bytes:
        path = self._path(blob)
        if blob.size > MAX_TEXT_BYTES:
            raise ModelCorruptError(
                f"model {self.name.short!r} is damaged: its layer {blob.digest} is no text: {blob.size} bytes"
            )
        try:
            return read_bounded(path, MAX_TEXT_BYTES)
        except OSError as exc:
            raise self._unreadable(path, exc) from exc

    def _text(self, blob: Descriptor) -> str:
        return self._bytes(blob).decode("utf-8", "replace")

    def _unreadable(self, path: Path, exc: OSError) -> ModelCorruptError:
        return ModelCorruptError(f"model {self.name.short!r} cannot be read: {exc.strerror}: {path}")


def info(path: Path, name: ModelName) -> GgufInfo:
    """What a model's file says of itself. Raises ModelCorruptError."""
    with _file_errors(path, name):
        return read_info(path)


def model_header(path: Path, name: ModelName, *, with_arrays: bool = False) -> GgufHeader:
    """The header of one of a model's files, with `with_arrays` long arrays too. Raises ModelCorruptError."""
    with _file_errors(path, name):
        return read_header(path, with_arrays=with_arrays)


@contextmanager
def _file_errors(path: Path, name: ModelName) -> Iterator[None]:
    try:
        yield
    except GgufError as exc:
        raise ModelCorruptError(f"model {name.short!r} cannot be read: {exc}: {path}") from exc
    except OSError as exc:
        raise ModelCorruptError(f"model {name.short!r} cannot be read: {exc.strerror}: {path}") from exc


def _by_type(layers: Iterable[Descriptor]) -> dict[str, list[Descriptor]]:
    found: dict[str, list[Descriptor]] = {}
    for layer in layers:
        found.setdefault(layer.media_type, []).append(layer)
    return found
