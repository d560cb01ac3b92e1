"""Lays a Hugging Face model out in a folder, for a converter that believes what it reads there.

Blocking. The files are untrusted: only kinds that hold data are laid out, each safetensors file is checked to its last tensor,
and where a file names other files, it may name only these. Settings that would have code or files loaded from elsewhere are
taken out of the copies.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import msgspec

from corral.core.errors import BadRequestError
from corral.store import SafetensorsError, read_safetensors, store_errors

_DATA_SUFFIXES: Final = frozenset({".safetensors", ".json", ".txt", ".model", ".jinja", ".tiktoken"})
_SETTINGS: Final = frozenset(
    {"config.json", "tokenizer_config.json", "generation_config.json", "adapter_config.json", "processor_config.json"}
)
_MODULES: Final = "modules.json"  # of sentence-transformers: folders in which more settings are
_INDEX_SUFFIX: Final = ".safetensors.index.json"
_MOST_TEXT_BYTES: Final = 64 << 20
_LOADS_CODE: Final = frozenset({"auto_map", "custom_pipelines"})
_NAMES_A_FILE: Final = "_file"  # vocab_file, tokenizer_file: taken for paths, also such that lead out of the folder


@dataclass(frozen=True, slots=True)
class Staged:
    folder: Path
    parameter_count: int
    left_out: tuple[str, ...]  # files that the converter does not need
    has_vision: bool


def stage_model(files: Mapping[str, Path], folder: Path) -> Staged:
    """Raises BadRequestError for files that are damaged, missing or hostile, StoreError."""
    return _stage(files, folder, settings="config.json")


def stage_adapter(files: Mapping[str, Path], folder: Path) -> Staged:
    """The same for a LoRA adapter, whose weights are called as PEFT calls them, whatever their name was."""
    renamed = {_adapter_name(name): path for name, path in files.items()}
    return _stage(renamed, folder, settings="adapter_config.json")


def _adapter_name(name: str) -> str:
    return "adapter_model.safetensors" if name.endswith(".safetensors") else PurePosixPath(name).name


def _stage(files: Mapping[str, Path], folder: Path, *, settings: str) -> Staged:
    if settings not in files:
        raise BadRequestError(f"{settings} is missing among the files: it says what the model is")
    taken = {name: path for name, path in files.items() if PurePosixPath(name).suffix.lower() in _DATA_SUFFIXES}
    values = sum(_checked_weights(name, path) for name, path in taken.items() if name.lower().endswith(".safetensors"))
    found: dict[str, Any] = {}
    with store_errors(folder):
        folder.mkdir()
        for name, path in taken.items():
            try:
                _lay(name, path, folder, taken, found)
            except (FileExistsError, NotADirectoryError) as exc:
                raise BadRequestError(f"{name} is a file and a folder at once") from exc
    has_vision = isinstance(found[settings].get("vision_config"), dict)
    return Staged(folder, values, tuple(sorted(files.keys() - taken.keys())), has_vision)


def _lay(name: str, path: Path, folder: Path, taken: Mapping[str, Path], found: dict[str, Any]) -> None:
    """Puts the file where it belongs: a link to its bytes, or a copy that is safe to believe."""
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    base = PurePosixPath(name).name
    if base not in _SETTINGS and base != _MODULES and not base.endswith(_INDEX_SUFFIX):
        target.symlink_to(path.absolute())
        return
    value = _json(name, path)
    if base.endswith(_INDEX_SUFFIX):
        _check_index(name, value, taken)
    elif base == _MODULES:
        _check_modules(name, value)
    else:
        if not isinstance(value, dict):
            raise BadRequestError(f"{name}: it is no JSON object")
        value = {key: item for key, item in value.items() if not _leads_elsewhere(key)}
        found[name] = value
    target.write_bytes(msgspec.json.encode(value))


def _checked_weights(name: str, path: Path) -> int:
    try:
        return read_safetensors(path).parameter_count
    except SafetensorsError as exc:
        raise BadRequestError(f"{name}: {exc}") from exc


def _json(name: str, path: Path) -> Any:
    size_bytes = path.stat().st_size
    if size_bytes > _MOST_TEXT_BYTES:
        raise BadRequestError(f"{name} has {size_bytes} bytes, more than the {_MOST_TEXT_BYTES} that settings can have")
    try:
        return msgspec.json.decode(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise BadRequestError(f"{name}: {exc}") from exc


def _check_index(name: str, value: Any, taken: Mapping[str, Path]) -> None:
    parts = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(parts, dict):
        raise BadRequestError(f"{name}: it has no weight_map")
    folder = PurePosixPath(name).parent
    for part in parts.values():
        if not isinstance(part, str) or str(folder / part) not in taken:
            raise BadRequestError(f"{name}: it names {str(part)[:200]!r}, which is not among the files")


def _check_modules(name: str, value: Any) -> None:
    for module in value if isinstance(value, list) else [None]:
        path = module.get("path", "") if isinstance(module, dict) else None
        if not isinstance(path, str) or path.startswith(("/", "\\")) or ".." in PurePosixPath(path).parts:
            raise BadRequestError(f"{name}: it is no list of modules in folders of the model")


def _leads_elsewhere(key: str) -> bool:
    return key in _LOADS_CODE or key.endswith(_NAMES_A_FILE)
