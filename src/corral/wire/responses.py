"""What crosses the wire under /v1/responses in OpenAI's dialect, as its clients send and expect it: shapes only, no behaviour.

Requests are read as those of wire.openai are. Items are read with all fields that any of them has, and told apart where they
are turned into domain values. Responses: fields stand in the order in which they are sent; one with a default is left out while
it has that default, and null is sent where OpenAI sends it.
Source: OpenAI's API reference, Responses; ollama@v0.32 openai/responses.go for what a server like Ollama leaves out.
"""

from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from corral.wire.openai import (
    ChatTokenLogprob,
    CompletionTokensDetails,
    GenerationRequest,
    InputAudio,
    Json,
    Refused,
    Request,
    Response,
    Truncated,
)

Unused = Annotated[Any, Meta(description="taken, and without effect here")]


# Requests


class InputPart(Request, frozen=True):
    """A piece of a message or of a call's output: `type` says which."""

    type: Annotated[str | None, Meta(description="input_text, output_text, refusal, input_image or input_audio")] = None
    text: str | None = None
    refusal: str | None = None
    image_url: Annotated[str | None, Meta(description="a data URL; no other is fetched")] = None
    input_audio: InputAudio | None = None


class ReasoningPart(Request, frozen=True):
    type: str | None = None
    text: str | None = None


class InputItem(Request, frozen=True, omit_defaults=True):
    """A piece of the conversation: `type` says which. One with a role and without a type is a message."""

    type: Annotated[
        str | None,
        Meta(description="message, function_call, function_call_output, reasoning or item_reference"),
    ] = None
    id: str | None = None
    role: Annotated[str | None, Meta(description="of a message: developer, system, user or assistant")] = None
    content: str | list[InputPart] | None = None
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: Annotated[str | Json | None, Meta(description="a JSON object as text")] = None
    output: str | list[InputPart] | None = None
    summary: list[ReasoningPart] | None = None
    encrypted_content: Annotated[str | None, Meta(description="of reasoning: the thought itself, in no cipher")] = None


class TextFormat(Request, frozen=True, omit_defaults=True):
    type: Annotated[str | None, Meta(description="text, json_object or json_schema")] = None
    name: str | None = None
    description: str | None = None
    schema: Json | None = None
    strict: Annotated[bool | None, Meta(description="the schema is followed either way")] = None


class TextConfig(Request, frozen=True, omit_defaults=True):
    format: TextFormat | None = None
    verbosity: Annotated[str | None, Meta(description="low, medium or high; no model here looks at it")] = None


class ReasoningConfig(Request, frozen=True):
    effort: Annotated[str | None, Meta(description="none, minimal, low, medium, high, xhigh, ultra or max")] = None
    summary: Annotated[str | None, Meta(description="auto, concise or detailed; it is the whole thought in any case")] = None


class ResponsesRequest(GenerationRequest, frozen=True, kw_only=True):
    """The conversation to go on with. Where its last item is the assistant's message, the answer goes on from it."""

    input: Annotated[str | list[InputItem] | None, Meta(description="what the user says, or all items of a conversation")] = (
        None
    )
    instructions: Annotated[str | None, Meta(description="a system message before everything else")] = None
    previous_response_id: Annotated[
        str | None, Meta(description="go on from that response, which is kept for an hour and lost when the server ends")
    ] = None
    max_output_tokens: Annotated[int | None, Meta(description="goes before max_tokens")] = None
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    tools: Annotated[list[Json] | None, Meta(description="of type function, or namespace with functions in it")] = None
    tool_choice: Annotated[
        str | Json | None, Meta(description="none, auto, required, a function by its name, or allowed_tools")
    ] = None
    parallel_tool_calls: Annotated[bool | None, Meta(description="false: one call an answer at most")] = None
    include: Annotated[
        list[str] | None, Meta(description="message.output_text.logprobs; others are of what there is anyway, or never")
    ] = None
    top_logprobs: int | None = None
    truncation: Annotated[
        str | None, Meta(description="auto: leave out the oldest turns of a conversation that is too long; else disabled")
    ] = None
    store: Annotated[bool | None, Meta(description="false: the response is not kept for previous_response_id")] = None
    metadata: dict[str, str] | None = None
    max_tool_calls: Annotated[int | None, Meta(description="of tools that the server calls itself: there are none")] = None
    prompt_cache_retention: Unused = None
    background: Refused = None
    context_management: Refused = None
    conversation: Refused = None
    prompt: Refused = None
    moderation: Refused = None


# Responses


class OutputText(Response, frozen=True, tag="output_text", tag_field="type"):
    text: str
    annotations: list[Json]
    logprobs: list[ChatTokenLogprob]


class SummaryText(Response, frozen=True, tag="summary_text", tag_field="type"):
    text: str


class ReasoningItem(Response, frozen=True, tag="reasoning", tag_field="type"):
    """What the model thought. `encrypted_content` is there for programs that send it back in place of the summary."""

    id: str
    summary: list[SummaryText]
    encrypted_content: Annotated[str, Meta(description="the thought itself, in no cipher")] = ""


class MessageItem(Response, frozen=True, tag="message", tag_field="type"):
    id: str
    status: Annotated[str, Meta(description="in_progress, completed or incomplete")]
    role: str
    content: list[OutputText]


