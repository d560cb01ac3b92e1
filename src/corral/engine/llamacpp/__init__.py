"""The engine of Corral's own: continuous batching over llama.cpp's kernels, one worker process a loaded model.

Server side: launcher, engine, process. Worker side: worker, loading, batcher, generation, slots, memory, and the native
modules binding, context, sampling, devices. Pure: radix, states, text.
"""

from corral.engine.llamacpp.engine import LlamaCppEngine
from corral.engine.llamacpp.launcher import LlamaCppLauncher

__all__ = ["LlamaCppEngine", "LlamaCppLauncher"]
