"""The items of a conversation, as /v1/responses has them, as messages: what the assistant thinks, says and calls in one turn is
one message.

Source: ollama@v0.32 openai/responses.go, FromResponsesRequest, for the texts that clients know.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from corral.api.errors import FieldError
from corral.api.openai.messages import call_arguments, image, sound, text_of
from corral.api.openai.responses.tools import whole_name
from corral.api.openai.values import refused
from corral.api.parts import joined
from corral.core.errors import BadRequestError
from corral.core.types import Message, ToolCall
from corral.wire.responses import InputItem, InputPart

_ROLES: Final[Mapping[str, str]] = {"developer": "system", "system": "system", "user": "user", "assistant": "assistant"}


def messages(items: Iterable[tuple[str, InputItem]]) -> Iterator[Message]:
    """`items` come with where each stands: "input[0]". Raises BadRequestError for what is wrong in one of them."""
    said = _Said()
    for at, item in items:
        match _kind(item, at):
            case "reasoning":
                if said.has_spoken:
                    yield from said.all()
                said.thoughts.append(_thought(item))
            case "function_call":
                said.calls.append(_call(item, at, len(said.calls)))
            case "function_call_output":
                yield from said.all()
                yield _result(item, at)
            case _ if _role(item, at) == "assistant":
                if said.has_spoken:
                    yield from said.all()
                said.parts += _parts(item.content, f"{at}.content")
                said.has_message = True
            case _:
                yield from said.all()
                parts = _parts(item.content, f"{at}.content")
                yield Message(role=_role(item, at), content=joined(parts), images=_media(parts))
    yield from said.all()


@dataclass(slots=True)
class _Said:
    """What the assistant has thought, said and called since somebody else spoke."""

    thoughts: list[str] = field(default_factory=list)
    parts: list[str | bytes] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    has_message: bool = False

    @property
    def has_spoken(self) -> bool:
        return self.has_message or bool(self.calls)

    def all(self) -> Iterator[Message]:
        """As one message, where there is anything; nothing is left of it then."""
        if self.has_spoken or self.thoughts:
            yield Message(
                role="assistant",
                content=joined(self.parts),
                images=_media(self.parts),
                thinking="\n".join(filter(None, self.thoughts)),
                tool_calls=tuple(self.calls),
            )
        self.thoughts, self.parts, self.calls, self.has_message = [], [], [], False


def _kind(item: InputItem, at: str) -> str:
    kind = item.type or ("message" if item.role else "")
    if not kind:
        raise BadRequestError(f"{at}: input item missing required 'type' field")
    if kind not in ("message", "function_call", "function_call_output", "reasoning"):
        raise BadRequestError(f'{at}: unknown input item type: "{kind}"')
    return kind


def _role(item: InputItem, at: str) -> str:
    role = _ROLES.get((item.role or "").lower())
    if role is None:
        said = f'is "{item.role}"' if item.role else "is missing"
        raise FieldError(f"{at}.role", f"{at}.role {said}; it must be developer, system, user or assistant")
    return role


def _thought(item: InputItem) -> str:
    """What was thought, in whichever field it came back."""
    if item.encrypted_content:
        return item.encrypted_content
    whole = item.content if isinstance(item.content, list) else ()
    return "\n".join(part.text for part in (*(item.summary or ()), *whole) if part.text)


def _call(item: InputItem, at: str, index: int) -> ToolCall:
    for name in ("name", "call_id"):
        if not getattr(item, name):
            raise FieldError(f"{at}.{name}", f"{at}.{name} is missing; every call has one")
    return ToolCall(
        name=whole_name(item.namespace, item.name or ""),
        arguments=call_arguments(item.arguments),
        call_id=item.call_id or "",
        index=index,
    )


def _result(item: InputItem, at: str) -> Message:
    if not item.call_id:
        raise FieldError(f"{at}.call_id", f"{at}.call_id is missing; it must be that of the call")
    if item.output is None:
        raise FieldError(f"{at}.output", f"{at}.output is missing; it must be a text or a list of parts")
    parts = _parts(item.output, f"{at}.output")
    return Message(role="tool", content=joined(parts), images=_media(parts), tool_call_id=item.call_id)


def _media(parts: Sequence[str | bytes]) -> tuple[bytes, ...]:
    return tuple(part for part in parts if isinstance(part, bytes))


def _parts(given: str | Sequence[InputPart] | None, at: str) -> list[str | bytes]:
    if isinstance(given, str):
        return [given]
    if given is None:
        raise FieldError(at, f"{at} is missing; it must be a text or a list of parts")
    return [_part(part, f"{at}[{index}]") for index, part in enumerate(given)]


def _part(part: InputPart, at: str) -> str | bytes:
    match part.type:
        case "input_text" | "output_text" | "text":
            return text_of(part.text, f"{at}.text")
        case "refusal":
            return text_of(part.refusal, f"{at}.refusal")
        case "input_image":
            if not part.image_url:
                raise FieldError(f"{at}.image_url", f"{at}.image_url is missing; it must be a data URL")
            return image(part.image_url)
        case "input_audio":
            return sound(part.input_audio, f"{at}.input_audio")
        case "input_file":
            raise refused(f"{at}.input_file", "send what is in it as text or images")
        case kind:
            raise FieldError(f"{at}.type", f"{at}: unknown content type: {kind or ''}")
