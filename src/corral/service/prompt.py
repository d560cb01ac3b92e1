"""From a request and a model to the prompt that the engine gets. Pure: no engine, no waiting."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from corral.core.types import Message
from corral.service.requests import ChatRequest, GenerateRequest, Think
from corral.store import Model
from corral.template import ChatTemplate, Conversation, choose, compile_go, compile_jinja


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """A chat, ready to be rendered."""

    template: ChatTemplate
    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...]
    think: Think

    @property
    def size_chars(self) -> int:
        """About how much there is to render."""
        return sum(len(message.content) + len(message.thinking) for message in self.messages)

    def render(self) -> str:
        return self.template.render(Conversation(messages=self.messages, tools=self.tools, think=self.think))


def template_of(model: Model) -> ChatTemplate:
    """The model's Go template, else its GGUF's Jinja template, else ChatML."""
    gguf = model.gguf
    return choose(model.template, gguf.chat_template, bos_token=gguf.bos_token, eos_token=gguf.eos_token)


def chat_prompt(model: Model, request: ChatRequest) -> ChatPrompt:
    """The model's own history comes before the request's messages, its system prompt where the request has none.

    Source: ollama@v0.32 server/routes.go, ChatHandler.
    """
    messages = (*model.messages, *request.messages)
    if model.system and request.messages[0].role != "system":
        messages = (Message(role="system", content=model.system), *messages)
    return ChatPrompt(template_of(model), messages, request.tools, request.think)


def generate_size_chars(request: GenerateRequest) -> int:
    """About how much there is to render."""
    return len(request.prompt) + len(request.suffix) + len(request.system or "") + len(request.template or "")


def generate_prompt(model: Model, request: GenerateRequest) -> str:
    """The prompt of a generate request: as it is when raw, else rendered as a conversation of one turn.

    A model that has no template at all gets the bare prompt.
    Source: ollama@v0.32 server/routes.go, GenerateHandler.
    """
    if request.raw or (request.template is None and model.template is None and model.gguf.chat_template is None):
        return request.prompt
    system = model.system if request.system is None else request.system
    messages = [Message(role="system", content=system)] if system else []
    if not request.context:
        messages += model.messages
    messages.append(Message(role="user", content=request.prompt))
    template = template_of(model) if request.template is None else _given(request.template, model)
    return template.render(Conversation(messages=tuple(messages), think=request.think, suffix=request.suffix))


def _given(text: str, model: Model) -> ChatTemplate:
    if "{%" in text:
        return compile_jinja(text, bos_token=model.gguf.bos_token, eos_token=model.gguf.eos_token)
    return compile_go(text)
