"""What lies in a store and who needs it, and the removal of what nobody does.

Blobs that no manifest names are removed once they are an hour old: until then they may be layers of a model in the making. So
are the files of writers that were killed. What an interrupted download left is kept unless it is asked for, with the whole
blobs of the day before, which may be its other layers; and it is kept while a server is writing it. While a manifest cannot be
read nobody knows what it needs, and every blob is kept. Nothing is touched but files in `blobs` whose names a store gives,
half-written manifests, and the folders in which servers make what will be blobs.
"""

import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec

from corral.core.errors import StoreError
from corral.store.file_lock import try_lock
from corral.store.files import read_bounded, store_errors
from corral.store.layout import SCRATCH, TEMPORARY_PREFIX, digest_of
from corral.store.names import ModelName
from corral.store.roots import Root
from corral.wire.care import Kind, Leftover, ModelUse, Pruned, StoreUse

YOUNG_S: Final = 3600.0
_DOWNLOAD_S: Final = 86400.0
_BLOB: Final = re.compile(r"sha256-([0-9a-f]{64})(-partial(?:-[0-9]+)?)?")
_BLOCK_BYTES: Final = 512  # what st_blocks counts
_MANIFEST_DEPTH: Final = 4  # host, namespace, model, and the file of a tag
_MAX_NOTE_BYTES: Final = 4096


class _Note(msgspec.Struct, frozen=True):
    """What a download notes of one of its parts, as far as it matters here."""

    completed: Annotated[int, msgspec.Meta(ge=0)] = msgspec.field(name="Completed")


def survey(root: Root, find: Callable[[str], Path | None], now_s: float) -> StoreUse:
    """`find` looks for a blob in this store and in others. Raises StoreError where the store cannot be read."""
    users, damaged = root.used()
    sizes = {digest: size for digest in users if (size := _size(root.layout.blob(digest))) is not None}
    models = []
    for name in {name for names in users.values() for name in names}:
        mine = [digest for digest, names in users.items() if name in names]
        models.append(
            ModelUse(
                name=name.short,
                alone_bytes=sum(sizes.get(digest, 0) for digest in mine if len(users[digest]) == 1),
                shared_bytes=sum(sizes.get(digest, 0) for digest in mine if len(users[digest]) > 1),
                missing=sum(digest not in sizes and find(digest) is None for digest in mine),
            )
        )
    models.sort(key=lambda model: (-model.alone_bytes - model.shared_bytes, model.name))
    return StoreUse(
        root=str(root.layout.root),
        models=models,
        damaged=sorted(name.short for name in damaged),
        used_bytes=sum(sizes.values()),
        leftovers=list(_leftovers(root, users, now_s)),
    )


@dataclass(frozen=True, slots=True)
class Sweep:
    """What to remove. Whoever runs it holds the store's lock."""

    blobs: bool = True
    partials: bool = False
    dry_run: bool = False
    older_than_s: float = YOUNG_S

    def run(self, root: Root, now_s: float) -> Pruned:
        """Raises StoreError where the store cannot be read; a file that cannot be removed is kept."""
        root.manifests.forget()
        users, damaged = root.used()
        leftovers = list(_leftovers(root, users, now_s))
        removed: list[Leftover] = []
        kept: list[Leftover] = []
        least_s = self._least_age_s(leftovers)
        for item in leftovers:
            is_wanted = self._removes(item, least_s) and not (damaged and item.kind == "unused")
            is_removed = is_wanted and (self.dry_run or _is_removed(root.layout.root / item.path, item.kind))
            (removed if is_removed else kept).append(item)
        return Pruned(removed=removed, kept=kept, damaged=sorted(name.short for name in damaged))

    def _least_age_s(self, leftovers: list[Leftover]) -> float:
        """The age from which on a blob that nobody names belongs to no download that may be gone on with."""
        partial_ages = [item.age_s + _DOWNLOAD_S for item in leftovers if item.kind == "partial" and not self.partials]
        return max([self.older_than_s, *partial_ages])

    def _removes(self, item: Leftover, least_age_s: float) -> bool:
        match item.kind:
            case "partial":
                return self.partials
            case "unused":
                return self.blobs and item.age_s >= least_age_s
            case "temporary":
                return item.age_s >= YOUNG_S


