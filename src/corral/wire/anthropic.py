"""What crosses the wire under /v1/messages in Anthropic's dialect, as its clients send and expect it: shapes, no behaviour.

Requests: every field is optional and takes null; unknown keys are ignored, so that a field which is known and refused stands
here too. Blocks are read with all fields that any of them has, and told apart where they are turned into domain values.
Responses: fields stand in the order in which they are sent; one with a default is left out while it has that default.
Source: Anthropic's API reference, Messages; ollama@v0.32 anthropic/anthropic.go for the names in errors.
"""

from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

Json: TypeAlias = dict[str, Any]
Refused = Annotated[Any, Meta(description="not taken: a request with it is refused")]
Unused = Annotated[Any, Meta(description="taken, and without effect here")]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What all requests have in common: nothing but how they are read."""


class Response(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """What all responses have in common: nothing but how they are written."""


# Requests


class BlockSource(Request, frozen=True):
    """Where an image or a document is: `type` says in what form."""

    type: Annotated[str | None, Meta(description="base64 of an image; text or content of a document")] = None
    media_type: str | None = None
    data: str | None = None
    content: "str | list[InputBlock] | None" = None


class InputBlock(Request, frozen=True):
    """A piece of a message: `type` says which."""

    type: Annotated[
        str | None,
        Meta(description="text, image, document, search_result, thinking, redacted_thinking, tool_use or tool_result"),
    ] = None
    text: str | None = None
    source: Annotated[BlockSource | str | None, Meta(description="of a search result its address, else an object")] = None
    title: str | None = None
    context: str | None = None
    citations: Annotated[Any, Meta(description="nothing but null, [] and enabled false is taken of a document")] = None
    thinking: str | None = None
    signature: Annotated[str | None, Meta(description="of a thought; it is not looked at")] = None
    id: str | None = None
    name: str | None = None
    input: Json | None = None
    tool_use_id: str | None = None
    content: "str | list[InputBlock] | None" = None
    is_error: bool | None = None
    cache_control: Json | None = None


class InputMessage(Request, frozen=True):
    """A turn of a conversation, or a part of one: neighbours with the same role are one turn."""

    role: Annotated[str | None, Meta(description="user, assistant or system")] = None
    content: str | list[InputBlock] | None = None


class ToolDefinition(Request, frozen=True):
    type: Annotated[str | None, Meta(description="custom, or nothing; all others are refused")] = None
    name: str | None = None
    description: str | None = None
    input_schema: Json | None = None
    strict: Annotated[bool | None, Meta(description="a schema that cannot be enforced is refused")] = None
    cache_control: Json | None = None


class ToolChoiceConfig(Request, frozen=True):
    type: Annotated[str | None, Meta(description="auto, any, tool or none")] = None
    name: Annotated[str | None, Meta(description="of the tool, with type tool")] = None
    disable_parallel_tool_use: bool | None = None


class ThinkingConfig(Request, frozen=True):
    type: Annotated[str | None, Meta(description="enabled, adaptive or disabled")] = None
    budget_tokens: Annotated[int | None, Meta(description="tokens that the thought may have; absent: any number")] = None
    display: Annotated[str | None, Meta(description="summarized: in full; omitted: without its text")] = None


class OutputFormat(Request, frozen=True):
    type: Annotated[str | None, Meta(description="json_schema")] = None
    schema: Json | None = None


class OutputConfig(Request, frozen=True):
    effort: Annotated[str | None, Meta(description="low, medium, high, xhigh or max: how long to think, where it thinks")] = (
        None
    )
    format: OutputFormat | None = None


class CountTokensRequest(Request, frozen=True):
    """The conversation whose tokens are to be counted: as many as the same request to /v1/messages has as its prompt."""

    model: str | None = None
    messages: list[InputMessage] | None = None
    system: str | list[InputBlock] | None = None
    tools: list[ToolDefinition] | None = None
    tool_choice: ToolChoiceConfig | None = None
    thinking: Annotated[ThinkingConfig | None, Meta(description="absent: disabled")] = None
    output_config: OutputConfig | None = None
    output_format: Annotated[OutputFormat | None, Meta(description="an older place of output_config.format")] = None
    cache_control: Json | None = None
    context_management: Unused = None
    container: Refused = None
    mcp_servers: Refused = None
    compaction: Refused = None


class Metadata(Request, frozen=True):
    user_id: Annotated[str | None, Meta(description="whose request it is: users share the server evenly")] = None


class MessagesRequest(CountTokensRequest, frozen=True):
    """The conversation to go on with. Where the last message is the assistant's, the answer goes on from it."""

    max_tokens: Annotated[int | None, Meta(description="tokens of the answer at most, its thought included")] = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    metadata: Metadata | None = None
    priority: Annotated[int | None, Meta(description="only here: lower goes first where requests wait; 0 where absent")] = None
    service_tier: Unused = None


