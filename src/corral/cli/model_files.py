"""The files that a FROM, an ADAPTER or a DRAFT of a Modelfile means, and what the server is to call them.

A path is taken from the Modelfile's folder on. What leads to nothing here is a model's name, unless it can only be a path.
Source: ollama@v0.32 parser/parser.go, fileDigestMap and filesForModel.
"""

import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from corral.core.errors import BadRequestError

MAGIC: Final = b"GGUF"
_WEIGHTS: Final = (  # the first of these that a folder has
    ("model*.safetensors", "*/model*.safetensors"),
    ("consolidated*.safetensors",),
    ("adapter*.safetensors",),
    ("*.safetensors",),
    ("pytorch_model*.bin",),
    ("consolidated*.pth",),
    ("*.gguf",),
)
_BESIDE: Final = ("*.json", "*/*.json", "chat_template.jinja", "vocab.txt", "merges.txt", "*.model", "*.tiktoken")
_SHARD: Final = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")
_GIT_LFS: Final = b"version https://git-lfs"


class ModelFileError(BadRequestError):
    """A file that a Modelfile names cannot be used. The text has its path."""

    code = "model_file"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """`name` is relative, with `/` in it; `path` leads to the bytes themselves."""

    name: str
    path: Path

    @property
    def is_gguf(self) -> bool:
        try:
            with self.path.open("rb") as file:
                return file.read(len(MAGIC)) == MAGIC
        except OSError:
            return False


def files_at(text: str, folder: Path) -> list[ModelFile] | None:
    """The files that lie there; None where the text can only be a model's name. Raises ModelFileError."""
    path = Path(os.path.normpath(folder / _at_home(text)))
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as exc:
        if _is_path(text):
            why = getattr(exc, "strerror", None) or exc
            raise ModelFileError(f"{path}: {why}; a path in a Modelfile is taken from the Modelfile's folder on") from exc
        return None
    try:
        if stat.S_ISDIR(mode):
            return _in_folder(path)
        if stat.S_ISREG(mode):
            return _with_shards(_whole(path))
    except OSError as exc:
        raise ModelFileError(f"cannot read {exc.filename or path}: {exc.strerror}") from exc
    raise ModelFileError(f"{path} is neither a file nor a folder")


def named_apart(files: Iterable[ModelFile]) -> list[ModelFile]:
    """The same, once each, with a folder before a name that two of them have."""
    taken: dict[str, Path] = {}
    out: list[ModelFile] = []
    for file in files:
        name, number = file.name, 1
        while taken.get(name, file.path) != file.path:
            number += 1
            name = f"{number}/{file.name}"
        if name not in taken:
            out.append(ModelFile(name, file.path))
        taken[name] = file.path
    return out


def _is_path(text: str) -> bool:
    return text.startswith(("/", "./", "../", "~", ".\\")) or text in (".", "..") or text.endswith((".gguf", ".safetensors"))


def _at_home(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as exc:
        raise ModelFileError(f"cannot read {text!r}: there is no such user") from exc


def _whole(path: Path) -> Path:
    """Safetensors are no model by themselves, nor an adapter: the files beside them say what they are."""
    if path.suffix == ".safetensors":
        raise ModelFileError(
            f"{path} is only the weights, and its settings are in files beside it; name the folder: {path.parent}"
        )
    return path


def _with_shards(path: Path) -> list[ModelFile]:
    """The file; with one shard of a model that is in several files, the others beside it."""
    shard = _SHARD.fullmatch(path.name)
    if not shard:
        return [ModelFile(path.name, path.resolve())]
    stem, count = shard[1], int(shard[3])
    paths = [path.with_name(f"{stem}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]
    if missing := [other.name for other in paths if not other.is_file()]:
        raise ModelFileError(f"{path.name} is one of {count} files, and {missing[0]} is not beside it")
    return [ModelFile(other.name, other.resolve()) for other in paths]


def _in_folder(folder: Path) -> list[ModelFile]:
    weights = next((found for patterns in _WEIGHTS if (found := _matches(folder, patterns))), None)
    if not weights:
        raise ModelFileError(f"no Modelfile or safetensors files found: {folder} has no model's weights in it")
    is_gguf = weights[0].suffix == ".gguf"
    found = [*weights, *(() if is_gguf else _matches(folder, _BESIDE))]
    return [ModelFile(path.relative_to(folder).as_posix(), _resolved(path, folder)) for path in dict.fromkeys(found)]


def _matches(folder: Path, patterns: Sequence[str]) -> list[Path]:
    return [path for pattern in patterns for path in sorted(folder.glob(pattern)) if path.is_file()]


def _resolved(path: Path, folder: Path) -> Path:
    """Where the bytes are. A folder that somebody made must not lead out of itself; a download cache's may, to its blobs."""
    real, home = path.resolve(), folder.resolve()
    allowed = [home]
    if home.parent.name == "snapshots":  # of the cache of Hugging Face: snapshots/REVISION/FILE -> ../../blobs/DIGEST
        allowed.append(home.parent.parent / "blobs")
    if not any(real.is_relative_to(place) for place in allowed):
        raise ModelFileError(f"insecure path: {path} leads out of {folder}, to {real}")
    with real.open("rb") as file:
        if file.read(len(_GIT_LFS)) == _GIT_LFS:
            raise ModelFileError(f"{path} is only a pointer of Git LFS; fetch the file itself with 'git lfs pull'")
    return real
