"""From a wire request to the domain's. What depends on the model is the services' to check; errors name the field.

The model's own parameters hold where the request is silent, but for its thinking: that is off unless it is asked for, and
nothing is refused to a model that cannot.
Source: ollama@v0.32 anthropic/anthropic.go, FromMessagesRequest.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from corral.api.anthropic.messages import messages
from corral.api.clients import named, priority_of
from corral.api.errors import FieldError, UnsupportedFieldError
from corral.service.requests import ChatRequest, Think, ToolChoice
from corral.wire import anthropic as wire

_RANGES: Final[Mapping[str, tuple[float, float]]] = {"temperature": (0, 2), "top_p": (0, 1)}  # 2 as in other dialects, not 1
_EFFORTS: Final[Mapping[str, str]] = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "max"}
_REFUSED: Final[Mapping[str, str]] = {
    "container": "no code is run here; leave it out",
    "mcp_servers": "the server calls no tools itself; send them as tools, and call them where they are asked for",
    "compaction": "send a request for a summary instead",
}


def chat_request(given: wire.MessagesRequest, *, client: str) -> ChatRequest:
    """Raises BadRequestError."""
    _check_model(given)
    if given.max_tokens is None or given.max_tokens < 1:
        raise FieldError("max_tokens", "max_tokens is required and must be positive")
    common = _common(given)
    return ChatRequest(
        options=dict(_options(given)),
        format=_format(given),
        needs_start=True,
        call_parts=bool(given.stream),
        client=named(client, given.metadata.user_id if given.metadata else None),
        priority=priority_of(given.priority),
        **common,
    )


def render_request(given: wire.CountTokensRequest, *, client: str) -> ChatRequest:
    """For nothing but the prompt of the conversation. Raises BadRequestError."""
    _check_model(given)
    return ChatRequest(debug_render_only=True, client=client, **_common(given))


def _check_model(given: wire.CountTokensRequest) -> None:
    if not given.model:
        raise FieldError("model", "model is required")


def _common(given: wire.CountTokensRequest) -> dict[str, Any]:
    """What a prompt depends on."""
    for name, advice in _REFUSED.items():
        if getattr(given, name) not in (None, False, "", [], {}):
            raise UnsupportedFieldError(name, f"{name} is not supported: {advice}")
    choice = given.tool_choice or wire.ToolChoiceConfig()
    return {
        "model": given.model,
        "messages": messages(given),
        "tools": tuple(_tool(tool, f"tools[{index}]") for index, tool in enumerate(given.tools or ())),
        "tool_choice": _tool_choice(choice),
        "parallel_tool_calls": not choice.disable_parallel_tool_use,
        "continues": True,
        "think": _think(given),
        "may_skip_thinking": True,
    }


def _options(given: wire.MessagesRequest) -> Iterator[tuple[str, Any]]:
    yield "num_predict", given.max_tokens
    for name, (low, high) in _RANGES.items():
        value = getattr(given, name)
        if value is not None and not low <= value <= high:
            raise FieldError(name, f"{name} is {value:g}; it must be between {low:g} and {high:g}")
        if value is not None:
            yield name, value
    if given.top_k is not None:
        if given.top_k < 0:
            raise FieldError("top_k", f"top_k is {given.top_k}; it must be 0 or more")
        yield "top_k", given.top_k
    if stops := [stop for stop in given.stop_sequences or () if stop]:
        yield "stop", stops
    if (budget := _budget(given.thinking)) is not None:
        yield "think_budget", budget


# Thinking


def _think(given: wire.CountTokensRequest) -> Think:
    effort = given.output_config.effort if given.output_config else None
    if effort is not None and effort not in _EFFORTS:
        at = "output_config.effort"
        raise FieldError(at, f'{at} is "{effort}"; it must be one of {", ".join(_EFFORTS)}')
    match given.thinking.type if given.thinking else "disabled":
        case "enabled" | "adaptive":
            return _EFFORTS[effort] if effort else True
        case "disabled":
            return False
        case kind:
            raise FieldError("thinking.type", f'thinking.type is "{kind or ""}"; it must be enabled, adaptive or disabled')


def _budget(given: wire.ThinkingConfig | None) -> int | None:
    if given is None or given.type != "enabled" or given.budget_tokens is None:
        return None
    if given.budget_tokens < 1:
        at = "thinking.budget_tokens"
        raise FieldError(at, f"{at} is {given.budget_tokens}; it must be positive")
    return given.budget_tokens


# Tools, and the form of the answer


def _tool(given: wire.ToolDefinition, at: str) -> dict[str, Any]:
    """As every dialect's tools are given to the templates."""
    if given.type not in (None, "", "custom"):
        raise UnsupportedFieldError(
            f"{at}.type", f'{at}.type "{given.type}" is not supported: send a tool of your own, with an input_schema'
        )
    if not given.name:
        raise FieldError(f"{at}.name", f"{at}.name is missing; every tool needs a name")
    if given.input_schema is None:
        raise FieldError(f"{at}.input_schema", f"{at}.input_schema is missing; it must be a JSON Schema object")
    described: dict[str, Any] = {"description": given.description} if given.description else {}
    strict = {"strict": True} if given.strict else {}
    return {"type": "function", "function": {"name": given.name, **described, "parameters": given.input_schema, **strict}}


def _tool_choice(given: wire.ToolChoiceConfig) -> ToolChoice:
    match given.type:
        case None | "auto":
            return ToolChoice()
        case "none":
            return ToolChoice(mode="none")
        case "any":
            return ToolChoice(mode="required")
        case "tool" if given.name:
            return ToolChoice(mode="required", name=given.name)
        case "tool":
            raise FieldError("tool_choice.name", "tool_choice.name is missing; it must name one of the tools")
        case kind:
            raise FieldError("tool_choice.type", f'tool_choice.type is "{kind}"; it must be auto, any, tool or none')


def _format(given: wire.CountTokensRequest) -> Any:
    """A schema; None for free text. Whether it can be followed is seen when it is compiled."""
    in_config = given.output_config.format if given.output_config else None
    at = "output_config.format" if in_config else "output_format"
    wanted = in_config or given.output_format
    if wanted is None:
        return None
    if wanted.type != "json_schema":
        raise FieldError(f"{at}.type", f'{at}.type is "{wanted.type or ""}"; it must be json_schema')
    if wanted.schema is None:
        raise FieldError(f"{at}.schema", f"{at}.schema is missing; it must be a JSON Schema object")
    return wanted.schema


# Caching


def asks_for_caching(given: wire.CountTokensRequest) -> bool:
    """Whether anything in it is marked to be cached. All is, marked or not; but those who mark it want to be told."""
    blocks = [*_each(given.system), *(block for message in given.messages or () for block in _each(message.content))]
    return bool(given.cache_control) or any(block.cache_control for block in (*blocks, *(given.tools or ())))


def _each(given: str | Sequence[wire.InputBlock] | None) -> Iterator[wire.InputBlock]:
    for block in given if not isinstance(given, str) and given else ():
        yield block
        yield from _each(block.content)