# Responses


class TextBlock(Response, frozen=True, tag="text"):
    text: str


class ThinkingBlock(Response, frozen=True, tag="thinking"):
    thinking: str
    signature: str = ""


class ToolUseBlock(Response, frozen=True, tag="tool_use"):
    id: str
    name: str
    input: Json


Block: TypeAlias = TextBlock | ThinkingBlock | ToolUseBlock


class OutputTokensDetails(msgspec.Struct, frozen=True):
    thinking_tokens: int


class MessagesUsage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The tokens of the prompt are the sum of the first three."""

    input_tokens: int
    cache_creation_input_tokens: Annotated[int, Meta(description="0: what was read is kept without being asked")]
    cache_read_input_tokens: Annotated[
        int, Meta(description="tokens that were not computed again; told where the request has a cache_control, else 0")
    ]
    output_tokens: int
    output_tokens_details: OutputTokensDetails | None = None


class CutConversation(Response, frozen=True):
    """What is only here: that the oldest messages were left out of a conversation too long for the context."""

    truncated: bool = False
    prompt_tokens_total: Annotated[int, Meta(description="tokens of the whole conversation as it was sent")] = 0
    dropped_messages: int = 0


class MessagesResponse(CutConversation, frozen=True, kw_only=True, tag="message"):
    id: str
    role: str
    model: str
    content: list[Block]
    stop_reason: Annotated[str | None, Meta(description="end_turn, max_tokens, tool_use or stop_sequence")]
    stop_sequence: Annotated[str | None, Meta(description="the one of stop_sequences that ended the answer")]
    usage: MessagesUsage


class CountTokensResponse(msgspec.Struct, frozen=True):
    input_tokens: int


# Streams


class MessageStart(Response, frozen=True, tag="message_start"):
    message: MessagesResponse


class BlockStart(Response, frozen=True, tag="content_block_start"):
    index: int
    content_block: Block


class TextDelta(Response, frozen=True, tag="text_delta"):
    text: str


class ThinkingDelta(Response, frozen=True, tag="thinking_delta"):
    thinking: str


class SignatureDelta(Response, frozen=True, tag="signature_delta"):
    signature: str


class InputJsonDelta(Response, frozen=True, tag="input_json_delta"):
    partial_json: str


BlockPiece: TypeAlias = TextDelta | ThinkingDelta | SignatureDelta | InputJsonDelta


class BlockDelta(Response, frozen=True, tag="content_block_delta"):
    index: int
    delta: BlockPiece


class BlockStop(Response, frozen=True, tag="content_block_stop"):
    index: int


class MessageEnd(msgspec.Struct, frozen=True):
    stop_reason: str
    stop_sequence: str | None


class MessageDelta(CutConversation, frozen=True, kw_only=True, tag="message_delta"):
    delta: MessageEnd
    usage: MessagesUsage


class MessageStop(Response, frozen=True, tag="message_stop"):
    """The last event of an answer."""


class Ping(Response, frozen=True, tag="ping"):
    """Sent while there is nothing to say for long."""


# Errors


class AnthropicErrorDetail(msgspec.Struct, frozen=True):
    type: str
    message: str


class AnthropicError(Response, frozen=True, tag="error"):
    error: AnthropicErrorDetail
    request_id: str
