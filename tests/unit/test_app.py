"""What is composed: the socket that a server listens on, and the end of all parts."""

import socket
from dataclasses import dataclass
from pathlib import Path

import pytest

from corral.app import Corral, check_store, listen
from corral.core.settings import Address, Settings, SettingsError
from corral.engine.fake import FakeLauncher


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
    with pytest.raises(RuntimeError, match="shutdown"):
        await corral._threads.run(print)


def test_a_store_that_cannot_be_written_is_said_at_the_start(tmp_path: Path) -> None:
    check_store(tmp_path / "new" / "models")
    (tmp_path / "file").write_text("x")
    with pytest.raises(SettingsError, match=r"cannot write to the model store .*file: File exists; CORRAL_MODELS"):
        check_store(tmp_path / "file")
