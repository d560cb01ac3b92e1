"""From a request and a model to the prompt that the engine gets. Pure: no engine, no waiting."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from msgspec.structs import replace

from corral.core.types import PLACE, PLACE_APART, Message
from corral.service.checks import cannot_insert, takes_media
from corral.service.history import linked
from corral.service.requests import ChatRequest, GenerateRequest, InferenceRequest, Think
from corral.store import Model
from corral.template import ChatTemplate, Conversation, RenderingProcesses, choose, compile_go, compile_jinja

_BARE: Final = "{{ .Prompt }}"  # of a model that has none, and of which no chat is wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What an engine is to go on from, ready to be rendered.

    Without a template it is the last message's text as it is; with `infill`, the texts of the model's own tokens for it, the
    engine puts that text and the suffix between these tokens.
    """

    messages: tuple[Message, ...]
    template: ChatTemplate | None
    tools: tuple[Mapping[str, Any], ...] = ()
    think: Think = None
    suffix: str = ""
    infill: tuple[str, str, str] | None = None  # before the prefix, before the suffix, before what goes between
    continues: bool = False  # the last message is the beginning of the answer
    prefix_tokens: tuple[int, ...] = ()  # of the conversation before it, as the last answer's context gave them
    bos: str = ""  # what the engine begins a text with by itself; "" where it does not

    @property
    def size_chars(self) -> int:
        """About how much there is to render."""
        return len(self.suffix) + sum(len(message.content) + len(message.thinking) for message in self.messages)

    @property
    def media(self) -> tuple[bytes, ...]:
        """The images, in the order of their tags."""
        return tuple(image for message in self.messages for image in message.images)

    @property
    def infill_suffix(self) -> str:
        """The suffix that the engine is to see to; "" where the template does, or where there is none."""
        return self.suffix if self.infill else ""

    def render(self, *, quick: bool = False, processes: RenderingProcesses | None = None) -> str:
        """The text, without the model's marks around an infill. The arguments are as in ChatTemplate.render."""
        if self.template is None:
            return self.messages[-1].content
        messages = tuple(_with_tags(self.messages))
        conversation = Conversation(messages=messages, tools=self.tools, think=self.think, suffix=self.suffix)
        text = self.template.render(conversation, quick=quick, processes=processes)
        if self.continues:
            text = _up_to_end_of(text, messages[-1].content.rstrip())
        return text.removeprefix(self.bos) if self.prefix_tokens else text

    def shown(self, text: str) -> str:
        """The rendered text with all that the engine adds to it."""
        if self.infill is None:
            return text
        before, between, after = self.infill
        return f"{before}{text}{between}{self.suffix}{after}"


def _up_to_end_of(text: str, beginning: str) -> str:
    """The prompt without what the template puts behind the beginning of an answer, as if that message were over."""
    at = text.rfind(beginning)
    return text[: at + len(beginning)] if at >= 0 else text


def template_of(model: Model) -> ChatTemplate:
    """The model's Go template, else its GGUF's Jinja template, else ChatML."""
    gguf = model.gguf
    return choose(model.template, gguf.chat_template, bos_token=gguf.bos_token, eos_token=gguf.eos_token)


def chat_prompt(model: Model, request: ChatRequest, can: Collection[str]) -> Prompt:
    """The model's own history comes before the request's messages, its system prompt where the request has none.

    Source: ollama@v0.32 server/routes.go, ChatHandler.
    """
    messages = (*model.messages, *request.messages)
    if model.system and request.messages[0].role != "system":
        messages = (Message(role="system", content=model.system), *messages)
    last = messages[-1]
    return Prompt(
        continues=request.continues and last.role == "assistant" and bool(last.content.strip()) and not last.tool_calls,
        messages=linked(messages if takes_media(can) else tuple(map(_without_images, messages))),
        template=template_of(model),
        tools=request.tools if request.tool_choice.mode != "none" else (),
        think=_think(request, can),
    )


def generate_prompt(model: Model, request: GenerateRequest, can: Collection[str]) -> Prompt:
    """The prompt as it is when raw, between a template's or the model's own marks with a suffix, else a chat of one turn.

    The model's own history comes before it, unless the request goes on with a conversation of its own. Raises
    CapabilityError for a suffix that neither the template nor the model's vocabulary has a place for.
    Source: ollama@v0.32 server/routes.go, GenerateHandler.
    """
    user = Message(role="user", content=request.prompt, images=request.images if takes_media(can) else ())
    bos = model.gguf.bos_token if model.gguf.adds_bos else ""
    template = None if request.raw else _template_for(model, request.template)
    if request.suffix:
        by_template = template is not None and template.has_suffix
        infill = None if by_template else model.gguf.infill_tokens
        if not by_template and infill is None:
            raise cannot_insert(model)
        return Prompt(
            messages=(user,),
            template=template if by_template else None,
            suffix=request.suffix,
            infill=infill,
            prefix_tokens=request.context,
            bos=bos,
        )
    before = () if request.raw else tuple(_before(model, request))
    think = _think(request, can)
    return Prompt(
        messages=(*before, user), template=template, think=think, prefix_tokens=request.tokens or request.context, bos=bos
    )


def _think(request: InferenceRequest, can: Collection[str]) -> Think:
    """A model that can think does, unless it is told not to. Source: ollama@v0.32 server/routes.go."""
    return True if request.think is None and "thinking" in can else request.think


def _before(model: Model, request: GenerateRequest) -> Iterator[Message]:
    if system := model.system if request.system is None else request.system:
        yield Message(role="system", content=system)
    if not request.context:
        yield from model.messages


def _template_for(model: Model, given: str | None) -> ChatTemplate:
    """The one that the request brings, else the model's."""
    gguf = model.gguf
    if given is None:
        has_none = model.template is None and gguf.chat_template is None
        return compile_go(_BARE) if has_none else template_of(model)
    if "{%" in given:
        return compile_jinja(given, bos_token=gguf.bos_token, eos_token=gguf.eos_token)
    return compile_go(given)


def _without_images(message: Message) -> Message:
    return replace(message, images=(), content=message.content.replace(PLACE_APART, "")) if message.images else message


def _with_tags(messages: Iterable[Message]) -> Iterator[Message]:
    """The messages with a tag for each image, numbered through: in place of an `[img]` in the text, or else before the text.

    Source: ollama@v0.32 server/prompt.go, chatPrompt.
    """
    number = 0
    for message in messages:
        before, content = "", message.content
        place = PLACE_APART if PLACE_APART in content else PLACE
        for _ in message.images:
            tag = f"[img-{number}]"
            number += 1
            if place in content:
                content = content.replace(place, tag, 1)
            else:
                before += tag
        yield replace(message, content=before + content) if message.images else message
