"""Running a model: the Protocol that engines meet, and the engines; and making model files of others."""

from corral.engine.api import Engine, Launcher, ProgressCallback
from corral.engine.quantizations import QUANTIZATIONS, Quantization, quantization
from corral.engine.workshop import Workshop

__all__ = ["QUANTIZATIONS", "Engine", "Launcher", "ProgressCallback", "Quantization", "Workshop", "quantization"]
