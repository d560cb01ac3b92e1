"""A conversation as Anthropic's clients send it: turns of blocks, the results of tools among what the user says.

Neighbours with the same role are one turn. A turn becomes one message; of a user's, each result becomes one of its own before
it, as templates want results right behind the calls. Whatever stands before or behind an image stays there: `[img]` marks its
place. Source: ollama@v0.32 anthropic/anthropic.go, FromMessagesRequest, for the texts that clients know.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final, TypeAlias

from corral.api.errors import FieldError, UnsupportedFieldError
from corral.api.parts import joined
from corral.api.values import from_base64
from corral.core.errors import BadRequestError
from corral.core.types import Message, ToolCall
from corral.wire import anthropic as wire

Placed: TypeAlias = tuple[str, wire.InputBlock]  # a block and where it stands: "messages[0].content[1]"

_ROLES: Final = ("user", "assistant", "system")
_IMAGE_TYPES: Final = ("image/jpeg", "image/png", "image/gif", "image/webp")


def messages(given: wire.CountTokensRequest) -> tuple[Message, ...]:
    """The system prompt, and the turns. Raises BadRequestError where there are no turns, and for what is wrong in one."""
    if not given.messages:
        raise FieldError("messages", "messages is required")
    out: list[Message] = []
    if system := _texts(_blocks(given.system, "system")):
        out.append(Message(role="system", content=system))
    tools: dict[str, str] = {}  # the names of those that were called, by the calls' ids
    for role, placed in _turns(given.messages):
        if role == "assistant":
            said = _assistant(placed)
            tools |= {call.call_id: call.name for call in said.tool_calls}
            out.append(said)
        elif role == "system":
            out.append(Message(role="system", content=_texts(placed)))
        else:
            out += _user(placed, tools)
    return tuple(out)


def _turns(given: Sequence[wire.InputMessage]) -> Iterator[tuple[str, list[Placed]]]:
    for role, group in groupby(enumerate(given), key=lambda item: _role(item[1].role, f"messages[{item[0]}].role")):
        yield role, [placed for index, message in group for placed in _content(message, f"messages[{index}].content")]


def _role(given: str | None, at: str) -> str:
    if given not in _ROLES:
        said = f'is "{given}"' if given else "is missing"
        raise FieldError(at, f"{at} {said}; it must be user or assistant")
    return given


def _content(message: wire.InputMessage, at: str) -> Sequence[Placed]:
    if message.content is None:
        raise FieldError(at, f"{at} is missing; it must be a text or a list of blocks")
    return _blocks(message.content, at)


def _blocks(given: str | Sequence[wire.InputBlock] | None, at: str) -> Sequence[Placed]:
    """A text is one block."""
    if isinstance(given, str):
        return [(at, wire.InputBlock(type="text", text=given))] if given else []
    return [(f"{at}[{index}]", block) for index, block in enumerate(given or ())]


def _texts(placed: Sequence[Placed]) -> str:
    """Of a prompt that may have nothing but text."""
    for at, block in placed:
        if block.type != "text":
            raise _unsupported(at, block, "only text can stand here")
    return joined([_text(block.text, f"{at}.text") for at, block in placed])


def _text(text: str | None, at: str) -> str:
    if text is None:
        raise FieldError(at, f"{at} is missing; it must be a text")
    return text


def _unsupported(at: str, block: wire.InputBlock, advice: str) -> FieldError:
    if not block.type:
        return FieldError(f"{at}.type", f"{at}.type is missing; it must say which block this is")
    return UnsupportedFieldError(f"{at}.type", f'{at}.type "{block.type}" is not supported: {advice}')


# What the assistant said


def _assistant(placed: Sequence[Placed]) -> Message:
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    for at, block in placed:
        match block.type:
            case "text":
                texts.append(_text(block.text, f"{at}.text"))
            case "thinking":
                thoughts.append(_text(block.thinking, f"{at}.thinking"))
            case "redacted_thinking":
                pass  # in a cipher that only the server it came from can read
            case "tool_use":
                calls.append(_call(at, block, len(calls)))
            case _:
                raise _unsupported(at, block, "an assistant's turn has text, thinking, redacted_thinking and tool_use")
    thinking = "\n".join(filter(None, thoughts))
    return Message(role="assistant", content=joined(texts), thinking=thinking, tool_calls=tuple(calls))


def _call(at: str, block: wire.InputBlock, index: int) -> ToolCall:
    for field in ("id", "name"):
        if not getattr(block, field):
            raise FieldError(f"{at}.{field}", f"tool_use block missing required '{field}' field")
    return ToolCall(name=block.name or "", arguments=block.input or {}, call_id=block.id or "", index=index)


# What the user said


def _user(placed: Sequence[Placed], tools: Mapping[str, str]) -> Iterator[Message]:
    results = [(at, block) for at, block in placed if block.type == "tool_result"]
    for at, block in results:
        yield _result(at, block, tools)
    parts = [part for at, block in placed if block.type != "tool_result" for part in _parts(at, block)]
    if parts or not results:
        yield Message(role="user", content=joined(parts), images=_media(parts))


def _result(at: str, block: wire.InputBlock, tools: Mapping[str, str]) -> Message:
    if not block.tool_use_id:
        raise FieldError(f"{at}.tool_use_id", "tool_result block missing required 'tool_use_id' field")
    parts = [part for inner_at, inner in _blocks(block.content, f"{at}.content") for part in _parts(inner_at, inner)]
    return Message(
        role="tool",
        content=("Error: " if block.is_error else "") + joined(parts),
        images=_media(parts),
        tool_call_id=block.tool_use_id,
        tool_name=tools.get(block.tool_use_id, ""),
    )


def _media(parts: Sequence[str | bytes]) -> tuple[bytes, ...]:
    return tuple(part for part in parts if isinstance(part, bytes))


def _parts(at: str, block: wire.InputBlock) -> Iterator[str | bytes]:
    match block.type:
        case "text":
            yield _text(block.text, f"{at}.text")
        case "image":
            yield _image(at, block.source)
        case "document":
            yield from _document(at, block)
        case "search_result":
            address = block.source if isinstance(block.source, str) else ""
            yield _headed(block.title, address, _texts(_blocks(block.content, f"{at}.content")))
        case _:
            raise _unsupported(at, block, "send what is in it as text, image, document or tool_result")


def _image(at: str, source: wire.BlockSource | str | None) -> bytes:
    kind = source.type if isinstance(source, wire.BlockSource) else ""
    if not isinstance(source, wire.BlockSource) or kind != "base64":
        text = f"invalid image source type: {kind or ''}. Only base64 images are supported."
        raise FieldError(f"{at}.source.type", text)
    if source.media_type not in _IMAGE_TYPES:
        field = f"{at}.source.media_type"
        raise FieldError(field, f'{field} is "{source.media_type or ""}"; it must be one of {", ".join(_IMAGE_TYPES)}')
    data = _text(source.data or None, f"{at}.source.data")
    try:
        return from_base64(data)
    except BadRequestError as exc:
        raise FieldError(f"{at}.source.data", f"{at}.source.data: {exc}") from exc


def _document(at: str, block: wire.InputBlock) -> Iterator[str | bytes]:
    """Its text under its title, or what it is made of."""
    if block.citations not in (None, [], {}, {"enabled": False}):
        text = f"{at}.citations is not supported: no model here cites; leave it out"
        raise UnsupportedFieldError(f"{at}.citations", text)
    source = block.source if isinstance(block.source, wire.BlockSource) else wire.BlockSource()
    match source.type:
        case "text":
            yield _headed(block.title, block.context, _text(source.data, f"{at}.source.data"))
        case "content":
            if head := _headed(block.title, block.context):
                yield head
            for inner_at, inner in _blocks(source.content, f"{at}.source.content"):
                if inner.type not in ("text", "image"):
                    raise _unsupported(inner_at, inner, "a document is made of text and images")
                yield from _parts(inner_at, inner)
        case kind:
            field = f"{at}.source.type"
            raise UnsupportedFieldError(
                field, f'{field} "{kind or ""}" is not supported: send what is in the document as a text source, or as images'
            )


def _headed(*parts: str | None) -> str:
    return "\n".join(filter(None, parts))
