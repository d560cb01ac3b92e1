"""`corral create`, `du` and `prune` against the whole server on a port: output, exit codes, and what the store has after it."""

import hashlib
import io
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from corral.cli.main import main
from corral.store import Store
from tests.contract.conftest import LiveServer
from tests.support.gguf_files import write_scripted
from tests.support.stores import add_model


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def corral(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command line in this process, with its streams caught."""

    def run(*args: str, stdin: bytes = b"") -> Ran:
        out, err = io.StringIO(), io.StringIO()
        with monkeypatch.context() as patch:
            for name, stream in (("stdin", io.TextIOWrapper(io.BytesIO(stdin))), ("stdout", out), ("stderr", err)):
                patch.setattr(sys, name, stream)
            code = main(list(args))
        return Ran(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def here(tmp_path: Path, live_server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the commands run in."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OLLAMA_HOST", live_server.url)
    return folder


def show(server: LiveServer, name: str) -> dict[str, object]:
    reply = httpx.post(f"{server.url}/api/show", json={"model": name})
    assert reply.status_code == 200, reply.text
    shown: dict[str, object] = reply.json()
    return shown


def digest_of(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_model_is_made_of_a_modelfile(corral: Run, here: Path, live_server: LiveServer) -> None:
    gguf = write_scripted(here / "a.gguf", "A.")
    (here / "Modelfile").write_text(
        'from ./a.gguf\nTEMPLATE """{{ .System }}|\n{{ .Prompt }}"""\nSYSTEM You are Mario.\nPARAMETER stop a\n'
        "PARAMETER stop b\nPARAMETER temperature 0.5\nLICENSE MIT\nMESSAGE user hi\nMESSAGE assistant it's me\n"
    )
    ran = corral("create", "mario")
    assert (ran.code, ran.out) == (0, "")
    lines = ran.err.splitlines()
    assert lines[0] == "gathering model components"
    assert f"creating new layer {digest_of(gguf)}" in lines
    assert lines[-2:] == ["writing manifest", "success"]
    shown = show(live_server, "mario")
    assert (shown["system"], shown["license"]) == ("You are Mario.", "MIT")
    assert shown["template"] == "{{ .System }}|\n{{ .Prompt }}"
    assert str(shown["parameters"]).split() == ["stop", '"a"', "stop", '"b"', "temperature", "0.5"]
    assert shown["messages"] == [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "it's me"}]


def test_what_show_prints_makes_the_same_model(corral: Run, here: Path, live_server: LiveServer, tmp_path: Path) -> None:
    write_scripted(here / "a.gguf", "A.")
    (here / "m").write_text('FROM a.gguf\nSYSTEM <<X\n"""\n doc """\nX\nPARAMETER num_ctx 512\nLICENSE """a "b"\nc"""\n')
    assert corral("create", "one", "-f", "m").code == 0
    (here / "again").write_text(corral("show", "--modelfile", "one").out)
    ran = corral("create", "two", "--file=again")
    assert ran.code == 0, ran.err
    one, two = (show(live_server, name) for name in ("one", "two"))
    for field in ("system", "license", "parameters", "template"):
        assert one[field] == two[field]
    assert one["system"] == '"""\n doc """'


def test_gguf_of_this_machine_is_not_copied(corral: Run, here: Path, tmp_path: Path) -> None:
    gguf = write_scripted(here / "näme with space.gguf", "A.")
    gguf.chmod(0o644)
    (here / "Modelfile").write_text("FROM näme with space.gguf")
    ran = corral("create", "a")
    assert ran.code == 0, ran.err
    blob = tmp_path / "models" / "blobs" / digest_of(gguf).replace(":", "-")
    assert blob.stat().st_nlink == gguf.stat().st_nlink
    assert "linking file näme with space.gguf" in ran.err
    gguf.chmod(0o666)  # a file that others may write is copied
    assert corral("rm", "a").code == 0
    assert corral("create", "a").code == 0
    assert gguf.stat().st_ino != blob.stat().st_ino


def test_file_is_uploaded_to_a_server_elsewhere(
    corral: Run, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gguf = write_scripted(here / "a.gguf", "A.")
    (here / "Modelfile").write_text("FROM a.gguf")
    monkeypatch.setattr("corral.cli.client.Client.is_here", False)
    ran = corral("create", "a")
    assert ran.code == 0, ran.err
    assert "linking" not in ran.err
    blob = tmp_path / "models" / "blobs" / digest_of(gguf).replace(":", "-")
    assert blob.read_bytes() == gguf.read_bytes()
    assert (blob.stat().st_nlink, gguf.stat().st_nlink) == (1, 1)


def test_server_that_does_not_take_the_path_gets_an_upload(corral: Run, here: Path, tmp_path: Path) -> None:
    gguf = write_scripted(here / "a.gguf", "A.")
    (here / "Modelfile").write_text("FROM a.gguf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("corral.cli.create.quote", lambda _: str(tmp_path / "unseen" / "a.gguf"))
        ran = corral("create", "a")
    assert ran.code == 0, ran.err
    blob = tmp_path / "models" / "blobs" / digest_of(gguf).replace(":", "-")
    assert blob.read_bytes() == gguf.read_bytes()


def test_modelfile_is_read_from_standard_input(corral: Run, here: Path, live_server: LiveServer) -> None:
    ran = corral("create", "b", "-f", "-", stdin=b"\xff\xfe" + "FROM hello\nSYSTEM Grüße".encode("utf-16-le"))
    assert ran.code == 0, ran.err
    assert show(live_server, "b")["system"] == "Grüße"


def test_folder_without_modelfile_is_the_model(corral: Run, here: Path, live_server: LiveServer) -> None:
    write_scripted(here / "a.gguf", "A.")
    assert corral("create", "a").code == 0
    assert "system" not in show(live_server, "a")


@pytest.mark.parametrize(
    ("modelfile", "args", "error"),
    [
        (None, [], "no Modelfile or safetensors files found"),
        (None, ["-f", "nope"], "specified Modelfile wasn't found: {here}/nope"),
        ("SYSTEM x", [], "no FROM line"),
        ("FROM hello\nBAD x", [], '(line 2): command must be one of "from", "license",'),
        ("FROM hello\nPARAMETER wings 2", [], "unknown parameter 'wings' (line 2)"),
        ("FROM hello\nMESSAGE bird hi", [], '(line 2): message role must be one of "system", "user", or "assistant"'),
        ("FROM hello\nTEMPLATE {{ .Nope", [], "400 Bad Request: template error: "),
        ("FROM ./missing.gguf", [], "{here}/missing.gguf: No such file or directory"),
        ("FROM hello", ["--draft-quantize", "q4_0"], "--draft-quantize requires a DRAFT model"),
        ("FROM hello", ["-q", "q99"], "400 Bad Request: unsupported quantization type Q99"),
        ("FROM hello\nADAPTER ./Modelfile", [], "400 Bad Request: "),
    ],
    ids=["nothing", "no file", "no FROM", "command", "parameter", "role", "template", "path", "draft", "quantize", "adapter"],
)
def test_error_is_told_and_nothing_is_made(
    corral: Run, here: Path, live_server: LiveServer, modelfile: str | None, args: list[str], error: str
) -> None:
    if modelfile is not None:
        (here / "Modelfile").write_text(modelfile)
    ran = corral("create", "x", *args)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.splitlines()[-1].startswith("Error: " + error.format(here=here)), ran.err
    assert httpx.post(f"{live_server.url}/api/show", json={"model": "x"}).status_code == 404


def test_name_and_flags_are_looked_at_first(corral: Run, here: Path) -> None:
    assert corral("create", "../x") == Ran(1, "", "Error: invalid model name\n")
    assert corral("create") == Ran(1, "", "Error: accepts 1 arg(s), received 0\n")
    write_scripted(here / "a.gguf", "A.")
    ran = corral("create", "x", "-f", "a.gguf")
    assert (ran.code, ran.err) == (1, f"Error: {here}/a.gguf is no Modelfile; write one with the line FROM {here}/a.gguf\n")


def test_help_is_ollamas(corral: Run) -> None:
    ran = corral("create", "--help")
    assert ran.code == 0
    for line in (
        "      --draft-quantize string   Quantize draft model to this level",
        '  -f, --file string             Name of the Modelfile (default "Modelfile")',
        "  -q, --quantize string         Quantize model to this level (e.g. q4_K_M)",
    ):
        assert line in ran.out.splitlines()


def test_deprecated_parameter_is_told_and_left_out(corral: Run, here: Path, live_server: LiveServer) -> None:
    (here / "Modelfile").write_text("FROM hello\nPARAMETER low_vram true\nPARAMETER seed 4")
    ran = corral("create", "x")
    assert ran.code == 0
    assert ran.err.startswith("warning: parameter low_vram is deprecated\n")
    assert str(show(live_server, "x")["parameters"]).split() == ["seed", "4"]


# The care of the store


def test_du_says_what_models_take(corral: Run, here: Path, tmp_path: Path) -> None:
    (tmp_path / "models/blobs" / ("sha256-" + "a" * 64 + "-partial")).write_bytes(b"x" * 5_000_000)
    corral("cp", "hello", "other")
    ran = corral("du")
    assert (ran.code, ran.err) == (0, "")
    rows = [line.split() for line in ran.out.splitlines()]
    assert rows[0] == ["NAME", "ALONE", "SHARED"]
    assert {rows[1][0], rows[2][0]} == {"hello:latest", "other:latest"}
    assert rows[1][1:3] == ["0", "B"]
    assert ["interrupted", "downloads", "5", "MB"] in rows
    assert rows[4][0] == str(tmp_path / "models")


def test_prune_removes_only_what_it_may(corral: Run, here: Path, tmp_path: Path) -> None:
    blobs = tmp_path / "models" / "blobs"
    young = blobs / ("sha256-" + "b" * 64)
    young.write_bytes(b"x" * 2000)
    dead = blobs / ".tmp-dead"
    dead.write_bytes(b"y" * 3_000_000)
    os.utime(dead, (0, 0))
    part = blobs / ("sha256-" + "a" * 64 + "-partial")
    part.write_bytes(b"z" * 4000)
    told = corral("prune", "--dry-run")
    assert (told.code, told.out.splitlines()[:2]) == (0, ["would remove blobs/.tmp-dead (3 MB)", "3 MB would be free"])
    assert dead.exists()
    ran = corral("prune")
    assert ran.out.splitlines() == [
        "removed blobs/.tmp-dead (3 MB)",
        "3 MB freed",
        "kept 2 KB of unused blobs, which somebody may still be about to use",
        "kept 4 KB of interrupted downloads; --partials removes them",
    ]
    assert young.exists()
    assert part.exists()
    assert "removed blobs/sha256-" in corral("prune", "--partials").out
    assert not part.exists()
    assert corral("ls").out.count("\n") == 2


def test_damaged_model_is_named_by_ls_show_du_and_prune(corral: Run, here: Path, tmp_path: Path) -> None:
    corral("cp", "hello", "other")
    (tmp_path / "models/manifests/registry.ollama.ai/library/other/latest").write_text('{"half')
    ran = corral("ls")
    assert (ran.code, ran.out.count("\n")) == (0, 2)
    assert ran.err.startswith("Warning: model 'other:latest' has a damaged manifest: ")
    ran = corral("show", "other")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("Error: model 'other:latest' has a damaged manifest: ")
    assert "'other:latest'" in corral("du").err
    assert "all blobs were kept" in corral("prune").err
    assert corral("rm", "other").code == 0
    assert corral("ls").err == ""


def test_du_and_prune_work_without_a_server(corral: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "models")
    add_model(store, "m", write_scripted(tmp_path / "a.gguf", "x"))
    dead = store.root / "blobs" / ".tmp-dead"
    dead.write_bytes(b"y" * 3_000_000)
    os.utime(dead, (time.time() - 7200,) * 2)
    monkeypatch.setenv("CORRAL_MODELS", str(store.root))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    assert corral("du").out.splitlines()[1].startswith("m:latest")
    assert corral("prune").out == "removed blobs/.tmp-dead (3 MB)\n3 MB freed\n"
    monkeypatch.setenv("OLLAMA_HOST", "192.0.2.1:9")
    monkeypatch.setattr("corral.cli.client.CONNECT_TIMEOUT_S", 0.01)
    ran = corral("prune")
    assert (ran.code, ran.out) == (1, "")
    assert "could not connect" in ran.err
