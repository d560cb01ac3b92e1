"""Programs for Node.js that use packages from npm, which are installed once, beside the development environment."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

_PACKAGES: Final = Path(__file__).parents[2] / ".venv" / "npm"
_TIMEOUT_S: Final = 100


def run_node(program: str, *packages: str) -> str:
    """What the program, an ES module, writes. Packages are named with their version: "openai@6"."""
    for tool in ("node", "npm"):
        if not shutil.which(tool) and not os.environ.get("CI"):
            pytest.skip(f"{tool} is not installed")
    folder = _PACKAGES / "_".join(packages)
    if not (folder / "installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _done(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), *packages], folder)
        (folder / "installed").touch()
    return _done(["node", "--input-type=module", "-e", program], folder)


def _done(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    assert done.returncode == 0, f"{command[0]} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout
