"""Every command against a real server: what it prints, on which stream, and its exit code, as `cli.txt` has it.

A case there is `$ corral …`, its stdout, `--- stderr` and what it has, `--- exit N`. The cases run in order, on one server.
Words after the exit code say that Ollama's command line does something else there; docs/parity-cli.md says why.
`<id>`, `<size>`, `<time>` and so on stand for what is another each time; in their lines the width of columns is free.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from corral import __version__
from corral.cli import main as cli
from tests.support.gguf_bert import random_bert, write_bert
from tests.support.process import HELLO, ROOT, Ran, Server, run_corral, serving

TRANSCRIPT = Path(__file__).with_name("cli.txt")
PARITY = ROOT / "docs" / "parity-cli.md"
THOUGHT = "<think>\nThe user greets me. I answer in one word.\n</think>\n\nHello!"
_END = re.compile(r"--- exit (\d+)(?: · (.+))?\n")
_MASKS = (
    (re.compile(r"/\S*/blobs/sha256-[0-9a-f]{64}"), "<blob>"),
    (re.compile(r"sha256:[0-9a-f]{64}"), "<digest>"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "<id>"),
    (re.compile(r"(?:Less than a second|About a minute|\d+ \w+) (?:ago|from now)"), "<time>"),
    (re.compile(r"\b\d+(?:\.\d+)? [KMG]?B\b"), "<size>"),
    (re.compile(r"(?<= )(?:\d+(?:\.\d+)?(?:h|m|s|ms|µs|ns))+$", re.MULTILINE), "<duration>"),
    (re.compile(r"\d+\.\d+ tokens/s"), "<rate>"),
    (re.compile(r"(?<=[\[,])-?\d\.\d+(?:e-\d+)?(?=[],])"), "<float>"),
    (re.compile(r"(?<=: )dial tcp.*"), "<why>"),
    (re.compile(r"http://127\.0\.0\.1:\d{4,}"), "<url>"),
    (re.compile(rf"(?<= ){re.escape(__version__)}$", re.MULTILINE), "<version>"),
    (re.compile(r"^prompt eval cached:.*\n", re.MULTILINE), ""),
)
_FREE = re.compile(r"^NAME |<(?:id|size|blob)>")


@dataclass(frozen=True, slots=True)
class Case:
    command: str
    ran: Ran
    reason: str = ""


def cases(text: str) -> Iterator[Case]:
    at = 0
    while end := _END.search(text, at):
        head, _, shown = text[at : end.start()].lstrip("\n").partition("\n")
        out, _, err = shown.partition("--- stderr\n")
        yield Case(head.removeprefix("$ corral").strip(), Ran(int(end[1]), out, err), end[2] or "")
        at = end.end()


def masked(text: str, folder: Path) -> str:
    text = text.replace(str(folder), "<folder>")
    for pattern, name in _MASKS:
        text = pattern.sub(name, text)
    return "".join(re.sub(" {2,}", "  ", line) if _FREE.search(line) else line for line in text.splitlines(keepends=True))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server with models of our own that stand for those of the recording, and a folder with a Modelfile."""
    folder = tmp_path_factory.mktemp("models")
    with serving(folder / "home") as server:
        server.add_scripted("hello", HELLO, folder)
        server.add_scripted("thinker", THOUGHT, folder)
        server.add(write_bert(folder / "minilm.gguf", random_bert()), "minilm")
        mario = {
            "model": "mario",
            "from": "hello",
            "system": "You are Mario.",
            "template": "{{ .System }}|{{ .Prompt }}|",
            "parameters": {"temperature": 0.5, "num_ctx": 1024, "stop": ["a", "b"]},
            "license": ["MIT", "Apache"],
            "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "it's me"}],
        }
        assert server.call("POST", "/api/create", mario | {"stream": False})[0] == 200
        (folder / "Modelfile").write_text("FROM ./hello.gguf\nSYSTEM You are Luigi.\nPARAMETER temperature 0.7\n")
        yield server, folder


@pytest.mark.timeout(180)
def test_every_command_answers_as_written_down(models: tuple[Server, Path]) -> None:
    server, folder = models
    wrong: list[str] = []
    for case in cases(TRANSCRIPT.read_text()):
        ran = run_corral(server, *shlex.split(case.command.replace("<folder>", str(folder))))
        got = Ran(ran.code, masked(ran.out, folder), masked(ran.err, folder))
        if got != case.ran:
            wrong.append(f"corral {case.command}\n  want {case.ran}\n  got  {got}")
    assert not wrong, "\n".join(wrong)


def test_every_command_is_written_down() -> None:
    told = {word for case in cases(TRANSCRIPT.read_text()) for word in case.command.split(maxsplit=1)[:1]}
    told = {cli.ALIASES.get(word, word) for word in told}
    assert told >= {*cli.COMMANDS, *cli.ABSENT} - {"serve"}


def test_every_difference_has_its_row_in_the_documents() -> None:
    first = [row.split("|")[1] for row in PARITY.read_text().splitlines() if row.startswith("| `corral")]
    named = {name for cell in first for name in re.findall(r"`([^`]+)`", cell)}
    assert {case.reason for case in cases(TRANSCRIPT.read_text()) if case.reason} <= named