def _leftovers(root: Root, users: Mapping[str, set[ModelName]], now_s: float) -> Iterator[Leftover]:
    """Every file that no model needs, by name."""
    for entry in _entries(root.layout.blobs):
        kind = _kind(entry.name, users)
        stat_result = _stat(entry)
        if not kind or not stat_result or not stat.S_ISREG(stat_result.st_mode):
            continue
        size_bytes = min(stat_result.st_size, stat_result.st_blocks * _BLOCK_BYTES)
        if kind == "partial" and (done_bytes := _noted_bytes(Path(entry.path))) is not None:
            size_bytes = min(size_bytes, done_bytes)
        # a link keeps the time of the file that it was made of, so a blob's age is that of its name
        changed_s = stat_result.st_mtime if kind == "temporary" else max(stat_result.st_mtime, stat_result.st_ctime)
        yield _leftover(root, entry, kind, size_bytes, now_s - changed_s)

    for entry in (*_half_written(root.layout.manifests, _MANIFEST_DEPTH), *_half_written(root.layout.root, depth=1)):
        stat_result = _stat(entry)
        if stat_result and stat.S_ISREG(stat_result.st_mode):
            yield _leftover(root, entry, "temporary", stat_result.st_size, now_s - stat_result.st_mtime)
    for name in SCRATCH:
        for entry in _entries(root.layout.root / name):
            stat_result = _stat(entry)
            if stat_result and stat.S_ISDIR(stat_result.st_mode):
                yield _leftover(root, entry, "temporary", _folder_bytes(Path(entry.path)), now_s - stat_result.st_mtime)


def _half_written(folder: Path, depth: int) -> Iterator[os.DirEntry[str]]:
    """Manifests and the like of writers that were killed."""
    with suppress(StoreError):  # a folder that this user may not read has nothing that it may remove
        for entry in _entries(folder):
            if entry.name.startswith(TEMPORARY_PREFIX):
                yield entry
            elif depth > 1 and (found := _stat(entry)) and stat.S_ISDIR(found.st_mode):
                yield from _half_written(Path(entry.path), depth - 1)


def _noted_bytes(partial: Path) -> int | None:
    """How much of a download is there by its notes: more is on disk, of which a later pull knows nothing. None without any."""
    done_bytes = None
    for note in partial.parent.glob(f"{partial.name}-*"):
        try:
            found = msgspec.json.decode(read_bounded(note, _MAX_NOTE_BYTES), type=_Note)
        except (OSError, msgspec.DecodeError):  # being written, or no note
            continue
        done_bytes = (done_bytes or 0) + found.completed
    return done_bytes


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    """None for what is gone meanwhile: a pull or a create has ended."""
    try:
        return entry.stat(follow_symlinks=False)
    except OSError:
        return None


def _leftover(root: Root, entry: os.DirEntry[str], kind: Kind, size_bytes: int, age_s: float) -> Leftover:
    path = str(Path(entry.path).relative_to(root.layout.root))
    return Leftover(path=path, kind=kind, size_bytes=size_bytes, age_s=max(0.0, round(age_s, 3)))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with store_errors(folder, "read"):
        try:
            with os.scandir(folder) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return []


def _folder_bytes(folder: Path) -> int:
    sizes = [_size(Path(parent) / name) for parent, _, names in os.walk(folder) for name in names]
    return sum(size for size in sizes if size)


def _kind(name: str, users: Mapping[str, set[ModelName]]) -> Kind | None:
    if name.startswith(TEMPORARY_PREFIX):
        return "temporary"
    found = _BLOB.fullmatch(name)
    if not found:
        return None
    if found[2]:
        return "partial"
    return None if digest_of(found[1]) in users else "unused"


def _is_removed(path: Path, kind: Kind) -> bool:
    """Removes the file, and says whether it did: not where a server is at work on it, or this user may not."""
    download, mark, number = path.name.partition("-partial")
    try:
        if mark and not number:
            return _is_removed_unlocked(path)
        if mark and path.with_name(f"{download}-partial").exists():  # a note of what it has; it comes before it by name
            return False
        if kind == "temporary":
            return _is_removed_unlocked(path)
        path.unlink()
    except OSError:
        return False
    return True


def _is_removed_unlocked(path: Path) -> bool:
    """False where somebody is at work on it, who holds its lock.

    Where the file system knows no locks, only a temporary file is taken, and for its age: it is young as long as it is
    written. Of a folder and of a download that may be gone on with, nobody can tell there. Raises OSError.
    """
    is_folder = path.is_dir()
    mode = os.O_RDONLY | os.O_DIRECTORY if is_folder else os.O_RDWR
    fd = os.open(path, mode | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        holder = try_lock(fd)
        if holder == "others" or (holder == "unknown" and not path.name.startswith(TEMPORARY_PREFIX)):
            return False
        shutil.rmtree(path) if is_folder else path.unlink()
    finally:
        os.close(fd)
    return True


def _size(path: Path) -> int | None:
    with suppress(OSError):
        return path.stat().st_size
    return None
