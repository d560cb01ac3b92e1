"""`corral push` against a server that gives set answers: what a person sees, on which stream, and the exit code."""

import io
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from corral.cli.main import main
from tests.support.stub_server import Reply, Stub, stub_server

LAYER: dict[str, Any] = {"status": "pushing a77abed0bee3", "digest": "sha256:a77abed0bee3", "total": 2_759_936}
DONE: list[dict[str, Any]] = [
    {"status": "retrieving manifest"},
    LAYER | {"completed": 1},
    LAYER | {"completed": 2_759_936},
    {"status": "pushing manifest"},
    {"status": "success"},
]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    with stub_server() as stub:
        monkeypatch.setenv("OLLAMA_HOST", stub.url)
        yield stub


@pytest.fixture
def corral(monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(*args: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            code = main(list(args))
        return code, out.getvalue(), err.getvalue()

    return run


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("http://127.0.0.1:5001/me/hello:v1", "127.0.0.1:5001/me/hello:v1"),
        ("127.0.0.1:5001/me/hello", "127.0.0.1:5001/me/hello:latest"),
        ("me/hello", "https://ollama.com/me/hello"),
        ("me/hello:v1", "https://ollama.com/me/hello:v1"),
    ],
    ids=["url", "host", "ollama", "tag"],
)
def test_push_shows_its_way_and_where_the_model_is(corral: Run, stub: Stub, name: str, where: str) -> None:
    stub.answer("POST", "/api/push", Reply(lines=DONE))
    code, out, err = corral("push", name, "--insecure")
    assert (code, out) == (0, f"\nYou can find your model at:\n\n\t{where}\n")
    assert err.splitlines() == [
        "retrieving manifest",
        "pushing a77abed0bee3: 0% of 2.8 MB",
        "pushing a77abed0bee3: 100% of 2.8 MB",
        "pushing manifest",
        "success",
    ]
    assert stub.bodies("/api/push") == [{"model": name, "insecure": True, "stream": True}]


def test_a_refused_push_says_what_to_do(corral: Run, stub: Stub) -> None:
    error = {"error": "pushing a77abed0bee3: unauthorized: access denied (401: no); add /home/me/.corral/id_ed25519.pub"}
    stub.answer("POST", "/api/push", Reply(lines=[{"status": "retrieving manifest"}, error]))
    code, out, err = corral("push", "me/hello")
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        "retrieving manifest",
        "Error: you are not authorized to push to this namespace, create the model under a namespace you own",
        error["error"],
    ]


def test_any_other_error_is_the_servers_own(corral: Run, stub: Stub) -> None:
    lines: list[dict[str, Any]] = [
        {"status": "retrieving manifest"},
        {"status": "couldn't retrieve manifest"},
        {"error": "model 'x:latest' not found"},
    ]
    stub.answer("POST", "/api/push", Reply(lines=lines))
    assert corral("push", "x") == (
        1,
        "",
        "retrieving manifest\ncouldn't retrieve manifest\nError: model 'x:latest' not found\n",
    )


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "Error: accepts 1 arg(s), received 0\n"),
        (("a", "b"), "Error: accepts 1 arg(s), received 2\n"),
        (("a", "--nope"), "Error: unknown flag: --nope\n"),
    ],
    ids=["none", "two", "flag"],
)
def test_push_takes_one_name(corral: Run, args: tuple[str, ...], said: str) -> None:
    assert corral("push", *args) == (1, "", said)
