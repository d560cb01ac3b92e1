"""What is composed: the socket that a server listens on."""

import socket

import pytest

from corral.app import listen
from corral.core.settings import Address, SettingsError


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
