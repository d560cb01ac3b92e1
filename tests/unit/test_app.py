"""What is composed: the socket that a server listens on, and the end of all parts."""

import asyncio
import errno
import socket
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from corral.app import Corral, check_store, listen
from corral.core.errors import ServerStoppingError
from corral.core.options import Options
from corral.core.settings import Address, Settings, SettingsError
from corral.engine.fake import FakeLauncher
from tests.support.models import make_model


def test_a_listener_names_its_protocol_so_that_small_answers_are_not_delayed() -> None:
    with listen(Address("127.0.0.1", 0)) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_a_port_in_use_is_said_with_the_way_out() -> None:
    with listen(Address("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use.*OLLAMA_HOST"):
            listen(Address("127.0.0.1", port))


def test_a_host_that_is_none_of_ours_is_said() -> None:
    with pytest.raises(SettingsError, match=r"cannot listen on no\.such\.host\.invalid:1"):
        listen(Address("no.such.host.invalid", 1))


@dataclass(slots=True)
class BadEnd(FakeLauncher):
    async def aclose(self) -> None:
        raise OSError("no end")


async def test_a_part_that_fails_to_end_keeps_no_other_from_it(tmp_path: Path) -> None:
    corral = Corral(Settings(models=tmp_path), launcher=BadEnd())
    with pytest.raises(OSError, match="no end"):
        await corral.aclose()
    with pytest.raises(ServerStoppingError):
        await corral._threads.run(print)


def test_a_store_that_cannot_be_written_is_said_at_the_start(tmp_path: Path) -> None:
    check_store(tmp_path / "new" / "models")
    (tmp_path / "file").write_text("x")
    with pytest.raises(SettingsError, match=r"cannot write to the model store .*file: File exists; CORRAL_MODELS"):
        check_store(tmp_path / "file")


def test_a_store_that_can_only_be_read_is_served_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(**_where: object) -> NoReturn:
        raise OSError(errno.EROFS, "Read-only file system")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", refuse)
        check_store(tmp_path)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        (
            "WARNING",
            f"the model store {tmp_path} is served read-only: Read-only file system; CORRAL_MODELS sets another folder",
        )
    ]


def test_a_store_that_cannot_be_read_is_said_at_the_start(tmp_path: Path) -> None:
    def refuse(_folder: Path) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "iterdir", refuse)
        with pytest.raises(SettingsError, match=r"cannot read the model store .*: Permission denied; CORRAL_MODELS"):
            check_store(tmp_path)


@dataclass(slots=True)
class LastLoad(FakeLauncher):
    """Asks for a model of its own while it ends."""

    ask: Callable[[], Awaitable[None]] | None = None

    async def aclose(self) -> None:
        assert self.ask
        await self.ask()


async def test_nothing_is_begun_once_the_end_has_begun(tmp_path: Path) -> None:
    launcher = LastLoad()
    corral = Corral(Settings(models=tmp_path), launcher=launcher)
    told = list[str]()

    async def ask() -> None:
        try:
            async with corral.scheduler.lease(make_model(tmp_path, "m"), Options.resolve()):
                pass
        except ServerStoppingError as error:
            told.append(str(error))

    launcher.ask = ask
    corral._background.start(asking_while_it_ends(ask), name="warm up")
    await asyncio.sleep(0)
    await corral.aclose()
    assert told == ["the server is shutting down"] * 2
    assert not launcher.specs


async def asking_while_it_ends(ask: Callable[[], Awaitable[None]]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await ask()
