"""The choices that were measured for the models of a store: one small file beside them, `tuned.json`.

A choice stands for its model's files, so that every model made of them has it, and goes with them. A file that cannot be read
is none, and so is an entry in it that cannot: whoever tunes writes it anew. Writers hold the store's lock.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from corral.core.errors import BadRequestError
from corral.core.tuning import Machine, Tuning
from corral.store.files import FileStamp, read_bounded, store_errors, write_atomically
from corral.store.layout import Layout, digest_hex, digest_of
from corral.store.model import Model

log: Final = logging.getLogger(__name__)
_MOST_BYTES: Final = 4 << 20
_VERSION: Final = 1


class _Stored(msgspec.Struct, frozen=True):
    version: int
    entries: list[msgspec.Raw] = []


class Tunings:
    """One store's choices. Blocking, but for `stamp`."""

    def __init__(self, layout: Layout) -> None:
        self._path = layout.tunings

    def stamp(self) -> FileStamp | None:
        """Another one after every change; None while there are no choices. Looks at the file's metadata alone."""
        try:
            return FileStamp.of(self._path)
        except OSError:
            return None

    def read(self) -> list[Tuning]:
        try:
            data = read_bounded(self._path, _MOST_BYTES)
        except FileNotFoundError:
            return []
        except OSError as exc:
            self._pass_over(str(exc))
            return []
        try:
            stored = msgspec.json.decode(data, type=_Stored)
            if stored.version != _VERSION:
                raise msgspec.ValidationError(f"it is of version {stored.version}, and {_VERSION} is read")
            found = [_entry(raw) for raw in stored.entries]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            self._pass_over(str(exc))
            return []
        return [entry for entry in found if entry]

    def put(self, tuning: Tuning) -> None:
        """In place of what there was for these files on this machine, with whatever build. Raises StoreError."""
        others = [entry for entry in self.read() if not _is_for(entry, tuning.files, tuning.machine)]
        self._write([*others, tuning])

    def remove(self, files: Sequence[str], machine: Machine) -> bool:
        """Whether there was one. Raises StoreError."""
        return self._keep(lambda entry: not _is_for(entry, files, machine))

    def drop_orphans(self, has_blob: Callable[[str], bool]) -> bool:
        """Removes what stands for files that are gone, and says whether there was any. Raises StoreError."""
        return self._keep(lambda entry: _is_there(entry, has_blob))

    def _keep(self, is_kept: Callable[[Tuning], bool]) -> bool:
        entries = self.read()
        kept = [entry for entry in entries if is_kept(entry)]
        if len(kept) != len(entries):
            self._write(kept)
        return len(kept) != len(entries)

    def _write(self, entries: Sequence[Tuning]) -> None:
        if not entries:
            with store_errors(self._path, "remove"):
                self._path.unlink(missing_ok=True)
            return
        text: dict[str, Any] = {"version": _VERSION, "entries": entries}
        write_atomically(self._path, msgspec.json.format(msgspec.json.encode(text), indent=1) + b"\n")

    def _pass_over(self, reason: str) -> None:
        log.warning("tuned settings passed over", extra={"file": str(self._path), "error": reason})


def tuning_files(model: Model) -> tuple[str, ...]:
    """What a choice for the model stands for; nothing where its files are no blobs of a store."""
    try:
        paths: Sequence[Path] = (model.model_path, *model.adapter_paths, *model.projector_paths)
        return tuple(digest_of(digest_hex(path.name)) for path in paths)
    except BadRequestError:
        return ()


def _entry(raw: msgspec.Raw) -> Tuning | None:
    try:
        return msgspec.json.decode(raw, type=Tuning)
    except msgspec.DecodeError:
        return None


def _is_for(entry: Tuning, files: Sequence[str], machine: Machine) -> bool:
    return entry.files == tuple(files) and msgspec.structs.replace(entry.machine, build=machine.build) == machine


def _is_there(entry: Tuning, has_blob: Callable[[str], bool]) -> bool:
    try:
        return bool(entry.files) and all(map(has_blob, entry.files))
    except BadRequestError:
        return False
