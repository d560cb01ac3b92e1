"""The files that a model is to be made of: found in the store by their digests, looked into, told apart.

Blocking. What a file is decides its own content: a GGUF by its metadata, a safetensors file by its header. Nothing is believed
that the file's size does not bear out.
Source: ollama@v0.32 server/create.go, detectModelTypeFromFiles and ggufLayers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from corral.core.errors import BadRequestError
from corral.store import (
    ADAPTER_LAYER,
    MODEL_LAYER,
    PROJECTOR_LAYER,
    GgufError,
    GgufInfo,
    Shard,
    Store,
    digest_hex,
    digest_of,
    order_shards,
    read_info,
    shard_count,
)

MOST_FILES: Final = 1024
_GGUF_MAGIC: Final = b"GGUF"
_ZIP_MAGIC: Final = b"PK\x03\x04"  # what torch.save writes
_PICKLE_SUFFIXES: Final = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})
_LONGEST_NAME: Final = 255  # bytes, of every part of a path
_LONGEST_PATH: Final = 1024
Kind = Literal["gguf", "safetensors", ""]


@dataclass(frozen=True, slots=True)
class GgufFile:
    """One uploaded GGUF; `name` is what its uploader calls it."""

    name: str
    digest: str
    path: Path
    info: GgufInfo

    @property
    def media_type(self) -> str:
        """The layer that it becomes, by its metadata."""
        kind = self.info.metadata.get("general.type")
        if kind == "adapter":
            return ADAPTER_LAYER
        return PROJECTOR_LAYER if kind in ("projector", "mmproj") or self._sees_only else MODEL_LAYER

    @property
    def _sees_only(self) -> bool:
        """Whether it encodes images or sound and has no layers that give text."""
        info = self.info
        if info.block_count:
            return False
        encodes = info.vision_block_count or info.audio_block_count
        return bool(encodes) or (
            info.architecture == "clip"
            and any(info.metadata.get(f"clip.has_{what}_encoder") is True for what in ("vision", "audio"))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What the files are. Exactly one of `model`, `shards` and `folder` is there."""

    model: GgufFile | None = None
    shards: tuple[Shard, ...] = ()  # of one model, first to last
    folder: Mapping[str, Path] | None = None  # a model as Hugging Face lays it out: paths in it -> where they are
    projectors: tuple[GgufFile, ...] = ()
    adapters: tuple[GgufFile, ...] = ()

    @property
    def gguf_count(self) -> int:
        return bool(self.model) + len(self.shards) + len(self.projectors) + len(self.adapters)


@dataclass(frozen=True, slots=True)
class AdapterSource:
    """A LoRA adapter: a GGUF, or files as PEFT lays them out."""

    gguf: GgufFile | None
    folder: Mapping[str, Path] | None = None


def is_local(path: str) -> bool:
    """Whether it can be a path in a folder, and stays below it."""
    parts = path.replace("\\", "/").split("/")
    return (
        len(path) <= _LONGEST_PATH
        and "\0" not in path
        and all(part not in ("", ".", "..") and len(part.encode("utf-8", "replace")) <= _LONGEST_NAME for part in parts)
    )


def find_sources(store: Store, files: Mapping[str, str]) -> Sources:
    """Raises BadRequestError for files that no model can be made of."""
    found = _find(store, files)
    match _kind(found):
        case "safetensors":
            return Sources(folder=found)
        case "gguf":
            return _told_apart(_ggufs(files, found))
        case _:
            raise _no_model(found)


def find_adapter(store: Store, files: Mapping[str, str]) -> AdapterSource:
    """Raises BadRequestError for files that are no adapter, or several."""
    found = _find(store, files)
    match _kind(found):
        case "safetensors":
            if sum(name.endswith(".safetensors") for name in found) > 1:
                raise BadRequestError("only one adapter is currently supported")
            return AdapterSource(None, found)
        case "gguf":
            if len(found) > 1:
                raise BadRequestError("only one adapter is currently supported")
            (file,) = _ggufs(files, found)
            if file.media_type != ADAPTER_LAYER:
                raise BadRequestError(f"{file.name}: this GGUF is no LoRA adapter: its general.type is not adapter")
            return AdapterSource(file)
        case _:
            raise _no_model(found)


