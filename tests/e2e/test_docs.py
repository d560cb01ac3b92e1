"""What the documents say is true: their examples run, their help texts are the program's, their lists are complete."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from corral.cli import main as cli
from corral.cli.serve import SETTINGS
from tests.support.process import CORRAL, ROOT, Server, environment

WRITTEN_URL = "http://localhost:11434"
RUNNABLE = {"sh", "python", "js"}
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    language: str
    text: str
    line: int


def blocks(path: Path) -> Iterator[Block]:
    text = path.read_text()
    for found in _FENCE.finditer(text):
        yield Block(found[1], found[2], text.count("\n", 0, found.start()) + 1)


def runnable(path: Path) -> list[Block]:
    return [block for block in blocks(path) if block.language in RUNNABLE]


DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WITH_EXAMPLES = [path for path in DOCUMENTS if runnable(path)]


def run(block: Block, server: Server) -> subprocess.CompletedProcess[str]:
    """Runs an example as it stands, with this server's address in place of the usual one."""
    text = block.text.replace(WRITTEN_URL, server.url)
    if block.language == "python":
        command = [sys.executable, "-c", text]
    elif block.language == "js":
        command = ["node", "--input-type=module", "-e", text]
    else:
        command = ["sh", "-c", re.sub(r"^curl ", "curl --silent --show-error ", text)]
    return subprocess.run(command, env=server.env(), capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.name)
def test_examples_of_the_documents_run(path: Path, smollm2_server: Server) -> None:
    for block in runnable(path):
        if block.language == "js" and not shutil.which("node") and not os.environ.get("CI"):
            pytest.skip("Node.js is not installed")
        done = run(block, smollm2_server)
        where = f"{path.name}:{block.line}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == 0, where
        assert '"error"' not in done.stdout.replace('"error":null', ""), where
        if "tokens per second" in block.text:
            assert re.search(r"^\d+\.\d+ s in all, \d+ tokens\n\d+\.\d+ tokens per second$", done.stdout, re.MULTILINE), where


def test_help_in_the_documents_is_the_programs() -> None:
    shown = [block.text for block in blocks(ROOT / "docs" / "cli.md") if block.language == "text"]
    commands = [text.split("\n", 1)[0].removeprefix("$ corral ") for text in shown]
    assert {command.removesuffix("--help").strip() for command in commands} == {"", *cli.COMMANDS}
    for command, text in zip(commands, shown, strict=True):
        done = subprocess.run([*CORRAL, *command.split()], capture_output=True, text=True, check=True)
        assert text == f"$ corral {command}\n{done.stdout}", f"docs/cli.md: paste the output of corral {command}"


def test_configuration_names_every_setting() -> None:
    named = set(re.findall(r"^\| `OLLAMA_(\w+)`", (ROOT / "docs" / "configuration.md").read_text(), re.MULTILINE))
    assert named == {*SETTINGS, "NOHISTORY", "EDITOR"}


def test_links_between_the_documents_lead_somewhere() -> None:
    for path in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_start_passes_its_arguments_on_and_is_quick(tmp_path: Path) -> None:
    if not (ROOT / ".venv" / "corral-stamp.json").exists() and not os.environ.get("CI"):
        pytest.skip("this environment was not made by ./start or ./check")
    done = subprocess.run(
        [str(ROOT / "start"), "help", "run"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
        cwd=tmp_path,
    )
    assert done.stdout.startswith("Run a model\n")
    assert done.stderr == ""
