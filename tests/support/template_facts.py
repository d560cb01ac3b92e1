"""What is known of the templates in testdata/jinja, read off them by eye: what learning a format from them is held to."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from tests.support.shared import shared_files

TEMPLATES: Final = shared_files("testdata/jinja")

# An answer is a row of messages, each with a header.
IN_MESSAGES: Final = frozenset({"meetkai-functionary-medium-v3.2", "muse-glimmer", "openai-gpt-oss-120b"})
# A call is JSON without a marker, and is no call behind other content.
BARE_CALLS: Final = frozenset({"meta-llama-Llama-3.1-8B-Instruct", "meta-llama-Llama-3.2-3B-Instruct"})
# The word in them, where it is there at all, is advice to the model.
WITHOUT_THOUGHT: Final = frozenset(
    {
        "CohereForAI-c4ai-command-r-plus-tool_use",
        "GigaChat3-10B-A1.8B",
        "Kimi-K2-Instruct",
        "LFM2-8B-A1B",
        "MiMo-VL",
        "MiniMax-M1",
        "Mistral-Small-3.2-24B-Instruct-2506",
        "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use",
        "Qwen-Qwen2.5-7B-Instruct",
        "Qwen3-Coder",
        "fireworks-ai-llama-3-firefunction-v2",
        "google-gemma-2-2b-it",
        "ibm-granite-granite-4.0",
        "meetkai-functionary-medium-v3.1",
        "meetkai-functionary-medium-v3.2",
        "meta-llama-Llama-3.1-8B-Instruct",
        "meta-llama-Llama-3.2-3B-Instruct",
        "microsoft-Phi-3.5-mini-instruct",
        "mistralai-Mistral-Nemo-Instruct-2407",
        "moonshotai-Kimi-K2",
        "unsloth-mistral-Devstral-Small-2507",
    }
)
# The thought of the last turn is in the prompt.
RENDERS_THOUGHT: Final = frozenset(
    {
        "Apriel-1.6-15b-Thinker-fixed",
        "Bielik-11B-v3.0-Instruct",
        "Cohere2MoE",
        "GLM-4.6",
        "MiniMax-M2",
        "Qwen-Qwen3-0.6B",
        "Spark2.5",
        "inclusionai-ling-3.0-flash",
        "muse-glimmer",
        "poolside-Laguna-XS-2.1",
        "poolside-Laguna-XS.2",
    }
)
# The prompt for an answer opens the thought, asked for or not wanted: in the first ones in any case.
ALWAYS_OPENS_THOUGHT: Final = frozenset(
    {
        "Apriel-1.6-15b-Thinker-fixed",
        "Cohere2MoE",
        "MiniMax-M2",
        "NVIDIA-Nemotron-Nano-v2",
        "deepseek-ai-DeepSeek-R1-Distill-Llama-8B",
        "llama-cpp-deepseek-r1",
    }
)
OPENS_THOUGHT: Final = ALWAYS_OPENS_THOUGHT | {
    "Bielik-11B-v3.0-Instruct",
    "Qwen-QwQ-32B",
    "Spark2.5",
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
    "deepseek-ai-DeepSeek-V3.1",
    "deepseek-ai-DeepSeek-V3.2",
    "inclusionai-ling-3.0-flash",
    "llama-cpp-rwkv-world",
    "poolside-Laguna-XS-2.1",
    "poolside-Laguna-XS.2",
}
# It renders one call of a turn alone, and what separates several cannot be written from a header.
SINGLE_CALL: Final = frozenset({"openai-gpt-oss-120b"})


def among(stems: Collection[str]) -> list[Any]:
    return [path for path in TEMPLATES if not isinstance(path, Path) or path.stem in stems]


def beside(*stems: Collection[str]) -> list[Any]:
    left_out = frozenset[str]().union(*stems)
    return [path for path in TEMPLATES if not isinstance(path, Path) or path.stem not in left_out]