def find_additions(store: Store, files: Mapping[str, str]) -> tuple[GgufFile, ...]:
    """What is put beside a model that is there: projectors and adapters. Raises BadRequestError for another model."""
    found = _find(store, files)
    additions = tuple(_ggufs(files, found)) if _kind(found) == "gguf" else ()
    if not additions or any(file.media_type == MODEL_LAYER for file in additions):
        raise BadRequestError("both 'from' and 'files' were specified; a model is made from one of them")
    return additions


def find_draft(store: Store, files: Mapping[str, str]) -> GgufFile:
    """Raises BadRequestError for files that are no single GGUF."""
    found = _find(store, files)
    if _kind(found) == "safetensors":
        raise BadRequestError("supplied file was not in GGUF format")
    if not _kind(found):
        raise _no_model(found)
    ggufs = _ggufs(files, found)
    if len(ggufs) != 1 or ggufs[0].media_type != MODEL_LAYER or shard_count(ggufs[0].info) > 1:
        raise BadRequestError("a draft model is made of one GGUF file")
    return ggufs[0]


def check_adapter(adapter: GgufFile, base: GgufInfo) -> None:
    if adapter.info.architecture != base.architecture:
        raise BadRequestError(
            f"{adapter.name}: this adapter is for {adapter.info.architecture}, and the model is {base.architecture}"
        )


def _find(store: Store, files: Mapping[str, str]) -> dict[str, Path]:
    """Where the files are, by name in the order of the alphabet."""
    if len(files) > MOST_FILES:
        raise BadRequestError(f"too many files: {len(files)} exceeds maximum {MOST_FILES}")
    found: dict[str, Path] = {}
    for name, text in sorted(files.items()):
        digest = digest_of(digest_hex(text))
        path = store.blob_path(digest)
        if path is None:
            raise BadRequestError(f'blob "{digest}" not found; upload it first, with POST /api/blobs/{digest}')
        found[name] = path
    return found


def _kind(found: Mapping[str, Path]) -> Kind:
    kinds = {kind for name, path in found.items() if (kind := _kind_of(name, path))}
    if len(kinds) > 1:
        raise BadRequestError("mixed model file types: found both gguf and safetensors inputs")
    return kinds.pop() if kinds else ""


def _kind_of(name: str, path: Path) -> Kind:
    suffix = PurePosixPath(name).suffix.lower()
    if suffix == ".safetensors":
        return "safetensors"
    return "gguf" if suffix == ".gguf" or _begins(path, _GGUF_MAGIC) else ""


def _begins(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _no_model(found: Mapping[str, Path]) -> BadRequestError:
    for name, path in found.items():
        if PurePosixPath(name).suffix.lower() in _PICKLE_SUFFIXES or _begins(path, _ZIP_MAGIC):
            return BadRequestError(
                f"{name}: PyTorch's own files are pickles, which can run any code when they are read, so they are not read; "
                "save the model as safetensors"
            )
    return BadRequestError("unknown type")


def _ggufs(files: Mapping[str, str], found: Mapping[str, Path]) -> list[GgufFile]:
    ggufs = []
    for name, path in found.items():
        if not _begins(path, _GGUF_MAGIC):
            raise BadRequestError("supplied file was not in GGUF format")
        try:
            info = read_info(path)
        except GgufError as exc:
            raise BadRequestError(f"{name}: {exc}") from exc
        ggufs.append(GgufFile(name, digest_of(digest_hex(files[name])), path, info))
    return ggufs


def _told_apart(ggufs: Sequence[GgufFile]) -> Sources:
    models = [file for file in ggufs if file.media_type == MODEL_LAYER]
    shards = [Shard(file.name, file.path, file.info) for file in models if shard_count(file.info) > 1]
    whole = [file for file in models if shard_count(file.info) == 1]
    if not models:
        raise BadRequestError(f"there is no model among the files: {_names(ggufs)}")
    if len(whole) > 1 or (whole and shards):
        raise BadRequestError(f"the files are more than one model; create each by itself: {_names(models)}")
    try:
        ordered = tuple(order_shards(shards)) if shards else ()
    except GgufError as exc:
        raise BadRequestError(str(exc)) from exc
    return Sources(
        model=whole[0] if whole else None,
        shards=ordered,
        projectors=tuple(file for file in ggufs if file.media_type == PROJECTOR_LAYER),
        adapters=tuple(file for file in ggufs if file.media_type == ADAPTER_LAYER),
    )


def _names(files: Sequence[GgufFile]) -> str:
    return ", ".join(file.name for file in files)
