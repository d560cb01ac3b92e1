"""The choice of a backend and the stamps of scripts/bootstrap.py, which is no part of the package."""

import importlib.util
import io
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.terminal import Terminal, screen

PATH = Path(__file__).parents[3] / "scripts" / "bootstrap.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("corral_bootstrap", PATH)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


bootstrap = _load()


def machine(
    env: Mapping[str, str] | None = None, *, system: str = "Linux", tools: Iterable[str] = (), devices: Iterable[str] = ()
) -> object:
    return bootstrap.Machine(
        env or {},
        system=system,
        find=lambda name: f"/usr/bin/{name}" if name in tools else None,
        has=lambda pattern: any(pattern.startswith(device) for device in devices),
    )


@pytest.mark.parametrize(
    ("here", "name", "args", "note"),
    [
        pytest.param(machine(), "cpu", "-DGGML_NATIVE=on", "", id="nothing-special"),
        pytest.param(machine(tools=["nvcc"], devices=["/dev/nvidia"]), "cuda", "-DGGML_CUDA=on", "", id="nvidia"),
        pytest.param(machine(devices=["/dev/nvidia", "/usr/local/cuda"]), "cuda", "-DGGML_CUDA=on", "", id="nvcc-off-the-path"),
        pytest.param(machine(tools=["nvcc"]), "cpu", "-DGGML_NATIVE=on", "no NVIDIA device", id="nvcc-without-gpu"),
        pytest.param(machine(devices=["/dev/nvidia"]), "cpu", "-DGGML_NATIVE=on", "CUDA toolkit", id="gpu-without-nvcc"),
        pytest.param(machine(tools=["hipcc"], devices=["/dev/kfd"]), "rocm", "-DGGML_HIP=on", "", id="amd"),
        pytest.param(machine(tools=["glslc"], devices=["/dev/dri"]), "vulkan", "-DGGML_VULKAN=on", "", id="vulkan"),
        pytest.param(machine(tools=["hipcc", "glslc"]), "cpu", "-DGGML_NATIVE=on", "", id="compilers-without-devices"),
        pytest.param(machine(system="Darwin"), "metal", "-DGGML_METAL=on", "", id="mac"),
        pytest.param(machine({"CMAKE_ARGS": "-DX=1"}, system="Darwin"), "custom", "-DX=1", "", id="cmake-args-win"),
        pytest.param(machine({"CORRAL_BACKEND": "cpu"}, system="Darwin"), "cpu", "-DGGML_NATIVE=on", "", id="asked-for"),
    ],
)
def test_backend_is_what_the_machine_can_build_and_run(here: object, name: str, args: str, note: str) -> None:
    backend = bootstrap.choose_backend(here)
    assert (backend.name, backend.cmake_args) == (name, args)
    assert note in backend.note
    assert bool(note) == bool(backend.note)


@pytest.mark.parametrize(
    ("value", "system", "index"), [("1", "Linux", "cpu"), ("1", "Darwin", "metal"), ("cu125", "Linux", "cu125")]
)
def test_prebuilt_wheel_is_chosen_by_its_index(value: str, system: str, index: str) -> None:
    assert bootstrap.choose_backend(machine({"CORRAL_PREBUILT": value}, system=system)).index == index


def test_unknown_backend_is_refused() -> None:
    with pytest.raises(bootstrap.SetupError, match=r"CORRAL_BACKEND is 'abacus'; it must be one of cuda, rocm"):
        bootstrap.choose_backend(machine({"CORRAL_BACKEND": "abacus"}))


def test_missing_compiler_is_one_sentence_with_a_way_out() -> None:
    with pytest.raises(bootstrap.SetupError, match=r"no C\+\+ compiler.*CORRAL_PREBUILT=1 \./start"):
        bootstrap.need_compiler(machine())


@pytest.mark.parametrize(
    ("built", "wanted", "asked_for", "has_changed"),
    [
        pytest.param("", "cpu", False, True, id="nothing-built"),
        pytest.param("cpu", "cpu", False, False, id="the-same"),
        pytest.param("cpu", "cuda", False, True, id="a-gpu-appeared"),
        pytest.param("cuda", "cpu", False, False, id="the-gpu-is-out-of-sight"),
        pytest.param("cuda", "cpu", True, True, id="cpu-asked-for"),
    ],
)
def test_engine_is_built_again_only_for_a_reason(built: str, wanted: str, asked_for: bool, has_changed: bool) -> None:
    backend = bootstrap.Backend(wanted, wanted, asked_for=asked_for)
    assert bootstrap.backend_has_changed(bootstrap.Stamps(engine=built), backend) is has_changed


def test_stamps_are_read_back_and_damage_means_none(tmp_path: Path) -> None:
    path = tmp_path / "stamp.json"
    stamps = bootstrap.Stamps(engine="cpu", engine_requirement="llama-cpp-python>=1", runtime="a", dev="b")
    stamps.write(path)
    assert bootstrap.Stamps.read(path) == stamps
    path.write_text("[")
    assert bootstrap.Stamps.read(path) == bootstrap.Stamps() == bootstrap.Stamps.read(tmp_path / "none")


def test_engine_requirement_is_the_projects() -> None:
    assert bootstrap.engine_requirement((PATH.parents[1] / "pyproject.toml").read_bytes()).startswith("llama-cpp-python>=")


LOG = [
    "Collecting llama-cpp-python",
    *(f"  [{done}/20] /usr/bin/g++ -O3" for done in range(1, 21)),
    "Installing collected packages: x",
]


def test_progress_on_a_terminal_is_one_line() -> None:
    out = Terminal()
    progress = bootstrap.Progress(out, clock=lambda: 65.0)
    for line in LOG[:11]:
        progress.feed(line)
    assert screen(out.getvalue()) == ["  compiling the engine   50%  10/20  0:00"]
    progress.clear()
    assert screen(out.getvalue()) == [""]


def test_progress_elsewhere_is_a_line_for_each_tenth() -> None:
    out = io.StringIO()
    progress = bootstrap.Progress(out, clock=lambda: 65.0)
    for line in LOG:
        progress.feed(line)
    shown = out.getvalue().splitlines()
    assert shown[0] == "  compiling the engine    5%  1/20  0:00"
    assert shown[-1] == "  compiling the engine  100%  20/20  0:00"
    assert len(shown) == 11