class FunctionCallItem(Response, frozen=True, tag="function_call", tag_field="type"):
    id: str
    status: Annotated[str, Meta(description="in_progress, completed or incomplete")]
    call_id: str
    name: str
    arguments: Annotated[str, Meta(description="a JSON object as text")]
    namespace: Annotated[str, Meta(description="of the tools that the function stands among, where it does")] = ""


OutputItem: TypeAlias = ReasoningItem | MessageItem | FunctionCallItem


class InputTokensDetails(msgspec.Struct, frozen=True):
    cached_tokens: Annotated[int, Meta(description="tokens of the prompt that were not computed again")]
    cache_write_tokens: Annotated[int, Meta(description="0: what was read is kept without being asked")] = 0


class ResponseUsage(msgspec.Struct, frozen=True):
    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: CompletionTokensDetails
    total_tokens: int


class IncompleteDetails(msgspec.Struct, frozen=True):
    reason: Annotated[str, Meta(description="max_output_tokens")]


class ResponseFailure(msgspec.Struct, frozen=True):
    code: str
    message: str


class ResponseReasoning(msgspec.Struct, frozen=True):
    effort: str | None
    summary: str | None


class ResponseObject(Truncated, frozen=True, kw_only=True):
    """A response: what was asked of it, as far as it was said, and what came of it."""

    id: str
    object: str
    created_at: Annotated[int, Meta(description="seconds since 1970")]
    completed_at: int | None
    status: Annotated[str, Meta(description="in_progress, completed, incomplete or failed")]
    incomplete_details: IncompleteDetails | None
    model: str
    previous_response_id: str | None
    instructions: str | None
    output: list[OutputItem]
    error: ResponseFailure | None
    tools: list[Json]
    tool_choice: str | Json
    truncation: str
    parallel_tool_calls: bool
    text: TextConfig
    top_p: Annotated[float, Meta(description="1 where the request has none: the model's own holds then")]
    presence_penalty: float
    frequency_penalty: float
    top_logprobs: int
    temperature: Annotated[float, Meta(description="1 where the request has none: the model's own holds then")]
    reasoning: ResponseReasoning | None
    usage: ResponseUsage | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    store: Annotated[bool, Meta(description="as the request said; where it says nothing the response is kept all the same")]
    background: bool
    service_tier: str
    metadata: dict[str, str]
    safety_identifier: Any
    prompt_cache_key: Any


class DeletedResponse(msgspec.Struct, frozen=True):
    id: str
    object: str
    deleted: bool


# Streams


class ResponseEvent(Response, frozen=True, tag_field="type"):
    """What all events have in common. Their numbers begin with 0, and none is left out."""

    sequence_number: int


class ResponseCreated(ResponseEvent, frozen=True, tag="response.created"):
    response: ResponseObject


class ResponseInProgress(ResponseEvent, frozen=True, tag="response.in_progress"):
    response: ResponseObject


class ResponseCompleted(ResponseEvent, frozen=True, tag="response.completed"):
    """The last event of an answer that came to its own end."""

    response: ResponseObject


class ResponseIncomplete(ResponseEvent, frozen=True, tag="response.incomplete"):
    """The last event of an answer that was cut."""

    response: ResponseObject


class ResponseFailed(ResponseEvent, frozen=True, tag="response.failed"):
    """The last event of an answer that failed."""

    response: ResponseObject


class OutputItemAdded(ResponseEvent, frozen=True, tag="response.output_item.added"):
    output_index: int
    item: OutputItem


class OutputItemDone(ResponseEvent, frozen=True, tag="response.output_item.done"):
    output_index: int
    item: OutputItem


class ContentPartAdded(ResponseEvent, frozen=True, tag="response.content_part.added"):
    item_id: str
    output_index: int
    content_index: int
    part: OutputText


class ContentPartDone(ResponseEvent, frozen=True, tag="response.content_part.done"):
    item_id: str
    output_index: int
    content_index: int
    part: OutputText


class OutputTextDelta(ResponseEvent, frozen=True, tag="response.output_text.delta"):
    item_id: str
    output_index: int
    content_index: int
    delta: str
    logprobs: list[ChatTokenLogprob]


class OutputTextDone(ResponseEvent, frozen=True, tag="response.output_text.done"):
    item_id: str
    output_index: int
    content_index: int
    text: str
    logprobs: list[ChatTokenLogprob]


class ReasoningDelta(ResponseEvent, frozen=True, tag="response.reasoning_summary_text.delta"):
    item_id: str
    output_index: int
    summary_index: int
    delta: str


class ReasoningDone(ResponseEvent, frozen=True, tag="response.reasoning_summary_text.done"):
    item_id: str
    output_index: int
    summary_index: int
    text: str


class ArgumentsDelta(ResponseEvent, frozen=True, tag="response.function_call_arguments.delta"):
    item_id: str
    output_index: int
    delta: str


class ArgumentsDone(ResponseEvent, frozen=True, tag="response.function_call_arguments.done"):
    item_id: str
    output_index: int
    arguments: str


EVENTS: tuple[type[ResponseEvent], ...] = (
    ResponseCreated,
    ResponseInProgress,
    OutputItemAdded,
    ContentPartAdded,
    OutputTextDelta,
    OutputTextDone,
    ContentPartDone,
    ReasoningDelta,
    ReasoningDone,
    ArgumentsDelta,
    ArgumentsDone,
    OutputItemDone,
    ResponseCompleted,
    ResponseIncomplete,
    ResponseFailed,
)
