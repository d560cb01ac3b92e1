"""From wire requests to domain requests: defaults are filled in, and values that Go checks while it reads are checked.

What depends on a model or on the server's state is the services' to check. Errors are BadRequestError in Ollama's words.
Source: ollama@v0.32 api/types.go, the UnmarshalJSON methods.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from corral.api.clients import priority_of
from corral.api.values import choice, from_base64, keep_alive, quoted, think, tool_choice
from corral.core import types as domain
from corral.core.errors import BadRequestError
from corral.service.create import CreateRequest
from corral.service.embed import EmbedRequest
from corral.service.requests import ChatRequest, GenerateRequest
from corral.wire import ollama as wire

_TOKENS: Final = range(-(2**31), 2**31)


def chat_request(request: wire.ChatRequest, *, client: str) -> ChatRequest:
    return ChatRequest(
        model=request.model or "",
        messages=tuple(message(item) for item in request.messages or ()),
        tools=tuple(request.tools or ()),
        tool_choice=tool_choice(request.tool_choice),
        parallel_tool_calls=request.parallel_tool_calls is not False,
        client=client,
        **_common(request),
    )


def generate_request(request: wire.GenerateRequest, *, client: str) -> GenerateRequest:
    return GenerateRequest(
        model=request.model or "",
        prompt=request.prompt or "",
        suffix=request.suffix or "",
        system=request.system or None,
        template=request.template or None,
        context=tokens_of(request.context or (), "GenerateRequest.context"),
        raw=bool(request.raw),
        images=_images(request.images),
        client=client,
        **_common(request),
    )


def tokens_of(tokens: Sequence[int], field: str) -> tuple[int, ...]:
    """Raises BadRequestError for a number of more than 32 bits. `field` is where they stand, in Go's words."""
    for token in (min(tokens), max(tokens)) if tokens else ():
        if token not in _TOKENS:
            raise BadRequestError(f"json: cannot unmarshal number {token} into Go struct field {field} of type int32")
    return tuple(tokens)


def _common(request: wire.ChatRequest | wire.GenerateRequest) -> dict[str, Any]:
    return {
        "keep_alive_s": keep_alive(request.keep_alive),
        "think": think(request.think),
        "format": _format(request.format),
        "grammar": request.grammar or "",
        "regex": request.regex or "",
        "choice": choice(request.choice),
        "options": request.options or {},
        "truncate": request.truncate is not False,
        "shift": request.shift is not False,
        "logprobs": bool(request.logprobs),
        "top_logprobs": request.top_logprobs or 0,
        "debug_render_only": bool(request.debug_render_only),
        "priority": priority_of(request.priority),
    }


def embed_request(request: wire.EmbedRequest, *, client: str) -> EmbedRequest:
    return EmbedRequest(
        model=request.model or "",
        keep_alive_s=keep_alive(request.keep_alive),
        texts=_texts(request.input),
        truncate=request.truncate is not False,
        dimensions=max(0, request.dimensions or 0),
        options=request.options or {},
        client=client,
        priority=priority_of(request.priority),
    )


def _texts(value: Any) -> tuple[str, ...]:
    """One text, or many. A single empty one is none."""
    match value:
        case None | "":
            return ()
        case str():
            return (value,)
        case list() if all(isinstance(item, str) for item in value):
            return tuple(value)
        case _:
            raise BadRequestError("invalid input type")


def embedding_request(request: wire.EmbeddingRequest, *, client: str) -> EmbedRequest:
    """The older form: a text that is too long is refused."""
    if not request.model:
        raise BadRequestError("model is required")
    return EmbedRequest(
        model=request.model,
        keep_alive_s=keep_alive(request.keep_alive),
        texts=_texts(request.prompt),
        truncate=False,
        options=request.options or {},
        client=client,
        priority=priority_of(request.priority),
    )


def create_request(request: wire.CreateRequest) -> CreateRequest:
    return CreateRequest(
        model=request.model or request.name or "",
        from_model=request.from_model or "",
        files=request.files,
        adapters=request.adapters,
        template=request.template or "",
        system=request.system or "",
        licenses=_licenses(request.license),
        parameters=request.parameters or {},
        messages=tuple(message(item) for item in request.messages or ()),
        remote_host=request.remote_host or "",
        draft_files=request.draft_files,
        draft_quantize=request.draft_quantize or "",
        quantize=request.quantize or request.quantization or "",
        renderer=request.renderer or "",
        parser=request.parser or "",
        requires=request.requires or "",
        info=request.info or {},
    )


def _licenses(value: Any) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BadRequestError("license must be a string or a list of strings")
    return tuple(text for text in texts if text)


def message(given: wire.Message) -> domain.Message:
    """One turn, its role in lower case: Ollama takes any word as a role."""
    return domain.Message(
        role=(given.role or "").lower(),
        content=given.content or "",
        thinking=given.thinking or "",
        images=_images(given.images),
        tool_calls=tuple(_tool_call(call) for call in given.tool_calls or ()),
        tool_name=given.tool_name or "",
        tool_call_id=given.tool_call_id or "",
    )


def _tool_call(call: wire.ToolCall) -> domain.ToolCall:
    function = call.function or wire.ToolCallFunction()
    return domain.ToolCall(
        name=function.name or "", arguments=function.arguments or {}, call_id=call.id or "", index=function.index or 0
    )


def _format(value: Any) -> Any:
    """None for free text. Whether an object is a schema that can be followed is seen when it is compiled."""
    match value:
        case None | "":
            return None
        case "json" | dict():
            return value
        case _:
            text = quoted(msgspec.json.encode(value).decode())
            raise BadRequestError(f'invalid format: {text}; expected "json" or a valid JSON Schema object')


def _images(images: Sequence[str] | None) -> tuple[bytes, ...]:
    return tuple(from_base64(text) for text in images or ())
