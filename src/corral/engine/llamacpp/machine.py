"""What machine this is, as far as the speed of a model depends on it. No native code is loaded to tell. Server side."""

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psutil

from corral.core.tuning import Machine

_CPUINFO: Final = Path("/proc/cpuinfo")
_CPU: Final = re.compile(r"^(?:model name|Model|cpu model)\s*:\s*(.+)$", re.MULTILINE)
_PACKAGE: Final = "llama_cpp"
_LIBRARIES: Final = (".so", ".dylib", ".dll")
_STAMP_DIGITS: Final = 12


def this_machine(devices: Sequence[str], *, cpuinfo: Path = _CPUINFO, package: Path | None = None) -> Machine:
    """With these `devices`, as the engine names them. Looks into files: not for an event loop."""
    threads = os.cpu_count() or 1
    return Machine(
        cpu=_cpu(cpuinfo),
        cores=usable_cores(),
        threads=threads,
        devices=tuple(devices),
        build=_build(package or _found()),
    )


def usable_cores() -> int:
    """Physical cores that this process may use."""
    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return min(physical, allowed)


def _cpu(cpuinfo: Path) -> str:
    try:
        found = _CPU.search(cpuinfo.read_text(errors="replace"))
    except OSError:
        found = None
    return " ".join(found[1].split()) if found else platform.processor() or platform.machine()


def _found() -> Path | None:
    spec = importlib.util.find_spec(_PACKAGE)
    return Path(spec.origin).parent if spec and spec.origin else None


def _build(package: Path | None) -> str:
    """The version of llama.cpp's package, and a mark of its libraries: another build of one version is another program."""
    try:
        version = importlib.metadata.version("llama-cpp-python")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    mark = hashlib.sha256()
    files = sorted(package.rglob("*")) if package else []
    for path in files:
        if path.suffix in _LIBRARIES:
            found = path.stat()
            mark.update(f"{path.name} {found.st_size} {found.st_mtime_ns}\n".encode())
    return f"{version} {mark.hexdigest()[:_STAMP_DIGITS]}"
