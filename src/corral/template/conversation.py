"""What is to be rendered."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from corral.core.types import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What is to be rendered. With a `suffix` the last message's content is the text before the gap."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    think: bool | str | None = None  # None: as the template has it by default; a word is a level
    suffix: str = ""
