"""What a chat template is: text for a model out of a conversation. Pure; the same input gives the same text but for dates."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from corral.core.types import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What is to be rendered. With a `suffix` the last message's content is the text before the gap."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    think: bool | str | None = None  # None: as the template has it by default; a word is a level
    suffix: str = ""


class ChatTemplate(Protocol):
    """A compiled template. Safe to use from several threads."""

    @property
    def source(self) -> str: ...

    @property
    def kind(self) -> Literal["go", "jinja"]: ...

    @property
    def has_tools(self) -> bool:
        """Whether it can tell the model of tools."""
        ...

    @property
    def has_suffix(self) -> bool:
        """Whether it can ask for what is missing before a suffix."""
        ...

    @property
    def has_thinking(self) -> bool:
        """Whether it knows of thoughts, its own or those of earlier turns."""
        ...

    def render(self, conversation: Conversation, *, quick: bool = False) -> str:
        """The prompt, ready for the model's next turn. Raises BadRequestError with the template's own complaint.

        Whatever the template is, this ends, within seconds and some hundred megabytes. A Go template is rendered here: with
        `quick`, in some thirty milliseconds or with a TemplateTooCostlyError. A Jinja template waits for another process.
        """
        ...
