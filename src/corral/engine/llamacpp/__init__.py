"""The engine of Corral's own: continuous batching over llama.cpp's kernels, one worker process a loaded model.

Server side: launcher, engine, process. Worker side: worker, loading, batcher, generation, slots, and the native modules
binding, sampling, devices. Pure: radix, text.
"""

from corral.engine.llamacpp.engine import LlamaCppEngine
from corral.engine.llamacpp.launcher import LlamaCppLauncher

__all__ = ["LlamaCppEngine", "LlamaCppLauncher"]
