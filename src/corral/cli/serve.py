"""`corral serve`: the one command that runs the server here instead of asking one."""

import contextlib
from typing import Final

from corral.cli.usage import Command

SETTINGS: Final = {
    "HOST": "Address to listen on (default 127.0.0.1:11434)",
    "MODELS": "The path to the models directory (default ~/.corral/models)",
    "KEEP_ALIVE": 'The duration that models stay loaded in memory (default "5m")',
    "CONTEXT_LENGTH": "Context length to use unless otherwise specified (default 4096)",
    "NUM_PARALLEL": "Maximum number of requests that one model answers at once (default: chosen for the model and machine)",
    "MAX_LOADED_MODELS": "Maximum number of loaded models (default: as many as fit)",
    "MAX_QUEUE": "Maximum number of queued requests (default 512)",
    "MEMORY_BUDGET": "Bytes that all loaded models may take together (default: what the machine has free)",
    "LOAD_TIMEOUT": 'How long a model load may stall before it is given up (default "5m")',
    "FLASH_ATTENTION": "Force flash attention on (1) or off (0) (default: wherever the backend has it)",
    "KV_CACHE_TYPE": "Data type of the K/V cache (default f16)",
    "KV_RAM": "Memory for computed prompts that left the K/V cache (default: a quarter of what is free)",
    "KV_DIR": "A folder that keeps computed prompts across restarts (default: none)",
    "KV_DISK": "What that folder may take (default 10GB)",
    "MAX_TRANSFER_STREAMS": "Maximum parallel transfer streams for model pulls/pushes (default 8)",
    "REGISTRY_MIRROR": "A comma separated list of HOST=URL: where to pull from in place of a registry",
    "ORIGINS": "A comma separated list of allowed origins",
    "IGNORE_IMAGES": "Leave out images that a model cannot see, instead of refusing the request",
    "NOPRUNE": "Keep blobs that no model refers to any more",
    "DEBUG": "Show additional debug information (e.g. OLLAMA_DEBUG=1)",
}
NOTE: Final = "Each is also read with CORRAL_ in place of OLLAMA_, and that one wins."


def _serve(words: tuple[str, ...]) -> None:
    from corral.app import serve as run_server
    from corral.core.settings import Settings

    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C, after an orderly end
        run_server(Settings.from_env())


serve = Command(
    "serve",
    _serve,
    usage="serve",
    summary="Start Corral",
    aliases=("start",),
    at_most=0,
    notes=NOTE,
    environment={f"OLLAMA_{name}": text for name, text in SETTINGS.items()},
)
