"""The command line against a server that gives set answers: output, stderr and exit codes as Ollama's CLI has them."""

import io
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from corral import __version__
from corral.cli.main import main
from corral.core.units import rfc3339
from tests.support.stub_server import Reply, Stub, stub_server


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    with stub_server() as stub:
        monkeypatch.setenv("OLLAMA_HOST", stub.url)
        yield stub


@pytest.fixture
def corral(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command line in this process, with its streams caught."""

    def run(*args: str, stdin: str = "") -> Ran:
        out, err = io.StringIO(), io.StringIO()
        with monkeypatch.context() as patch:
            for name, stream in (("stdin", io.StringIO(stdin)), ("stdout", out), ("stderr", err)):
                patch.setattr(sys, name, stream)
            code = main(list(args))
        return Ran(code, out.getvalue(), err.getvalue())

    return run


def ago(**parts: float) -> str:
    return rfc3339(datetime.now(UTC) - timedelta(**parts))


def model(name: str, size: int, digit: str, **more: object) -> dict[str, object]:
    return {"name": name, "model": name, "size": size, "digest": digit * 64, "modified_at": ago(minutes=7.5), **more}


def tags() -> Reply:
    return Reply({"models": [model("smollm2:135m", 98_362_745, "a"), model("Hello:latest", 2_760_085, "b")]})


FOREVER = "2318-01-01T00:00:00Z"
CARD = {"details": {"family": "llama"}, "capabilities": ["completion"], "model_info": {}}
ANSWER: list[dict[str, object]] = [
    {"model": "hello", "response": "Hello, ", "done": False},
    {"model": "hello", "response": "you.", "done": False},
    {"model": "hello", "response": "", "done": True, "done_reason": "stop", "total_duration": 7_820_133, "eval_count": 2},
]
MISSING = Reply({"error": "model 'nope:latest' not found"}, status=404)


def test_ls_prints_a_table(corral: Run, stub: Stub) -> None:
    stub.answer("GET", "/api/tags", tags())
    assert corral("ls") == Ran(
        0,
        "NAME            ID              SIZE      MODIFIED\n"
        "smollm2:135m    aaaaaaaaaaaa    98 MB     7 minutes ago\n"
        "Hello:latest    bbbbbbbbbbbb    2.8 MB    7 minutes ago\n",
        "",
    )


def test_ls_takes_a_prefix_in_any_case(corral: Run, stub: Stub) -> None:
    stub.answer("GET", "/api/tags", tags())
    assert corral("list", "hel").out.splitlines()[1:] == ["Hello:latest    bbbbbbbbbbbb    2.8 MB    7 minutes ago"]
    assert corral("ls", "zzz").out == "NAME    ID    SIZE    MODIFIED\n"


def running(name: str, vram: int, expires_at: str) -> dict[str, object]:
    return model(name, 100, "c", size_vram=vram, context_length=4096, expires_at=expires_at)


def test_ps_tells_where_a_model_is_and_until_when(corral: Run, stub: Stub) -> None:
    stub.answer(
        "GET",
        "/api/ps",
        Reply(
            {
                "models": [
                    running("a:1", 0, ago(minutes=-4.5)),
                    running("b:1", 52, FOREVER),
                    running("c:1", 100, ago(seconds=1)),
                ]
            }
        ),
    )
    assert corral("ps").out == (
        "NAME    ID              SIZE     PROCESSOR          CONTEXT    UNTIL\n"
        "a:1     cccccccccccc    100 B    100% CPU           4096       4 minutes from now\n"
        "b:1     cccccccccccc    100 B    48%/52% CPU/GPU    4096       Forever\n"
        "c:1     cccccccccccc    100 B    100% GPU           4096       Stopping...\n"
    )


@pytest.mark.parametrize(
    ("part", "out"),
    [
        ("license", "MIT\nApache\n"),
        ("modelfile", "FROM x\n\n"),
        ("parameters", "num_ctx    1\n"),
        ("system", "You are Mario."),
        ("template", "{{ .Prompt }}"),
    ],
)
def test_show_prints_one_part_as_it_is(corral: Run, stub: Stub, part: str, out: str) -> None:
    texts = {
        "license": "MIT\nApache",
        "modelfile": "FROM x\n",
        "parameters": "num_ctx    1",
        "system": "You are Mario.",
        "template": "{{ .Prompt }}",
    }
    stub.answer("POST", "/api/show", Reply(CARD | texts))
    assert corral("show", "mario", f"--{part}") == Ran(0, out, "")


def test_show_refuses_two_parts_and_a_missing_model(corral: Run, stub: Stub) -> None:
    stub.answer("POST", "/api/show", MISSING)
    only_one = "Error: only one of '--license', '--modelfile', '--parameters', '--system', or '--template' can be specified\n"
    assert corral("show", "mario", "--system", "--license") == Ran(1, "", only_one)
    assert corral("show", "nope") == Ran(1, "", "Error: model 'nope:latest' not found\n")


def test_run_streams_one_answer(corral: Run, stub: Stub) -> None:
    stub.answer("POST", "/api/show", Reply(CARD))
    stub.answer("POST", "/api/generate", Reply(lines=ANSWER))
    assert corral("run", "hello", "hi", "there") == Ran(0, "Hello, you.\n\n", "")
    assert stub.bodies("/api/generate") == [{"model": "hello", "stream": True, "prompt": "hi there"}]


def test_run_puts_the_pipe_before_the_prompt(corral: Run, stub: Stub) -> None:
    stub.answer("POST", "/api/show", Reply(CARD))
    stub.answer("POST", "/api/generate", Reply(lines=ANSWER))
    corral("run", "hello", "Sum it up.", stdin="A long text.\n")
    corral("run", "hello", stdin="Only this.")
    prompts = [body["prompt"] for body in stub.bodies("/api/generate") if body]
    assert prompts == ["A long text.\n Sum it up.", "Only this."]


def test_run_passes_its_flags_on(corral: Run, stub: Stub) -> None:
    stub.answer("POST", "/api/show", Reply(CARD))
    stub.answer("POST", "/api/generate", Reply(lines=ANSWER))
    corral("run", "hello", "hi", "--format", "json", "--keepalive", "10m", "--think=false", "--nowordwrap")
    corral("run", "hello", "hi", "--format", '{"type": "object"}', "--think")
    first, second = stub.bodies("/api/generate")
    shared = {"model": "hello", "stream": True, "prompt": "hi"}
    assert first == shared | {"format": "json", "keep_alive": "10m", "think": False}
    assert second == shared | {"format": {"type": "object"}, "think": True}


def test_run_verbose_prints_timings_on_stderr(corral: Run, stub: Stub) -> None:
    stub.answer("POST", "/api/show", Reply(CARD))
    stub.answer("POST", "/api/generate", Reply(lines=ANSWER))
    ran = corral("run", "hello", "hi", "--verbose")
    assert (ran.out, ran.err) == ("Hello, you.\n\n", "total duration:       7.820133ms\neval count:           2 token(s)\n")


def test_run_pulls_a_missing_model_first(corral: Run, stub: Stub) -> None:
    stub.answer("POST", "/api/show", MISSING, Reply(CARD))
    stub.answer("POST", "/api/pull", Reply(lines=[{"status": "pulling manifest"}, {"status": "success"}]))
    stub.answer("POST", "/api/generate", Reply(lines=ANSWER))
    assert corral("run", "hello", "hi") == Ran(0, "Hello, you.\n\n", "pulling manifest\nsuccess\n")


def test_run_shows_why_a_pull_failed(corral: Run, stub: Stub) -> None:
    stub.answer("POST", "/api/show", MISSING)
    lines = [{"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"}]
    stub.answer("POST", "/api/pull", Reply(lines=lines))
    assert corral("run", "nope", "hi") == Ran(1, "", "pulling manifest\nError: pull model manifest: file does not exist\n")


@pytest.mark.parametrize(
    ("args", "text"),
    [
        pytest.param(["--keepalive", "soon"], 'time: invalid duration "soon"', id="keepalive"),
        pytest.param(
            ["--think=why"], 'invalid value for --think: "why" (must be true, false, high, medium, low, or max)', id="think"
        ),
    ],
)
def test_run_refuses_a_bad_flag_before_it_asks(corral: Run, stub: Stub, args: list[str], text: str) -> None:
    assert corral("run", "hello", "hi", *args) == Ran(1, "", f"Error: {text}\n")
    assert stub.asked == []


def test_run_puts_the_status_before_a_refusal(corral: Run, stub: Stub) -> None:
    stub.answer("POST", "/api/show", Reply(CARD))
    stub.answer("POST", "/api/generate", Reply({"error": '"hello" does not support thinking'}, status=400))
    assert corral("run", "hello", "hi", "--think") == Ran(1, "", 'Error: 400 Bad Request: "hello" does not support thinking\n')


def test_run_keeps_what_came_before_an_error_line(corral: Run, stub: Stub) -> None:
    stub.answer("POST", "/api/show", Reply(CARD))
    stub.answer("POST", "/api/generate", Reply(lines=[ANSWER[0], {"error": "unexpected EOF"}]))
    assert corral("run", "hello", "hi") == Ran(1, "Hello, ", "Error: unexpected EOF\n")


def test_run_says_so_when_the_server_dies_in_mid_answer(corral: Run, stub: Stub) -> None:
    stub.answer("POST", "/api/show", Reply(CARD))
    stub.answer("POST", "/api/generate", Reply(lines=ANSWER[:1], is_cut=True))
    ran = corral("run", "hello", "hi")
    assert (ran.code, ran.out) == (1, "Hello, ")
    assert ran.err == f"Error: the server at {stub.url} broke off its answer (connection closed)\n"


def test_pull_prints_each_status(corral: Run, stub: Stub) -> None:
    layer: dict[str, object] = {"status": "pulling 941f309b54ca", "digest": "sha256:941f309b54ca", "total": 1000}
    lines: list[dict[str, object]] = [{"status": "pulling manifest"}, layer, layer | {"completed": 1000}, {"status": "success"}]
    stub.answer("POST", "/api/pull", Reply(lines=lines))
    assert corral("pull", "x", "--insecure").err.splitlines() == [
        "pulling manifest",
        "pulling 941f309b54ca: 0% of 1 KB",
        "pulling 941f309b54ca: 100% of 1 KB",
        "success",
    ]
    assert stub.bodies("/api/pull") == [{"model": "x", "insecure": True, "stream": True}]


def test_pull_of_a_malformed_name_fails_with_the_status(corral: Run, stub: Stub) -> None:
    stub.answer("POST", "/api/pull", Reply({"error": "invalid model name"}, status=400))
    assert corral("pull", "../x") == Ran(1, "", "Error: 400 Bad Request: invalid model name\n")


def test_stop_unloads(corral: Run, stub: Stub) -> None:
    stub.answer("POST", "/api/generate", Reply({"done": True, "done_reason": "unload"}))
    assert corral("stop", "hello") == Ran(0, "", "")
    assert stub.bodies("/api/generate") == [{"model": "hello", "keep_alive": 0, "stream": False}]


def test_stop_of_an_unknown_model_fails(corral: Run, stub: Stub) -> None:
    stub.answer("POST", "/api/generate", MISSING)
    assert corral("stop", "nope") == Ran(1, "", 'Error: couldn\'t find model "nope" to stop\n')


def test_rm_stops_and_deletes_each(corral: Run, stub: Stub) -> None:
    stub.answer("POST", "/api/generate", Reply({"done": True}))
    stub.answer("DELETE", "/api/delete", Reply())
    assert corral("rm", "a", "b") == Ran(0, "deleted 'a'\ndeleted 'b'\n", "")
    assert [(method, path) for method, path, _ in stub.asked] == [("POST", "/api/generate"), ("DELETE", "/api/delete")] * 2


@pytest.mark.parametrize(
    ("loaded", "warning"),
    [([], ""), ([running("a:latest", 0, FOREVER)], "Warning: unable to stop model 'a': its files are damaged\n")],
    ids=["not loaded", "loaded"],
)
def test_rm_of_a_damaged_model_speaks_of_stopping_only_where_it_runs(
    corral: Run, stub: Stub, loaded: list[dict[str, object]], warning: str
) -> None:
    stub.answer("POST", "/api/generate", Reply({"error": "its files are damaged"}, status=500))
    stub.answer("GET", "/api/ps", Reply({"models": loaded}))
    stub.answer("DELETE", "/api/delete", Reply())
    assert corral("rm", "a") == Ran(0, "deleted 'a'\n", warning)


def test_rm_goes_on_after_one_that_is_missing(corral: Run, stub: Stub) -> None:
    stub.answer("POST", "/api/generate", MISSING, Reply({"done": True}))
    stub.answer("GET", "/api/ps", Reply({"models": []}))
    stub.answer("DELETE", "/api/delete", Reply({"error": "model 'nope' not found"}, status=404), Reply())
    assert corral("rm", "nope", "b") == Ran(1, "deleted 'b'\n", "Error: model 'nope' not found\n")


def test_cp_copies(corral: Run, stub: Stub) -> None:
    stub.answer("POST", "/api/copy", Reply(), Reply({"error": 'model "nope" not found'}, status=404))
    assert corral("cp", "a", "b") == Ran(0, "copied 'a' to 'b'\n", "")
    assert corral("cp", "nope", "b") == Ran(1, "", 'Error: model "nope" not found\n')
    assert stub.bodies("/api/copy")[0] == {"source": "a", "destination": "b"}


EMBEDDER = CARD | {"capabilities": ["embedding"]}


def test_run_of_an_embedding_model_prints_the_vector(corral: Run, stub: Stub) -> None:
    stub.answer("POST", "/api/show", Reply(EMBEDDER))
    stub.answer("POST", "/api/embed", Reply({"embeddings": [[-0.7685374, 0.343075, 1e-07]]}))
    assert corral("run", "e", "hi", "--dimensions", "3") == Ran(0, "[-0.7685374,0.343075,1e-07]\n", "")
    corral("run", "e", "--truncate=false", "--keepalive", "1m", stdin="hi")
    first, second = stub.bodies("/api/embed")
    assert first == {"model": "e", "input": "hi", "dimensions": 3}
    assert second == {"model": "e", "input": "hi", "truncate": False, "keep_alive": "1m"}


def test_run_of_an_embedding_model_wants_a_text(corral: Run, stub: Stub) -> None:
    stub.answer("POST", "/api/show", Reply(EMBEDDER))
    ran = corral("run", "e")
    assert ran == Ran(1, "", 'Error: embedding models require input text. Usage: corral run e "your text here"\n')


@pytest.mark.parametrize("flag", ["--dimensions=3", "--truncate"])
def test_run_refuses_flags_that_would_do_nothing(corral: Run, stub: Stub, flag: str) -> None:
    stub.answer("POST", "/api/show", Reply(CARD))
    assert corral("run", "m", "hi", flag).err == (
        'Error: --dimensions and --truncate are for embedding models, and "m" is none\n'
    )


def test_run_attaches_pictures_for_a_model_that_sees(corral: Run, stub: Stub, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n rest")
    stub.answer("POST", "/api/show", Reply(CARD | {"capabilities": ["completion", "vision"]}))
    stub.answer("POST", "/api/generate", Reply(lines=ANSWER))
    assert corral("run", "m", f"what is '{picture}'?") == Ran(0, "Hello, you.\n\n", f"Added image '{picture}'\n")
    (body,) = stub.bodies("/api/generate")
    assert body == {"model": "m", "stream": True, "prompt": "what is ?", "images": ["iVBORw0KGgogcmVzdA=="]}


def test_run_with_an_empty_prompt_loads_the_model(corral: Run, stub: Stub) -> None:
    stub.answer("POST", "/api/show", Reply(CARD))
    stub.answer("POST", "/api/generate", Reply(lines=[{"response": "", "done": True, "done_reason": "load"}]))
    assert corral("run", "m", "") == Ran(0, "", "")


def test_flags_of_run_may_stand_before_it(corral: Run, stub: Stub) -> None:
    stub.answer("POST", "/api/show", Reply(CARD))
    stub.answer("POST", "/api/generate", Reply(lines=ANSWER))
    assert corral("--verbose", "--nowordwrap", "run", "hello", "hi").err.startswith("total duration: ")
    assert corral("--verbose") == corral("--help")
    assert corral("--verbose", "ls") == Ran(1, "", "Error: unknown flag: --verbose\n")


@pytest.mark.parametrize(
    "args", [["signin"], ["login"], ["signout"], ["logout"], ["launch"], ["launch", "claude", "--model", "x"]]
)
def test_commands_that_corral_has_no_use_for_say_so(corral: Run, stub: Stub, args: list[str]) -> None:
    ran = corral(*args)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("Error: Corral ")
    assert stub.asked == []


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["frobnicate"], 'unknown command "frobnicate" for "corral"'),
        (["run"], "requires at least 1 arg(s), only received 0"),
        (["show"], "accepts 1 arg(s), received 0"),
        (["pull", "a", "b"], "accepts 1 arg(s), received 2"),
        (["--what"], "unknown flag: --what"),
    ],
)
def test_usage_errors_are_ollamas(corral: Run, args: list[str], text: str) -> None:
    assert corral(*args) == Ran(1, "", f"Error: {text}\n")


def test_help_is_the_same_by_every_road(corral: Run) -> None:
    assert corral().out == corral("--help").out == corral("help").out == corral("-h").out
    assert corral("run", "--help") == corral("help", "run") == corral("run", "-h")
    assert corral("run", "--help").out.startswith("Run a model\n\nUsage:\n  corral run MODEL [PROMPT] [flags]\n\nFlags:\n")


@pytest.mark.parametrize(
    ("server", "err"),
    [
        pytest.param({"version": "0.40.12", "corral": __version__}, "", id="the-same"),
        pytest.param({"version": "0.40.12", "corral": "9.9.9"}, "Warning: server version is 9.9.9\n", id="another-version"),
        pytest.param({"version": "0.40.12"}, "Warning: the server at {url} is Ollama 0.40.12\n", id="ollama"),
    ],
)
def test_version_warns_where_the_server_differs(corral: Run, stub: Stub, server: dict[str, object], err: str) -> None:
    stub.answer("GET", "/api/version", Reply(server))
    assert corral("--version") == Ran(0, f"corral version is {__version__}\n", err.format(url=stub.url))


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_without_a_server_every_command_says_how_to_start_one(
    corral: Run, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", f":{closed_port}")
    for args in (
        ["ls"],
        ["ps"],
        ["run", "x", "hi"],
        ["show", "x"],
        ["pull", "x"],
        ["stop", "x"],
        ["cp", "x", "y"],
        ["rm", "x"],
    ):
        ran = corral(*args)
        assert (ran.code, ran.out) == (1, "")
        assert ran.err == (
            f"Error: could not connect to a running corral or ollama server at http://127.0.0.1:{closed_port} "
            "(connection refused); start one with 'corral serve', or name another in OLLAMA_HOST\n"
        )
    assert corral("--version").code == 0


def test_corral_host_wins(corral: Run, stub: Stub, closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRAL_HOST", stub.url)
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{closed_port}")
    stub.answer("GET", "/api/tags", tags())
    assert corral("ls").code == 0


def test_a_server_that_is_none_of_ours_is_named(corral: Run, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", stub.url.replace("http:", "https:"))
    assert "does not speak https" in corral("ls").err


@pytest.mark.parametrize("module", ["models", "running", "show", "run", "pull", "absent", "bench.command"])
def test_commands_import_nothing_heavy(module: str) -> None:
    code = f"import sys, corral.cli.main, corral.cli.{module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"rich", "prompt_toolkit", "asyncio", "msgspec", "aiohttp", "numpy", "starlette", "uvicorn", "corral.app"}
    assert not heavy & set(loaded)


def test_a_command_that_is_nearly_right_is_suggested(corral: Run) -> None:
    assert corral("lst") == Ran(1, "", 'Error: unknown command "lst" for "corral"\n\nDid you mean this?\n\tlist\n\n')


def test_a_model_that_is_nearly_right_is_suggested_below_the_error(stub: Stub, corral: Run) -> None:
    stub.answer("POST", "/api/show", Reply({"error": "model 'smolm2' not found"}, status=404))
    stub.answer("GET", "/api/tags", Reply({"models": [{"name": "smollm2:135m"}]}))
    assert corral("show", "smolm2") == Ran(1, "", "Error: model 'smolm2' not found\nDid you mean \"smollm2:135m\"?\n")


def test_a_model_that_cannot_be_pulled_is_held_against_those_that_are_there(stub: Stub, corral: Run) -> None:
    stub.answer("POST", "/api/show", Reply({"error": "model 'smolm2' not found"}, status=404))
    stub.answer("POST", "/api/pull", Reply(lines=[{"error": "pull model manifest: file does not exist"}]))
    stub.answer("GET", "/api/tags", Reply({"models": [{"name": "smollm2:135m"}]}))
    ran = corral("run", "smolm2", "hi")
    assert (ran.code, ran.err.splitlines()[-1]) == (1, 'Did you mean "smollm2:135m"?')


def test_a_format_may_be_in_a_file(stub: Stub, corral: Run, tmp_path: Path) -> None:
    stub.answer("POST", "/api/show", Reply({"capabilities": ["completion"]}))
    stub.answer("POST", "/api/generate", Reply(lines=[{"response": "x", "done": True}]))
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "integer"}')
    assert corral("run", "--format", str(schema), "m", "hi").code == 0
    assert (stub.bodies("/api/generate")[-1] or {})["format"] == {"type": "integer"}
    schema.write_text("{")
    ran = corral("run", "--format", str(schema), "m", "hi")
    assert (ran.code, ran.err.startswith(f"Error: --format: '{schema}' is no JSON")) == (1, True)
