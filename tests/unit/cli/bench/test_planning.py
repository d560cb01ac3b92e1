import re
from pathlib import Path
from typing import Any

import pytest

from corral.cli.bench.command import bench
from corral.cli.bench.planning import plan_of, writable
from corral.cli.bench.rounds import Load, Plan, Target
from corral.cli.usage import UsageError
from corral.core.errors import BadRequestError


def plan(*args: str) -> Plan:
    context = bench.make_context("bench", [*args])
    flags: dict[str, Any] = dict(context.params)
    words = flags.pop("words")
    del flags["json_file"], flags["plot_file"]
    return plan_of(words[0], **flags)


def test_one_server_is_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "0.0.0.0:5000")
    assert plan("m").targets == [Target("127.0.0.1:5000", "http://127.0.0.1:5000", "m")]


def test_servers_have_names_addresses_and_models_of_their_own() -> None:
    found = plan("m", "--url", "corral=localhost:1", "--url", "https://box/ai/v1#org/m:q4", "--api", "openai")
    assert found.targets == [
        Target("corral", "http://localhost:1", "m", "openai"),
        Target("box:443", "https://box:443/ai/v1", "org/m:q4", "openai"),
    ]
    assert found.rounds == 3


def test_a_plan_is_the_workloads_own_but_for_what_is_said() -> None:
    found = plan("m", "--workload", "prefix", "--seen", "never", "--prompt-tokens", "500", "--clients", "1,8", "--seed", "7")
    assert (found.shape.seen, found.shape.prompt_tokens, found.shape.max_tokens) == ("never", (500,), 32)
    assert found.loads == [Load(clients=1), Load(clients=8)]
    assert (found.seed, found.rounds) == (7, 1)


def test_rates_durations_and_fields_are_read() -> None:
    found = plan(
        "m", "--rate=0.5,2", "--duration", "1m30s", "--timeout", "5", "--header", "Authorization: Bearer x", "--extra-body",
        '{"think": false}',
    )  # fmt: skip
    assert found.loads == [Load(rate=0.5), Load(rate=2.0)]
    assert (found.duration_s, found.timeout_s) == (90, 5)
    assert found.headers == {"Authorization": "Bearer x"}
    assert found.extra_body == {"think": False}


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--clients", "0"], '"0" for "--clients"'),
        (["--clients", "1,1"], '"1,1" for "--clients"'),
        (["--clients", "x"], '"x" for "--clients"'),
        (["--rate", "inf"], '"inf" for "--rate"'),
        (["--rate", "1", "--clients", "2"], "--clients is for a closed loop"),
        (["--rate", "1", "--workload", "long"], "--rate is not for the workload 'long'"),
        (["--workload", "turns", "--requests", "9"], "--conversations times --turns"),
        (["--workload", "embed", "--endpoint", "generate"], "--endpoint is not for the workload 'embed'"),
        (["--workload", "embed", "--max-tokens", "9"], "--max-tokens is not for the workload 'embed'"),
        (["--texts", "3"], "--texts is not for the workload 'chat'"),
        (["--seen", "never"], "--seen is not for the workload 'chat'"),
        (["--workload", "long", "--prompt-tokens", "1,2"], "takes one number"),
        (["--duration", "5 parsecs"], '"5 parsecs" for "--duration"'),
        (["--duration", "-5s"], "must not be negative"),
        (["--header", "no colon"], '"no colon" for "--header"'),
        (["--header", "A: b\nC: d"], "--header"),
        (["--extra-body", "[1]"], "must be a JSON object"),
        (["--extra-body", "{"], '"{" for "--extra-body"'),
        (["--workload", "json", "--schema", "/nowhere"], "cannot read /nowhere"),
        (["--url", "a=ftp://x"], "neither http nor https"),
        (["--url", "http://x:1", "--url", "http://x:1"], "have the same name"),
        (["--url", "http://x:99999"], "invalid host"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_measured(args: list[str], says: str) -> None:
    with pytest.raises(BadRequestError, match=re.escape(says)):
        plan("m", *args)


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    assert writable("--json", "") is None
    assert writable("--json", str(tmp_path / "new.json")) == tmp_path / "new.json"
    assert not (tmp_path / "new.json").exists()
    for path in (tmp_path, tmp_path / "none" / "x.json"):
        with pytest.raises(UsageError, match="no file can be written there"):
            writable("--json", str(path))
