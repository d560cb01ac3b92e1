"""What a model takes of memory, in figures: the scheduler estimates with them before a load, and engines take by them.

Pure, so that both sides can have it.
"""

from typing import Final

KV_BYTES_PER_VALUE: Final = {
    "f32": 4.0,
    "f16": 2.0,
    "bf16": 2.0,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
}  # of KV memory, by the type of its cells
COMPUTE_BYTES: Final = 64 << 20  # buffers for one batch, and the process around it
ENCODER_BYTES: Final = 256 << 20  # what an encoder of images or sounds needs beside its weights, about
GPU_COMPUTE_BYTES: Final = 256 << 20  # the same on a GPU
GPU_SHARE: Final = 0.9  # of a GPU's memory is for models; drivers and what computing takes for a moment have the rest
_CELLS_STEP: Final = 256  # llama.cpp pads a context to a multiple of this


def padded_context(tokens: int) -> int:
    """The context that llama.cpp makes of a wish: at least one step, a whole number of steps."""
    return max(1, -(-tokens // _CELLS_STEP)) * _CELLS_STEP
