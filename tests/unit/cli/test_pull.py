from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from corral.cli.client import Client, Json
from corral.cli.pull import fetch
from corral.core.settings import parse_host


class Interrupted(Client):
    """Ctrl-C comes while it pulls."""

    @contextmanager
    def stream(self, path: str, body: Json) -> Iterator[Iterator[Json]]:
        def lines() -> Iterator[Json]:
            yield {"status": "pulling manifest"}
            raise KeyboardInterrupt

        yield lines()


def test_ctrl_c_in_a_pull_says_that_it_was_stopped_and_what_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        fetch(Interrupted(parse_host("127.0.0.1:9")), "m")
    assert capsys.readouterr().err == (
        "pulling manifest\nthe pull of m was stopped; what came from a registry is kept, and the next pull goes on with it\n"
    )
