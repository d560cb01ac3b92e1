"""What a chat template is: text for a model out of a conversation. Pure; the same input gives the same text but for dates."""

from typing import Literal, Protocol

from corral.template.conversation import Conversation
from corral.template.jinja.process import RenderingProcesses


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

    @property
    def call_id_chars(self) -> int:
        """How many letters and digits an id of a call must have for it; 0: any id will do. Others are replaced."""
        ...

    def render(self, conversation: Conversation, *, quick: bool = False, processes: RenderingProcesses | None = None) -> str:
        """The prompt, ready for the model's next turn. Raises BadRequestError with the template's own complaint.

        Whatever the template is, this ends, within seconds and some hundred megabytes. A Go template is rendered here: with
        `quick`, in some thirty milliseconds or with a TemplateTooCostlyError. A Jinja template waits for one of `processes`;
        without them it starts one for itself alone, which takes a third of a second.
        """
        ...
