import io
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from corral.cli.bench.dialects import OllamaDialect
from corral.cli.bench.document import document
from corral.cli.bench.plot import check, draw
from corral.cli.bench.report import show
from corral.cli.bench.results import results
from corral.cli.bench.rounds import Load, Measured, Plan, Run, Target
from corral.cli.bench.sending import Sample, Server
from corral.cli.bench.workloads import KINDS
from corral.cli.usage import UsageError
from tests.support.bench_samples import failed, sample

GOLDEN = """\
chat: free text: each request a question of its own; 2 rounds, seed 7

 1 client                                 a      b               a / b
 ─────────────────────────────────────────────────────────────────────
 Successful requests                      2      2
 Failed requests                          0      1

 Request throughput (req/s)              10      5   2.00 (2.00..2.00)
 Output token throughput (tok/s)         30     15   2.00 (2.00..2.00)
 Total token throughput (tok/s)         130     65   2.00 (2.00..2.00)
 Mean throughput of a stream (tok/s)   41.7   19.4   2.12 (2.00..2.25)

 Mean TTFT (ms)                          50     95   0.52 (0.50..0.55)
 Median TTFT (ms)                        50     95   0.52 (0.50..0.55)
 P95 TTFT (ms)                           59    108   0.52 (0.50..0.55)
 P99 TTFT (ms)                         59.8    110   0.52 (0.50..0.55)
 All clients have a first token (ms)     50     95   0.52 (0.50..0.55)

 Mean TPOT (ms)                          25   52.5   0.47 (0.44..0.50)
"""


def answer(ttft: float, end: float, **more: int) -> Sample:
    return sample(0, [ttft, end], end, prompt_tokens=10, output_tokens=3, client=0, **more)


def a_run(clients: tuple[int, ...] = (1,)) -> Run:
    targets = [Target("a", "http://a", "m"), Target("b", "http://b", "m")]
    loads = [Load(clients=number) for number in clients]
    plan = Plan(targets, loads, "chat", KINDS["chat"].shape, seed=7, rounds=2)
    servers = [Server(target.name, target.url, "m", OllamaDialect()) for target in targets]
    measured = [
        measure
        for load in loads
        for measure in (
            Measured("a", load, 0, [answer(40, 100)], 0.1),
            Measured("b", load, 0, [answer(80, 200), failed("HTTP 503", "busy")], 0.2),
            Measured("b", load, 1, [answer(110, 200)], 0.2),
            Measured("a", load, 1, [answer(60, 100)], 0.1, late_ns=[19_000_000]),
        )
    ]
    return Run(plan, servers, measured)


def shown(run: Run) -> list[str]:
    out = io.StringIO()
    show(run.plan, results(run), out)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_the_table_has_a_column_for_each_server_and_for_how_they_compare() -> None:
    lines = shown(a_run())
    assert lines[: GOLDEN.count("\n")] == GOLDEN.splitlines()


def test_the_report_tells_errors_and_its_own_lateness() -> None:
    lines = shown(a_run())
    assert "b: 1 failed with HTTP 503: busy" in lines
    assert any(line.startswith("a: this program had to wait for the processor, 19 ms") for line in lines)


def test_a_sweep_ends_with_one_table_of_all_loads() -> None:
    lines = shown(a_run((1, 4)))
    last = lines[next(at for at, line in enumerate(lines) if "tok/s   tok/s" in line) :]
    assert re.fullmatch(r" 1 client +30 +15 +50 +95 +59.8 +120", last[2])
    assert last[3].startswith(" 4 clients ")


def test_a_table_in_a_log_is_never_cut() -> None:
    run = a_run()
    long = "a-server-with-quite-a-long-name-" * 4
    plan = Plan([Target(long, "http://a", "m")], run.plan.loads, "chat", run.plan.shape, seed=7)
    alone = Run(plan, [], [Measured(long, run.plan.loads[0], 0, [answer(40, 100)], 0.1)])
    assert any(line.endswith(long) for line in shown(alone))


def test_pieces_that_stand_for_tokens_and_silent_answers_are_told() -> None:
    plan = Plan([Target("a", "http://a", "m")], [Load(clients=1)], "chat", KINDS["chat"].shape, seed=7)
    lines = shown(Run(plan, [], [Measured("a", Load(clients=1), 0, [sample(0, [1, 2], 3), sample(0, [], 3)], 0.1)]))
    assert "a does not tell how many tokens it generates: pieces of its streams are counted in their place." in lines
    assert "a: 1 answers had no text; they have no TTFT" in lines


def test_the_document_has_vllms_names_and_every_round() -> None:
    run = a_run()
    found = json.loads(json.dumps(document(run, results(run), datetime(2026, 1, 2, tzinfo=UTC))))
    first = found["results"][0]
    assert (first["server"], first["max_concurrency"], first["completed"]) == ("a", 1, 2)
    assert first["request_throughput"] == 10
    assert {"mean_ttft_ms", "p99_itl_ms", "median_tpot_ms", "mean_e2el_ms", "total_token_throughput"} <= set(first)
    assert len(first["rounds"]) == 2
    assert found["results"][1]["errors"] == [{"kind": "HTTP 503", "count": 1, "first": "busy"}]
    assert found["ratios"][0]["request_throughput"] == {"median": 2, "min": 2, "max": 2}
    assert found["servers"][0]["api"] == "ollama"
    assert found["workload"] == {"name": "chat", "max_tokens": 128, "temperature": 0.8, "prompt_tokens": []}


@pytest.mark.parametrize(("name", "begins"), [("p.svg", b"<?xml"), ("p.png", b"\x89PNG")])
def test_a_plot_is_drawn(tmp_path: Path, name: str, begins: bytes) -> None:
    run = a_run((1, 4))
    draw(run.plan, results(run), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_the_same_run_draws_the_same_svg(tmp_path: Path) -> None:
    run = a_run()
    for name in ("1.svg", "2.svg"):
        draw(run.plan, results(run), tmp_path / name)
    assert (tmp_path / "1.svg").read_bytes() == (tmp_path / "2.svg").read_bytes()


def test_a_plot_of_another_kind_is_refused() -> None:
    with pytest.raises(UsageError, match=r"must end in \.svg or \.png"):
        check(Path("x.gif"))


def test_without_matplotlib_the_way_to_it_is_said() -> None:
    with pytest.raises(UsageError, match="pip install matplotlib brings it"):
        check(Path("x.svg"), find=lambda _name: None)
