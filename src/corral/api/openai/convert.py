"""From a chat completion's wire request to the domain's: one for each answer that is wanted.

What depends on the model is the services' to check. Errors name the field that is wrong, but for those whose texts and shape
Ollama's clients know.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from corral.api.errors import FieldError
from corral.api.openai.messages import messages
from corral.api.openai.values import choice_count, effort, generation, limit, refused, seeded, user_of
from corral.service.requests import ChatRequest, ToolChoice
from corral.wire import openai as wire

_TEXT_ONLY: Final = ["text"]


def chat_requests(given: wire.ChatCompletionRequest, *, client: str) -> list[ChatRequest]:
    """As many as answers are wanted, alike but for the seed. Raises BadRequestError."""
    conversation = messages(given.messages or ())
    if given.modalities not in (None, [], _TEXT_ONLY):
        raise refused("modalities", 'models answer with text alone; send ["text"], or leave it out')
    common = generation(given)
    tools = _tools(given.tools or ())
    common["options"] |= _limits(given)
    request = ChatRequest(
        messages=conversation,
        tools=tools,
        tool_choice=_tool_choice(given.tool_choice, tools),
        parallel_tool_calls=given.parallel_tool_calls is not False,
        continues=True,
        call_parts=bool(given.stream),
        format=_format(given.response_format),
        logprobs=_wants_logprobs(given),
        top_logprobs=given.top_logprobs or 0,
        client=user_of(client, given),
        **common | ({"think": effort(_effort(given))} if given.think is None else {}),
    )
    count = choice_count(given.n)
    return [replace(request, options=seeded(request.options, index)) for index in range(count)]


def _limits(given: wire.ChatCompletionRequest) -> dict[str, int]:
    return limit("max_tokens", given.max_tokens) | limit("max_completion_tokens", given.max_completion_tokens)


def _effort(given: wire.ChatCompletionRequest) -> str | None:
    return given.reasoning_effort or (given.reasoning.effort if given.reasoning else None)


def _wants_logprobs(given: wire.ChatCompletionRequest) -> bool:
    if given.top_logprobs and not given.logprobs:
        raise FieldError("top_logprobs", "top_logprobs needs logprobs to be true")
    return bool(given.logprobs)


def _format(given: wire.ResponseFormat | None) -> Any:
    if given is None:
        return None
    described = given.json_schema or wire.JsonSchemaFormat()
    schema = given.schema if given.type == "json_object" else described.schema
    return schema_format(given.type, schema, "response_format", "response_format.json_schema.schema")


def schema_format(kind: str | None, schema: wire.Json | None, at: str, schema_at: str) -> Any:
    """The domain's format; None for free text. Whether a schema can be followed is seen when it is compiled."""
    match kind:
        case "text":
            return None
        case "json_object":
            return schema if schema is not None else "json"
        case "json_schema":
            if schema is None:
                raise FieldError(schema_at, f"{schema_at} is missing; it must be a JSON Schema object")
            return schema
        case _:
            raise FieldError(f"{at}.type", f'{at}.type is "{kind or ""}"; it must be text, json_object or json_schema')


def _tools(given: Sequence[wire.Json]) -> tuple[wire.Json, ...]:
    """As they were sent: templates show them as they are."""
    for index, tool in enumerate(given):
        if tool.get("type") not in (None, "function"):
            at = f"tools[{index}].type"
            raise FieldError(at, f'{at} is "{tool["type"]}"; only tools of type function are supported')
        function = tool.get("function")
        if not isinstance(function, Mapping) or not function.get("name") or not isinstance(function["name"], str):
            at = f"tools[{index}].function.name"
            raise FieldError(at, f"{at} is missing; every tool needs a name")
    return tuple(given)


def _tool_choice(given: str | wire.Json | None, tools: Sequence[wire.Json]) -> ToolChoice:
    match given:
        case None | "auto":
            return ToolChoice()
        case "none":
            return ToolChoice(mode="none")
        case "required":
            return required("", tools)
        case {"type": "function", "function": {"name": str(name)}} if name:
            return required(name, tools)
        case _:
            raise FieldError(
                "tool_choice", 'tool_choice must be none, auto, required, or {"type":"function","function":{"name":…}}'
            )


def required(name: str, tools: Sequence[wire.Json]) -> ToolChoice:
    """That a tool is to be called, the one of that name where there is a name. Raises FieldError where there is none."""
    if not tools:
        raise FieldError("tool_choice", "tool_choice asks for a call, and there are no tools; send tools or leave it out")
    if name and name not in [tool["function"]["name"] for tool in tools]:
        raise FieldError("tool_choice", f'tool_choice names "{name}", which is none of the tools')
    return ToolChoice(mode="required", name=name)
