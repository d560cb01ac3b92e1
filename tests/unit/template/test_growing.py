"""A longer conversation begins as the shorter one did, so that what was computed of it is there already: and where it does not.

Templates decide that. What is measured is the prompt of a conversation, up to its last message's text, against the next prompt.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from corral.core.types import Message, ToolCall
from corral.template import Conversation, compile_jinja
from tests.support.rendering import PROCESSES
from tests.support.template_facts import TEMPLATES

# Thoughts before and between calls go from the prompt once the next question comes: that turn is read once more.
FORGETS_THOUGHTS: Final = frozenset(
    {"GLM-4.6", "MiniMax-M2", "Qwen-Qwen3-0.6B", "google-gemma-4-31B-it-interleaved", "openai-gpt-oss-120b"}
)
# The tools stand before the last question, wherever that is: it is read once more with each turn.
MOVES_TOOLS: Final = frozenset({"Mistral-Small-3.2-24B-Instruct-2506", "mistralai-Mistral-Nemo-Instruct-2407"})
# So does the system prompt.
MOVES_SYSTEM: Final = frozenset({"mistralai-Mistral-Nemo-Instruct-2407"})

TOOL: Final[dict[str, Any]] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "How it is.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Where."}},
            "required": ["city"],
        },
    },
}


def question(number: int) -> Message:
    return Message(role="user", content=f"Question number {number}, if you please.")


def answer(number: int) -> Message:
    return Message(role="assistant", content=f"The answer number {number}.", thinking=f"Hm, so it is {number}.")


def call(number: int) -> Message:
    made = ToolCall(name="weather", arguments={"city": f"Oslo {number}"}, call_id=f"call{number:05d}")
    return Message(role="assistant", thinking=f"I look it up {number}.", tool_calls=(made,))


def result(number: int) -> Message:
    return Message(role="tool", content=f"{number} degrees", tool_name="weather", tool_call_id=f"call{number:05d}")


BEGUN: Final = (Message(role="system", content="You are terse."), question(1))
CASES: Final[dict[str, tuple[Sequence[Message], Sequence[Message], Sequence[dict[str, Any]]]]] = {
    "turns": ((*BEGUN, answer(1), question(2)), (answer(2), question(3)), ()),
    "turns with tools": ((*BEGUN, answer(1), question(2)), (answer(2), question(3)), (TOOL,)),
    "call after call": ((*BEGUN, call(1), result(1)), (call(2), result(2)), (TOOL,)),
    "question after calls": ((*BEGUN, call(1), result(1)), (answer(1), question(2)), (TOOL,)),
}
EXCEPTIONS: Final = {
    "turns": MOVES_SYSTEM,
    "turns with tools": MOVES_TOOLS,
    "call after call": frozenset[str](),
    "question after calls": MOVES_TOOLS | FORGETS_THOUGHTS,
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_prompt_goes_on_from_the_last_one(path: Path, case: str) -> None:
    begun, more, tools = CASES[case]
    template = compile_jinja(path.read_text(), bos_token="<s>", eos_token="</s>")

    def prompt(messages: Sequence[Message]) -> str:
        return template.render(Conversation(messages=tuple(messages), tools=tuple(tools)), processes=PROCESSES)

    first, second = prompt(begun), prompt((*begun, *more))
    same = next((at for at, (one, other) in enumerate(zip(first, second, strict=False)) if one != other), len(first))
    told = max(
        first.rfind(message.content) + len(message.content) for message in begun if message.content and message.content in first
    )
    assert (same >= told) == (path.stem not in EXCEPTIONS[case])
