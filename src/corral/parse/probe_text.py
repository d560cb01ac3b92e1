"""The words that probing looks for: none of them stands in a template by chance."""

from dataclasses import dataclass
from typing import Any, Final

QUESTION: Final = "zprobe question"
THOUGHT: Final = "zprobe-thought"
CONTENT: Final = "zprobe-content"
NAMES: Final = ("zprobe_first", "zprobe_second")
IDS: Final = ("zprb0call", "zprb1call")  # nine letters and digits: some templates insist on it
TEXT_KEY: Final = "zprobe_a"
NUMBER_KEY: Final = "zprobe_b"
OBJECT_KEY: Final = "zprobe_c"
TEXT: Final = "zprobe value"
NUMBER: Final = 27182
INNER: Final = "zprobe inner"
ARGUMENTS: Final[dict[str, Any]] = {TEXT_KEY: TEXT, NUMBER_KEY: NUMBER, OBJECT_KEY: {"zprobe_d": INNER}}
TOOLS: Final[tuple[dict[str, Any], ...]] = tuple(
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "probes",
            "parameters": {
                "type": "object",
                "required": [TEXT_KEY],
                "properties": {
                    TEXT_KEY: {"type": "string", "description": "a text"},
                    NUMBER_KEY: {"type": "integer", "description": "a number"},
                    OBJECT_KEY: {
                        "type": "object",
                        "description": "an object",
                        "properties": {},
                        "additionalProperties": {"type": "string"},
                    },
                },
            },
        },
    }
    for name in NAMES
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A rendered conversation, and the prompt for the turn that it answers."""

    begin: str
    text: str
