"""What can be made of a model's files, as a Protocol: quantizing and converting. The work is done outside the server process.

Whoever asks gives the place of the result, and removes what is there when the work fails or is cancelled. A cancelled call
ends the work before it returns.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeAlias

from corral.engine.quantizations import Quantization

Report: TypeAlias = Callable[[int], None]  # bytes of what is read or written that are done


class Workshop(Protocol):
    """Makes model files out of others. All raise BadRequestError for input that cannot be used, EngineError for the rest."""

    async def quantize(self, source: Path, target: Path, to: Quantization, *, on_progress: Report) -> None:
        """Writes the GGUF `source` with weights of another type; progress counts bytes of `source`'s tensors."""
        ...

    def check_conversion(self) -> None:
        """Raises NotSupportedError, with the command that helps, where what conversion needs is not installed."""
        ...

    async def convert(self, folder: Path, target: Path, *, to: Quantization, on_progress: Report) -> None:
        """Writes a GGUF of float type `to` of the Hugging Face model in `folder`; progress counts bytes of `target`.

        Nothing of the model is ever run.
        """
        ...

    async def convert_adapter(self, folder: Path, base: Path, target: Path) -> None:
        """Writes the PEFT LoRA adapter in `folder` as a GGUF that fits the GGUF `base`."""
        ...
