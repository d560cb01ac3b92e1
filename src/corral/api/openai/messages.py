"""A conversation as OpenAI's clients send it: roles, parts of text and media, calls with their arguments as text.

The parts of a turn become one message. Whatever stands before or behind an image stays there: `[img]` marks its place.
Source: ollama@v0.32 openai/openai.go, FromChatRequest, for the texts that clients know.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from corral.api.errors import FieldError
from corral.api.openai.values import refused
from corral.api.parts import joined
from corral.api.values import from_base64
from corral.core.errors import BadRequestError
from corral.core.types import Message, ToolCall
from corral.wire import openai as wire

_ROLES: Final[Mapping[str, str]] = {
    "developer": "system",
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_IMAGE_HEADS: Final = (*(f"data:image/{kind};base64," for kind in ("jpeg", "jpg", "png", "webp", "gif")), "data:;base64,")
_SOUNDS: Final = ("wav", "mp3")

_arguments: Final = msgspec.json.Decoder(dict[str, Any])


def messages(given: Sequence[wire.ChatMessage]) -> tuple[Message, ...]:
    """Raises BadRequestError for a conversation without messages, and for what is wrong in one of them."""
    if not given:
        raise BadRequestError("[] is too short - 'messages'")
    return tuple(_message(message, f"messages[{index}]") for index, message in enumerate(given))


def _message(given: wire.ChatMessage, at: str) -> Message:
    role = _role(given.role, f"{at}.role")
    if given.function_call is not None:
        raise refused(f"{at}.function_call", "it is an old form; send tool_calls")
    if given.audio is not None:
        raise refused(f"{at}.audio", "no model here speaks; send what was said as text")
    calls = tuple(_call(call, index) for index, call in enumerate(given.tool_calls or ()))
    thinking = given.reasoning or given.reasoning_content or ""
    if given.content is None and not (calls or thinking or given.refusal):
        raise BadRequestError("invalid message content type: <nil>")
    text, media = _content(given, at)
    return Message(
        role=role,
        content=text,
        thinking=thinking,
        images=media,
        tool_calls=calls,
        tool_name=(given.name or "") if role == "tool" else "",
        tool_call_id=given.tool_call_id or "",
    )


def _role(given: str | None, at: str) -> str:
    role = _ROLES.get((given or "").lower())
    if role is None:
        said = f'is "{given}"' if given else "is missing"
        raise FieldError(at, f"{at} {said}; it must be developer, system, user, assistant or tool")
    return role


def _content(given: wire.ChatMessage, at: str) -> tuple[str, tuple[bytes, ...]]:
    """The text of all parts, and the images and sounds in their order."""
    if not isinstance(given.content, list):
        return given.content or given.refusal or "", ()
    parts = list(_parts(given.content, f"{at}.content"))
    media = tuple(part for part in parts if isinstance(part, bytes))
    return joined(parts), media


def _parts(given: Sequence[wire.ContentPart], at: str) -> Iterator[str | bytes]:
    for index, part in enumerate(given):
        match part.type:
            case "text":
                yield text_of(part.text, f"{at}[{index}].text")
            case "refusal":
                yield text_of(part.refusal, f"{at}[{index}].refusal")
            case "image_url":
                yield image(_url(part.image_url))
            case "input_audio":
                yield sound(part.input_audio, f"{at}[{index}].input_audio")
            case "file":
                raise refused(f"{at}[{index}].file", "send what is in it as text or images")
            case _:
                raise BadRequestError("invalid message format")


def text_of(text: str | None, at: str) -> str:
    if text is None:
        raise FieldError(at, f"{at} is missing; it must be a text")
    return text


def _url(given: wire.ImageUrl | str | None) -> str:
    return (given if isinstance(given, str) else given.url if given else None) or ""


def image(url: str) -> bytes:
    """What is in a data URL. Raises BadRequestError for one that is none, or has no image."""
    if url.startswith(("http://", "https://")):
        raise BadRequestError("image URLs are not currently supported, please use base64 encoded data instead")
    head = next((head for head in _IMAGE_HEADS if url.startswith(head)), None)
    if head is None:
        raise BadRequestError("invalid image input")
    try:
        return from_base64(url, begin=len(head))
    except BadRequestError:
        raise BadRequestError("invalid image input") from None


def sound(given: wire.InputAudio | None, at: str) -> bytes:
    if given is None or not given.data:
        raise FieldError(f"{at}.data", f"{at}.data is missing; it must be a sound in base64")
    if given.format not in _SOUNDS:
        raise FieldError(f"{at}.format", f'{at}.format is "{given.format or ""}"; it must be wav or mp3')
    try:
        return from_base64(given.data)
    except BadRequestError as exc:
        raise FieldError(f"{at}.data", f"{at}.data: {exc}") from exc


def _call(given: wire.SentToolCall, index: int) -> ToolCall:
    function = given.function or wire.SentFunction()
    return ToolCall(name=function.name or "", arguments=call_arguments(function.arguments), call_id=given.id or "", index=index)


def call_arguments(given: str | wire.Json | None) -> dict[str, Any]:
    """The object that the text is; no text at all is a call without arguments."""
    if not isinstance(given, str):
        return given or {}
    try:
        return _arguments.decode(given) if given.strip() else {}
    except (ValueError, RecursionError) as exc:
        raise BadRequestError("invalid tool call arguments") from exc
