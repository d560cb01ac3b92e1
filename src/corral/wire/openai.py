"""What crosses the wire under /v1 in OpenAI's dialect, as its clients send and expect it: shapes only, no behaviour.

Requests: every field is optional and takes null; unknown keys are ignored, so that a field which is known and refused stands
here too. Fields whose value may have several forms are read as they come and checked where they are turned into domain values.
Responses: fields stand in the order in which they are sent; one with a default is left out while it has that default.
Source: OpenAI's API reference; ollama@v0.32 openai/openai.go for what a server like Ollama leaves out.
"""

from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

Json: TypeAlias = dict[str, Any]
Refused = Annotated[Any, Meta(description="not taken: a request with it is refused")]
KeepAlive = Annotated[Any, Meta(description='only here: seconds, or a duration such as "5m"; negative: for ever')]
OwnNumber = Annotated[float | None, Meta(description="only here")]
OwnInteger = Annotated[int | None, Meta(description="only here")]
Priority = Annotated[int | None, Meta(description="only here: lower goes first where requests wait; 0 where absent")]
User = Annotated[str | None, Meta(description="whose request it is: users share the server evenly")]
Options = Annotated[Json | None, Meta(description="only here: options as under /api; what has a field of its own goes before")]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What all requests have in common: nothing but how they are read."""


class Response(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What all responses have in common: nothing but how they are written."""


# What chat and completions share


class StreamOptions(Request, frozen=True):
    include_usage: Annotated[bool | None, Meta(description="a last chunk with the usage of the whole answer")] = None


class GenerationRequest(Request, frozen=True):
    """Where the request is silent the model's own parameters hold."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int | None, Meta(description="-1: as many as there is room for, as where it is absent")] = None
    n: Annotated[int | None, Meta(description="answers to give")] = None
    seed: int | None = None
    stop: str | list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    top_k: OwnInteger = None
    min_p: OwnNumber = None
    repeat_penalty: OwnNumber = None
    repetition_penalty: Annotated[float | None, Meta(description="another word for repeat_penalty")] = None
    num_ctx: OwnInteger = None
    keep_alive: KeepAlive = None
    options: Options = None
    priority: Priority = None
    service_tier: Annotated[
        str | None, Meta(description="where requests wait: flex goes after others, priority before them")
    ] = None
    user: User = None
    safety_identifier: Annotated[str | None, Meta(description="goes before user")] = None
    prompt_cache_key: Annotated[str | None, Meta(description="whose request it is, where there is no user")] = None
    think: Annotated[Any, Meta(description='only here: true, false, "low", "medium", "high" or "max"')] = None
    grammar: Annotated[str | None, Meta(description="only here: GBNF that the answer is to meet")] = None
    regex: Annotated[str | None, Meta(description="only here: what the answer is to match")] = None
    choice: Annotated[list[str] | None, Meta(description="only here: the answer is to be one of these")] = None
    structured_outputs: Refused = None
    min_tokens: Refused = None
    ignore_eos: Refused = None
    stop_token_ids: Refused = None
    bad_words: Refused = None
    prompt_logprobs: Refused = None
    use_beam_search: Refused = None
    guided_json: Refused = None
    guided_regex: Refused = None
    guided_choice: Refused = None
    guided_grammar: Refused = None


class PromptTokensDetails(msgspec.Struct, frozen=True):
    cached_tokens: Annotated[int, Meta(description="tokens of the prompt that were not computed again")]


class CompletionTokensDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: int


class Usage(Response, frozen=True, kw_only=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None


class Truncated(Response, frozen=True, kw_only=True):
    """What is only here: that the oldest messages were left out of a conversation too long for the context."""

    truncated: bool = False
    prompt_tokens_total: Annotated[int, Meta(description="tokens of the whole conversation as it was sent")] = 0
    dropped_messages: int = 0


# Chat


class ImageUrl(Request, frozen=True):
    url: Annotated[str | None, Meta(description="a data URL; no other is fetched")] = None
    detail: str | None = None


class InputAudio(Request, frozen=True):
    data: Annotated[str | None, Meta(description="base64")] = None
    format: Annotated[str | None, Meta(description='"wav" or "mp3"')] = None


class ContentPart(Request, frozen=True):
    """A part of a message: `type` says which."""

    type: str | None = None
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | str | None = None
    input_audio: InputAudio | None = None


class SentFunction(Request, frozen=True):
    name: str | None = None
    arguments: Annotated[str | Json | None, Meta(description="a JSON object as text")] = None


class SentToolCall(Request, frozen=True):
    id: str | None = None
    type: str | None = None
    function: SentFunction | None = None


class ChatMessage(Request, frozen=True):
    """One turn of a conversation."""

    role: Annotated[str | None, Meta(description="developer, system, user, assistant or tool")] = None
    content: str | list[ContentPart] | None = None
    name: str | None = None
    reasoning: str | None = None
    reasoning_content: Annotated[str | None, Meta(description="another word for reasoning")] = None
    refusal: str | None = None
    tool_calls: list[SentToolCall] | None = None
    tool_call_id: str | None = None
    function_call: Refused = None
    audio: Refused = None


class JsonSchemaFormat(Request, frozen=True):
    name: str | None = None
    description: str | None = None
    schema: Json | None = None
    strict: Annotated[bool | None, Meta(description="the schema is followed either way")] = None


class ResponseFormat(Request, frozen=True):
    type: Annotated[str | None, Meta(description="text, json_object or json_schema")] = None
    json_schema: JsonSchemaFormat | None = None
    schema: Annotated[Json | None, Meta(description="only here: of json_object, the schema that it is to meet")] = None


class Reasoning(Request, frozen=True):
    effort: str | None = None


class ChatCompletionRequest(GenerationRequest, frozen=True, kw_only=True):
    """The conversation to go on with. Where the last message is the assistant's, the answer goes on from it."""

    messages: list[ChatMessage] | None = None
    max_completion_tokens: Annotated[int | None, Meta(description="goes before max_tokens")] = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    response_format: ResponseFormat | None = None
    tools: list[Json] | None = None
    tool_choice: Annotated[str | Json | None, Meta(description="none, auto, required, or a function by its name")] = None
    parallel_tool_calls: Annotated[bool | None, Meta(description="false: one call an answer at most")] = None
    reasoning_effort: Annotated[str | None, Meta(description="none, minimal, low, medium, high, xhigh, ultra or max")] = None
    reasoning: Reasoning | None = None
    modalities: Annotated[list[str] | None, Meta(description='nothing but ["text"] is taken')] = None
    audio: Refused = None
    prediction: Refused = None
    web_search_options: Refused = None
    functions: Refused = None
    function_call: Refused = None
    moderation: Refused = None
    chat_template: Refused = None
    chat_template_kwargs: Refused = None


