"""Makes .venv and installs Corral into it; the first half of ./start and ./check.

Runs on a bare Python 3.11 with nothing installed. Owns the choice of the engine's backend (CUDA, ROCm, Vulkan, Metal or this
CPU), the compile of llama-cpp-python, its progress on the screen, and the stamps that make the next run take no time.
All that it says goes to stderr, so that the output of `./start run …` stays clean.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import IO, Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
VENV: Final = ROOT / ".venv"
PYTHON: Final = VENV / "bin" / "python"
STAMP: Final = VENV / "corral-stamp.json"
LOG: Final = VENV / "install.log"
ENGINE: Final = "llama-cpp-python"
PREBUILT_INDEX: Final = "https://abetlen.github.io/llama-cpp-python/whl/"
_COMPILED: Final = re.compile(r"^\s*\[(\d+)/(\d+)\]|^\s*\[\s*(\d+)%\]")
_PHASES: Final = (
    ("Collecting ", "collecting {}"),
    ("Downloading ", "downloading {}"),
    ("Installing build dependencies", "preparing to build"),
    ("Building wheel for ", "building {}"),
    ("Installing collected packages", "installing"),
)


class SetupError(Exception):
    """Set-up cannot go on. The text says what to do."""


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


@dataclass(frozen=True, slots=True)
class Machine:
    """What the choice of a backend asks of a machine; tests pass their own."""

    env: Mapping[str, str]
    system: str = field(default_factory=platform.system)
    find: Callable[[str], str | None] = shutil.which
    has: Callable[[str], bool] = lambda pattern: any(Path("/").glob(pattern.lstrip("/")))

    def find_nvcc(self) -> str | None:
        usual = "/usr/local/cuda/bin/nvcc"
        return self.find("nvcc") or (usual if self.has(usual) else None)


@dataclass(frozen=True, slots=True)
class Backend:
    """What llama.cpp is built for."""

    name: str
    title: str
    cmake_args: str = ""
    note: str = ""
    asked_for: bool = False  # by the user, not found by looking
    index: str = ""  # a folder of prebuilt wheels: nothing is compiled

    @property
    def key(self) -> str:
        return f"{self.name} {self.cmake_args} {self.index}".strip()


BACKENDS: Final[Mapping[str, Backend]] = {
    "cuda": Backend("cuda", "CUDA (NVIDIA)", "-DGGML_CUDA=on"),
    "rocm": Backend("rocm", "ROCm (AMD)", "-DGGML_HIP=on"),
    "vulkan": Backend("vulkan", "Vulkan", "-DGGML_VULKAN=on"),
    "metal": Backend("metal", "Metal (Apple)", "-DGGML_METAL=on"),
    "cpu": Backend("cpu", "this CPU's own instruction set", "-DGGML_NATIVE=on"),
}


def choose_backend(machine: Machine) -> Backend:
    """What CORRAL_PREBUILT, CMAKE_ARGS or CORRAL_BACKEND asks for, else the best that this machine can build and run."""
    env = machine.env
    if prebuilt := env.get("CORRAL_PREBUILT", ""):
        usual = "metal" if machine.system == "Darwin" else "cpu"
        index = usual if prebuilt.lower() in ("1", "true", "yes", "on") else prebuilt
        return Backend("prebuilt", f"prebuilt wheel ({index})", index=index, asked_for=True)
    if args := env.get("CMAKE_ARGS", ""):
        return Backend("custom", f"as CMAKE_ARGS says: {args}", args, asked_for=True)
    if name := env.get("CORRAL_BACKEND", "").lower():
        if name not in BACKENDS:
            raise SetupError(f"CORRAL_BACKEND is {name!r}; it must be one of {', '.join(BACKENDS)}")
        chosen = BACKENDS[name]
        return Backend(chosen.name, chosen.title, chosen.cmake_args, asked_for=True)
    return _look_around(machine)


def _look_around(machine: Machine) -> Backend:
    if machine.system == "Darwin":
        return BACKENDS["metal"]
    has_nvidia = machine.has("/dev/nvidia[0-9]*") or machine.has("/dev/dxg")  # dxg: the GPU of a Windows host, under WSL
    nvcc = machine.find_nvcc()
    if nvcc and has_nvidia:
        return BACKENDS["cuda"]
    if machine.find("hipcc") and machine.has("/dev/kfd"):
        return BACKENDS["rocm"]
    if machine.find("glslc") and machine.has("/dev/dri/renderD*"):
        return BACKENDS["vulkan"]
    cpu, note = BACKENDS["cpu"], ""
    if nvcc:
        note = f"{nvcc} is here, but no NVIDIA device: building for the CPU (CORRAL_BACKEND=cuda builds for CUDA all the same)"
    elif has_nvidia:
        note = "an NVIDIA GPU is here, but no nvcc: building for the CPU; with the CUDA toolkit installed, run this again"
    return Backend(cpu.name, cpu.title, cpu.cmake_args, note)


@dataclass(slots=True)
class Stamps:
    """What is installed in .venv: the engine's backend, and the state of pyproject.toml for plain use and for development."""

    engine: str = ""
    engine_requirement: str = ""
    runtime: str = ""
    dev: str = ""

    @classmethod
    def read(cls, path: Path) -> "Stamps":
        try:
            data = json.loads(path.read_text())
            return cls(**{field.name: str(data.get(field.name, "")) for field in fields(cls)})
        except (OSError, ValueError, AttributeError):
            return cls()  # never installed, or damaged: install again

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def project_state(pyproject: bytes, python_version: str) -> str:
    return hashlib.sha256(pyproject + python_version.encode()).hexdigest()


