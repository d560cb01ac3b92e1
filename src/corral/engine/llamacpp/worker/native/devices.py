"""What llama.cpp can compute on, through ggml's own device list. Worker side."""

import ctypes
from dataclasses import dataclass
from typing import Any, Final

from llama_cpp._ggml import libggml

_CPU: Final = 0
_ACCEL: Final = 3  # computes beside the CPU in the same memory (BLAS, AMX)
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Device:
    name: str
    description: str
    is_gpu: bool
    free_bytes: int
    total_bytes: int

    def __str__(self) -> str:
        text = self.name if self.description in ("", self.name) else f"{self.name}: {self.description}"
        return f"{text}, {self.total_bytes // _MIB} MiB" if self.is_gpu else text


def _function(name: str, result: Any, *arguments: Any) -> Any:
    found = getattr(libggml, name)
    found.restype, found.argtypes = result, list(arguments)
    return found


_count = _function("ggml_backend_dev_count", ctypes.c_size_t)
_get = _function("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
_name = _function("ggml_backend_dev_name", ctypes.c_char_p, ctypes.c_void_p)
_description = _function("ggml_backend_dev_description", ctypes.c_char_p, ctypes.c_void_p)
_type = _function("ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)
_memory = _function(
    "ggml_backend_dev_memory", None, ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_size_t)
)


def devices() -> list[Device]:
    """Every device, GPUs first, with the memory that is free on it now."""
    found = [_describe(_get(index)) for index in range(_count())]
    return sorted(found, key=lambda device: not device.is_gpu)


def _describe(device: int) -> Device:
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _memory(device, ctypes.byref(free), ctypes.byref(total))
    return Device(
        name=_name(device).decode(errors="replace"),
        description=_description(device).decode(errors="replace").strip(),
        is_gpu=_type(device) not in (_CPU, _ACCEL),
        free_bytes=free.value,
        total_bytes=total.value,
    )
