"""Names that are nearly right."""

import pytest

from corral.cli.client import ServerError
from corral.cli.hints import meant, meant_model
from tests.support.stub_server import Reply, stub_server

THERE = ["SmolLM2:135m", "qwen3:latest", "gpt-oss:20b", "you/smollm2:135m"]


@pytest.mark.parametrize(("name", "wanted"), [("lst", "list"), ("PULL", "pull"), ("frobnicate", ""), ("", "")])
def test_the_nearest_name_is_meant_where_one_is_near(name: str, wanted: str) -> None:
    assert meant(name, ["serve", "list", "pull", "push"]) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("model 'smolm2' not found", "SmolLM2:135m"),
        ("model 'smollm2:135' not found", "SmolLM2:135m"),
        ('model "quen3" not found', "qwen3"),
        ("model 'gptoss:latest' not found", "gpt-oss:20b"),
        ("model 'llama4' not found", ""),
        ("model 'qwen3' not found", ""),
        ('couldn\'t find model "qwem3" to stop', "qwen3"),
        ("something else", ""),
    ],
)
def test_a_model_that_is_not_there_is_held_against_those_that_are(
    text: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stub_server() as stub:
        monkeypatch.setenv("OLLAMA_HOST", stub.url)
        stub.answer("GET", "/api/tags", Reply({"models": [{"name": name} for name in THERE]}))
        assert meant_model(ServerError(404, text)) == wanted


def test_an_error_that_names_no_model_may_know_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with stub_server() as stub:
        monkeypatch.setenv("OLLAMA_HOST", stub.url)
        stub.answer("GET", "/api/tags", Reply({"models": [{"name": "qwen3:latest"}]}))
        assert meant_model(ServerError(200, "pull model manifest: file does not exist", model="qwen33")) == "qwen3"


@pytest.mark.parametrize("answer", [Reply({}), Reply({"models": [{}]}), Reply({"error": "no"}, status=500)])
def test_a_server_that_cannot_tell_is_no_other_error(answer: Reply, monkeypatch: pytest.MonkeyPatch) -> None:
    with stub_server() as stub:
        monkeypatch.setenv("OLLAMA_HOST", stub.url)
        stub.answer("GET", "/api/tags", answer)
        assert meant_model(ServerError(404, "model 'a' not found")) == ""