def backend_has_changed(stamps: Stamps, backend: Backend) -> bool:
    """A build for a GPU stays when the GPU is out of sight for once; everything else follows the choice."""
    if not stamps.engine:
        return True
    return stamps.engine != backend.key and (backend.asked_for or backend.name != "cpu")


def engine_requirement(pyproject: bytes) -> str:
    wanted: list[str] = tomllib.loads(pyproject.decode())["project"]["dependencies"]
    return next(line for line in wanted if line.startswith(ENGINE))


class Progress:
    """pip's long log as one moving line on a terminal, and as a line every tenth of the compile elsewhere."""

    def __init__(self, out: IO[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._clock = out, clock
        self._is_terminal = out.isatty()
        self._began = clock()
        self._text = "starting pip"
        self._tenth = -1
        self._lock = threading.Lock()

    def feed(self, line: str) -> None:
        """Takes a line of pip's output."""
        if found := _COMPILED.match(line):
            self._compiled(found)
        else:
            phase = _phase(line)
            if phase is None or phase == self._text:
                return
            self._text = phase
            if not self._is_terminal and phase.startswith("building"):
                self._line()
        self.draw()

    def _compiled(self, found: re.Match[str]) -> None:
        done, total, percent = found.groups()
        share = int(percent) if percent else int(done) * 100 // max(1, int(total))
        self._text = f"compiling the engine  {share:3d}%" + (f"  {done}/{total}" if done else "")
        if not self._is_terminal and share // 10 != self._tenth:
            self._tenth = share // 10
            self._line()

    def _line(self) -> None:
        self._out.write(f"  {self._text}  {self._elapsed()}\n")
        self._out.flush()

    def _elapsed(self) -> str:
        minutes, seconds = divmod(int(self._clock() - self._began), 60)
        return f"{minutes}:{seconds:02d}"

    def draw(self) -> None:
        if not self._is_terminal:
            return
        width = shutil.get_terminal_size().columns - 1
        with self._lock:
            self._out.write("\r" + f"  {self._text}  {self._elapsed()}"[:width] + "\x1b[K")
            self._out.flush()

    def clear(self) -> None:
        if self._is_terminal:
            self._out.write("\r\x1b[K")
            self._out.flush()

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Keeps the clock on the line going where pip says nothing for a while."""
        stop = threading.Event()

        def tick() -> None:
            while not stop.wait(1):
                self.draw()

        thread = threading.Thread(target=tick, name="clock", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            self.clear()


def _phase(line: str) -> str | None:
    text = line.strip()
    for start, phase in _PHASES:
        if text.startswith(start):
            return phase.format(text[len(start) :].split()[0] if "{}" in phase else "")
    return None


def run_pip(args: Sequence[str], env: Mapping[str, str]) -> None:
    """Runs pip in .venv, its whole output in the log and the gist of it on the screen. Raises SetupError if it fails."""
    command = [str(PYTHON), "-m", "pip", *args]
    progress = Progress(sys.stderr)
    with LOG.open("a") as log, progress.ticking():
        log.write(f"\n$ {' '.join(command)}\n")
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=env
        )
        try:
            for line in child.stdout or ():
                log.write(line)
                progress.feed(line)
        except KeyboardInterrupt:
            child.terminate()
            raise
        finally:
            child.wait()
    if child.returncode:
        tail = "\n".join(line[:200] for line in LOG.read_text(errors="replace").splitlines()[-25:])
        raise SetupError(f"{tail}\n\npip failed; the whole log is in {LOG}")


def make_venv() -> bool:
    """False if there is one that works."""
    if PYTHON.exists() and _works([str(PYTHON), "-m", "pip", "--version"]):
        return False
    say(f"Making {VENV}")
    python = getattr(sys, "_base_executable", sys.executable)  # not the one in the folder that is about to be cleared
    made = subprocess.run([python, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True, check=False)
    if made.returncode:
        said = " ".join((made.stderr + made.stdout).split())[:300]
        raise SetupError(
            f"{python} cannot make a virtual environment; on Debian and Ubuntu: sudo apt install python3-venv\n({said})"
        )
    return True


def _works(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def has_compiler(machine: Machine) -> bool:
    """Runs it, since a Mac without its developer tools has a c++ that only says so."""
    names = [machine.env["CXX"]] if machine.env.get("CXX") else ["c++", "g++", "clang++"]
    return any(machine.find(name) and _works([name, "--version"]) for name in names)


def need_compiler(machine: Machine) -> None:
    if not has_compiler(machine):
        raise SetupError(
            "Corral compiles its engine for this machine and found no C++ compiler: install one (Debian, Ubuntu: "
            "sudo apt install build-essential; Fedora: sudo dnf install gcc-c++; macOS: xcode-select --install), "
            "or take the prebuilt wheel: CORRAL_PREBUILT=1 ./start"
        )


def engine_is_installed() -> bool:
    return _works([str(PYTHON), "-c", f"import importlib.metadata as m; m.version({ENGINE!r})"])


def install_engine(backend: Backend, requirement: str, machine: Machine, *, replace: bool) -> None:
    """llama-cpp-python, compiled or prebuilt, before all else, so that pip has no say in how."""
    args = ["install", "-v", requirement]
    if replace:
        args += ["--force-reinstall", "--no-deps"]
    if backend.index:
        say(f"Engine: {backend.title}")
        args += ["--only-binary", ENGINE, "--extra-index-url", PREBUILT_INDEX + backend.index]
    else:
        need_compiler(machine)
        say(f"Engine: llama.cpp built for {backend.title}")
        if backend.note:
            say(f"  {backend.note}")
        say("  It is compiled once for this machine: about 5 minutes on 2 cores, less on more, longer for a GPU;")
        say("  no time at all where pip has it in its cache.")
    if backend.name != "cpu":
        args.append("--no-cache-dir")  # pip's cache does not know what a wheel was built for
    env = {**machine.env, "CMAKE_ARGS": backend.cmake_args} if backend.cmake_args else machine.env
    try:
        run_pip(args, env)
    except SetupError as exc:
        if backend.name in ("cpu", "prebuilt"):
            raise
        raise SetupError(f"{exc}\nWithout the GPU: CORRAL_BACKEND=cpu ./start") from exc


def update_engine(stamps: Stamps, backend: Backend, requirement: str, machine: Machine) -> None:
    has_changed, is_there = backend_has_changed(stamps, backend), engine_is_installed()
    if is_there and not stamps.engine and not backend.asked_for:
        say("Engine: the llama-cpp-python that is in .venv already")
    elif has_changed or stamps.engine_requirement != requirement:
        install_engine(backend, requirement, machine, replace=is_there and has_changed)
    else:
        return
    stamps.engine, stamps.engine_requirement = backend.key, requirement
    stamps.write(STAMP)


def set_up(*, dev: bool) -> None:
    """Brings .venv to the state that pyproject.toml and this machine ask for. Quick when it is there already."""
    machine = Machine(os.environ)
    backend = choose_backend(machine)
    pyproject = (ROOT / "pyproject.toml").read_bytes()
    wanted = project_state(pyproject, platform.python_version())
    stamps = Stamps.read(STAMP)
    is_current = wanted == stamps.dev or (not dev and wanted == stamps.runtime)
    if PYTHON.exists() and is_current and not backend_has_changed(stamps, backend):
        return
    began = time.monotonic()
    if make_venv():
        stamps = Stamps()
    update_engine(stamps, backend, engine_requirement(pyproject), machine)
    say(f"Installing Corral{' and its development tools' if dev else ''}")
    run_pip(
        ["install", "-v", "-e", f"{ROOT}[dev,convert]" if dev else str(ROOT)], {**machine.env, "CMAKE_ARGS": backend.cmake_args}
    )
    stamps.runtime = wanted
    stamps.dev = wanted if dev else ""
    stamps.write(STAMP)
    say(f"Ready after {time.monotonic() - began:.0f} s")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Makes .venv and installs Corral into it.")
    parser.add_argument("--dev", action="store_true", help="with the development tools")
    options: Any = parser.parse_args(argv)
    try:
        set_up(dev=options.dev)
    except SetupError as exc:
        say(str(exc))
        return 1
    except KeyboardInterrupt:
        say("Stopped. Run it again to go on.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
