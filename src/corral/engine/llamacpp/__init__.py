"""The engine of Corral's own: continuous batching over llama.cpp's kernels, one worker process a loaded model.

What runs in the server is here: launcher and engine with the process between them, embed_stream; workshop with errand and
growth, which have model files made by child processes; and machine, which tells what all runs on. No native code in any of it.
`worker` is what runs in a worker process, `errands` what runs in those child processes.
"""

from corral.engine.llamacpp.engine import LlamaCppEngine
from corral.engine.llamacpp.launcher import LlamaCppLauncher
from corral.engine.llamacpp.machine import this_machine
from corral.engine.llamacpp.workshop import LlamaCppWorkshop

__all__ = ["LlamaCppEngine", "LlamaCppLauncher", "LlamaCppWorkshop", "this_machine"]
