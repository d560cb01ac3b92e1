"""The files of a catalogue model that comes as an archive of a Hugging Face folder, to be converted."""

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Final

from corral.core.errors import RegistryError
from corral.registry.disk import Disk
from corral.registry.limits import MIB
from corral.store import store_errors

_STEP_BYTES: Final = 4 * MIB


async def unpack(archive: Path, folder: Path, size_bytes: int, *, disk: Disk) -> dict[str, Path]:
    """The files by their paths in the archive, written into `folder`, which is made; no more than `size_bytes` together.

    Raises RegistryError, StoreError.
    """
    found: dict[str, Path] = {}
    with store_errors(folder):
        await disk.writing.run(folder.mkdir)
        steps = _unpack(archive, folder, size_bytes, found)
        try:
            while await disk.writing.run(next, steps, False):
                pass
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as exc:
            raise RegistryError(f"cannot read {archive.name}: {exc}") from exc
    return found


def _unpack(archive: Path, folder: Path, left_bytes: int, found: dict[str, Path]) -> Iterator[bool]:
    """Writes a piece at each turn. The archive's names are never names on this machine's disk."""
    with zipfile.ZipFile(archive) as files:
        for number, member in enumerate(files.infolist()):
            if member.is_dir():
                continue
            path = PurePosixPath(member.filename)
            if path.is_absolute() or ".." in path.parts:
                raise RegistryError(f"{archive.name} has a file that leads out of it: {member.filename!r}")
            found[str(path)] = folder / str(number)
            with files.open(member) as source, found[str(path)].open("xb") as target:
                for data in _pieces(source, left_bytes):
                    left_bytes -= len(data)
                    if left_bytes < 0:
                        raise RegistryError(f"{archive.name} unpacks to more than it should")
                    target.write(data)
                    yield True


def _pieces(source: IO[bytes], left_bytes: int) -> Iterator[bytes]:
    while data := source.read(min(_STEP_BYTES, left_bytes + 1)):
        left_bytes -= len(data)
        yield data
