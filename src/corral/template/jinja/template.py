"""A Jinja chat template as the server knows it: its source and what can be said of it without running it.

It comes from the internet, and jinja2 makes Python of it; so it is parsed and run in a process of its own, with bounds on time
and memory (worker.py). What is here looks at its text alone.
"""

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from corral.core.errors import BadRequestError
from corral.core.types import Message
from corral.template.cache import SourceCache
from corral.template.call_ids import wanted_chars, with_fitting_ids
from corral.template.conversation import Conversation
from corral.template.jinja.job import Job
from corral.template.jinja.names import names
from corral.template.jinja.process import RenderingProcesses

MAX_CHARS: Final = 256 << 10
_TOOL_NAMES: Final = frozenset({"tools", "functions"})
_THINKING_NAMES: Final = frozenset({"enable_thinking", "thinking", "reasoning_effort"})
_THINKING_MARKS: Final = re.compile(
    r"reasoning_content|</?think(?:ing)?>|\[/?THINK\]|<\|(?:START|END)_THINKING\|>|</?seed:think>|<\|channel>thought"
)


class JinjaTemplate:
    """A Jinja template with the texts of its model's special tokens. Made by `compile_jinja`."""

    kind: Literal["jinja"] = "jinja"
    has_suffix = False  # none asks for what goes between

    def __init__(self, source: str, *, bos_token: str = "", eos_token: str = "") -> None:
        self.source = source
        self._traits = _traits.get(source)
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}

    @property
    def has_tools(self) -> bool:
        return self._traits.has_tools

    @property
    def has_thinking(self) -> bool:
        return self._traits.has_thinking

    @property
    def call_id_chars(self) -> int:
        return self._traits.call_id_chars

    def render(self, conversation: Conversation, *, quick: bool = False, processes: RenderingProcesses | None = None) -> str:
        """Waits for another process, so it is for a thread. There is no quick way."""
        job = self._job(conversation)
        if processes:
            return processes.render(job)
        with RenderingProcesses(max_processes=1) as own:
            return own.render(job)

    def _job(self, conversation: Conversation) -> Job:
        tools = [dict(tool) for tool in conversation.tools]
        names_given = {**self._tokens, **_think(conversation.think)}
        if self._traits.asks_for_functions:  # Firefunction's way to ask for tools
            date = datetime.now().astimezone().strftime("%B %d %Y %H:%M:%S GMT")
            names_given |= {"functions": json.dumps(tools, ensure_ascii=False, indent=4), "datetime": date}
        chars = self._traits.call_id_chars
        given = (with_fitting_ids(one, chars) for one in conversation.messages) if chars else conversation.messages
        messages = [message_for_jinja(message) for message in given]
        return Job(source=self.source, messages=messages, tools=tools, names=names_given)


def compile_jinja(source: str, *, bos_token: str = "", eos_token: str = "") -> JinjaTemplate:
    """The template. Whether its syntax is right shows when it is rendered; one that is too long raises BadRequestError here."""
    if len(source) > MAX_CHARS:
        raise BadRequestError(f"chat template: {len(source)} characters are too many; at most {MAX_CHARS} are read")
    return JinjaTemplate(source, bos_token=bos_token, eos_token=eos_token)


@dataclass(frozen=True, slots=True)
class _Traits:
    """What a template's text says of it."""

    has_tools: bool
    has_thinking: bool
    asks_for_functions: bool
    call_id_chars: int

    @classmethod
    def of(cls, source: str) -> "_Traits":
        used = names(source)
        thinks = bool(used & _THINKING_NAMES or _THINKING_MARKS.search(source))
        return cls(bool(used & _TOOL_NAMES), thinks, "functions" in used, wanted_chars(source))


_traits: Final = SourceCache(_Traits.of)


def _think(think: bool | str | None) -> dict[str, Any]:
    """What templates ask for: Qwen's `enable_thinking`, DeepSeek's `thinking`, gpt-oss's `reasoning_effort`."""
    if think is None:
        return {}
    given: dict[str, Any] = {"enable_thinking": bool(think), "thinking": bool(think)}
    return given | {"reasoning_effort": think} if isinstance(think, str) else given


def message_for_jinja(message: Message) -> dict[str, Any]:
    """A message as OpenAI's chat API spells it, which is what templates are written for."""
    out: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.thinking:
        out |= {"reasoning_content": message.thinking, "thinking": message.thinking}
    if message.tool_calls:
        out["tool_calls"] = [
            {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_name:
        out["name"] = message.tool_name
    if message.tool_call_id:
        out["tool_call_id"] = message.tool_call_id
    return out
