"""The engine of Corral's own: continuous batching over llama.cpp's kernels, one worker process a loaded model.

Server side: launcher, engine, process, embed_stream; and workshop with errand, which have files made in child processes:
quantize, convert, convert_adapter. Worker side: worker, loading, loaded, batcher, generation, slots, memory, embedder,
and the native modules binding, context, embed_context, sampling, devices. Pure: radix, states, text, reading.
"""

from corral.engine.llamacpp.engine import LlamaCppEngine
from corral.engine.llamacpp.launcher import LlamaCppLauncher
from corral.engine.llamacpp.workshop import LlamaCppWorkshop

__all__ = ["LlamaCppEngine", "LlamaCppLauncher", "LlamaCppWorkshop"]
