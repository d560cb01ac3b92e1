"""Running a model: the Protocol that engines meet, and the engines; and making model files of others."""

from corral.engine.api import Engine, Launcher, ProgressCallback
from corral.engine.footprint import COMPUTE_BYTES, ENCODER_BYTES, GPU_SHARE, KV_BYTES_PER_VALUE, padded_context
from corral.engine.quantizations import QUANTIZATIONS, Quantization, quantization
from corral.engine.workshop import Workshop

__all__ = [
    "COMPUTE_BYTES",
    "ENCODER_BYTES",
    "GPU_SHARE",
    "KV_BYTES_PER_VALUE",
    "QUANTIZATIONS",
    "Engine",
    "Launcher",
    "ProgressCallback",
    "Quantization",
    "Workshop",
    "padded_context",
    "quantization",
]
