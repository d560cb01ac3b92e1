"""`python -m corral.engine.llamacpp.errands.quantize SOURCE TARGET FILE_TYPE`: quantizes a GGUF. Native code.

It prints the name of each tensor when it begins with it; what llama.cpp complains of goes to standard error.
"""

import ctypes
import os
import re
import sys
from typing import Any, Final

import llama_cpp.llama_cpp as api

from corral.engine.llamacpp.errands.errand_child import end_with_server, say

_TENSOR: Final = re.compile(r"^\[ *\d+/ *\d+\] +(\S+) +- ")  # Source: llama.cpp src/llama-quant.cpp, llama_model_quantize_impl
_ERROR: Final = 4  # GGML_LOG_LEVEL_ERROR
_CONTINUED: Final = 5  # GGML_LOG_LEVEL_CONT
_NICE: Final = 5  # answers of the models that run come first
_BUFFER_BYTES: Final = 1 << 30  # rows of one tensor in memory at once
_PREFIX: Final = re.compile(r"^\w+: (failed to quantize: )?")


class _Listener:
    """Hears llama.cpp's log: which tensor it is at, and why it gives up."""

    def __init__(self) -> None:
        self._level = 0
        self._callback = api.llama_log_callback(self._take)  # must live as long as llama.cpp may call it
        api.llama_log_set(self._callback, None)

    def _take(self, level: int, text: bytes, _data: Any) -> None:
        self._level = self._level if level == _CONTINUED else level
        line = text.decode(errors="replace").strip()
        if found := _TENSOR.match(line):
            say(found[1])
        elif self._level == _ERROR and line.strip("= "):
            print(_PREFIX.sub("", line), file=sys.stderr, flush=True)  # noqa: T201 - the server reads it


def main(arguments: list[str]) -> int:
    source, target, file_type = arguments
    end_with_server()
    os.nice(_NICE)
    listener = _Listener()
    params = api.llama_model_quantize_default_params()
    params.ftype = int(file_type)
    params.allow_requantize = True  # the server decides what may be quantized again
    params.nthread = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    params.max_buf_size = _BUFFER_BYTES
    status = api.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params))
    del listener
    return int(bool(status))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
