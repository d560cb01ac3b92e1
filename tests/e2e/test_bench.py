"""`corral bench` as a process against a real server and a real worker."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gguf_bert import random_bert, write_bert
from tests.support.process import HELLO, Server, run_corral, serving


@pytest.fixture(scope="module")
def bench_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    with serving(folder / "home") as server:
        server.add_scripted("hello", HELLO, folder)
        server.add(write_bert(folder / "minilm.gguf", random_bert()), "minilm")
        yield server


def test_one_server_is_measured_in_both_dialects(bench_server: Server, tmp_path: Path) -> None:
    servers = ["--url", f"native={bench_server.url}", "--url", f"openai={bench_server.url}/v1"]
    files = ["--json", str(tmp_path / "x.json"), "--plot", str(tmp_path / "x.svg")]
    ran = run_corral(bench_server, "bench", "hello", *servers, "--clients", "1,2", "--requests", "2", "--rounds", "2", *files)
    assert (ran.code, ran.err.count("round ")) == (0, 8), ran.err
    assert "native / openai" in ran.out
    told = json.loads((tmp_path / "x.json").read_text())
    assert [server["api"] for server in told["servers"]] == ["ollama", "openai"]
    assert [(cell["server"], cell["max_concurrency"], cell["completed"], cell["failed"]) for cell in told["results"]] == [
        ("native", 1, 4, 0),
        ("openai", 1, 4, 0),
        ("native", 2, 4, 0),
        ("openai", 2, 4, 0),
    ]
    assert all(cell["tokens_counted_by"] == "server" for cell in told["results"])
    assert all(cell["mean_output_tokens"] > 5 and cell["median_ttft_ms"] > 0 for cell in told["results"])
    assert (tmp_path / "x.svg").stat().st_size > 1000


def test_embeddings_are_measured(bench_server: Server) -> None:
    given = ["--workload", "embed", "--texts", "4", "--prompt-tokens", "5", "--requests", "3"]
    ran = run_corral(bench_server, "bench", "minilm", *given)
    assert ran.code == 0, ran.err
    assert "Text throughput (texts/s)" in ran.out
    assert "TTFT" not in ran.out


def test_a_model_that_is_not_there_is_said_before_anything_is_measured(bench_server: Server) -> None:
    ran = run_corral(bench_server, "bench", "nope", "--url", f"us={bench_server.url}")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.endswith(
        f"Error: us at {bench_server.url} gave no answer to a first request (HTTP 404: model 'nope' not found)\n"
    )