class ToolFunction(msgspec.Struct, frozen=True):
    name: str
    arguments: Annotated[str, Meta(description="a JSON object as text")]


class ToolCall(msgspec.Struct, frozen=True):
    id: str
    index: int
    type: str
    function: ToolFunction


class TopLogprob(msgspec.Struct, frozen=True):
    """A token, the logarithm of its probability, and its bytes, which may be a part of a character."""

    token: str
    logprob: float
    bytes: list[int]


class ChatTokenLogprob(TopLogprob, frozen=True):
    top_logprobs: list[TopLogprob]


class ChatLogprobs(msgspec.Struct, frozen=True):
    content: list[ChatTokenLogprob]


class ChatReply(Response, frozen=True, kw_only=True):
    role: str
    content: str
    reasoning: Annotated[str, Meta(description="what the model thought before it answered")] = ""
    reasoning_content: Annotated[str, Meta(description="the same by another name")] = ""
    tool_calls: list[ToolCall] = []


class ChatChoice(Response, frozen=True, kw_only=True):
    index: int
    message: ChatReply
    finish_reason: Annotated[str, Meta(description="stop, length or tool_calls")]
    logprobs: ChatLogprobs | None = None


class ChatCompletion(Truncated, frozen=True, kw_only=True):
    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage
    service_tier: Annotated[str, Meta(description="where one was asked for")] = ""


class ToolFunctionDelta(Response, frozen=True, kw_only=True):
    name: str = ""
    arguments: Annotated[str, Meta(description="a piece of a JSON object as text")]


class ToolCallDelta(Response, frozen=True, kw_only=True):
    """A piece of a call. The first has its id, its type and its name."""

    id: str = ""
    index: int
    type: str = ""
    function: ToolFunctionDelta


class ChatDelta(Response, frozen=True, kw_only=True):
    role: str = ""
    content: str | msgspec.UnsetType = msgspec.UNSET
    reasoning: str = ""
    reasoning_content: str = ""
    tool_calls: list[ToolCallDelta] = []


class ChatChunkChoice(Response, frozen=True, kw_only=True):
    index: int
    delta: ChatDelta
    finish_reason: str | None
    logprobs: ChatLogprobs | None = None


class ChatCompletionChunk(Truncated, frozen=True, kw_only=True):
    """One event of a stream. The first of a choice has the role, the last the reason of its end."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None
    service_tier: str = ""


# Completions


class CompletionRequest(GenerationRequest, frozen=True, kw_only=True):
    """The prompts to answer: through the model's template, as Ollama does it, unless `raw` is set or they are tokens."""

    prompt: Annotated[Any, Meta(description="a text, a list of texts, a list of tokens, or a list of lists of tokens")] = None
    suffix: str | None = None
    echo: Annotated[bool | None, Meta(description="begin the answer with the prompt")] = None
    best_of: Annotated[int | None, Meta(description="nothing but the value of `n` is taken")] = None
    logprobs: Annotated[int | None, Meta(description="likeliest tokens to tell beside each token")] = None
    raw: Annotated[bool | None, Meta(description="only here: the prompt as it is, without the model's template")] = None


class CompletionLogprobs(msgspec.Struct, frozen=True):
    """A token that is a part of a character is written as `bytes:` and its bytes."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: Annotated[list[int], Meta(description="where each token begins in the text, in characters")]


class CompletionChoice(Response, frozen=True, kw_only=True):
    text: str
    index: int
    finish_reason: str | None
    logprobs: CompletionLogprobs | None = None
    reasoning: str = ""
    reasoning_content: str = ""


class Completion(Truncated, frozen=True, kw_only=True):
    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage


class CompletionChunk(Truncated, frozen=True, kw_only=True):
    """One event of a stream."""

    id: str
    object: str
    created: int
    choices: list[CompletionChoice]
    model: str
    system_fingerprint: str
    usage: Usage | None = None


# Models


class ModelEntry(msgspec.Struct, frozen=True):
    id: str
    object: str
    created: Annotated[int, Meta(description="seconds since 1970")]
    owned_by: str


class ModelEntries(msgspec.Struct, frozen=True):
    object: str
    data: list[ModelEntry]


# Errors


class ErrorDetail(msgspec.Struct, frozen=True):
    message: str
    type: str
    param: Annotated[str | None, Meta(description="the field that is wrong")]
    code: str | None


class OpenAIError(msgspec.Struct, frozen=True):
    error: ErrorDetail
