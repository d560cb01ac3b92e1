"""What crosses the wire under /api, as Ollama's clients send and expect it: shapes only, no behaviour.

Requests: every field is optional and takes null, as in Go; unknown keys are ignored. Fields whose value may have several
types (`keep_alive`, `think`, `format`, `license`) are read as they come and checked where they are turned into domain values.
Responses: fields stand in the order in which they are sent; one with a default is left out while it has that default.
Class and field names are those of Ollama's Go types, because its error texts name them.
Source: ollama@v0.32 api/types.go.
"""

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

Json: TypeAlias = dict[str, Any]
Format = Annotated[Any, Meta(description='"json", or a JSON Schema object')]
Grammar = Annotated[str | None, Meta(description="GBNF that the answer is to meet; only here, not in Ollama")]
Regex = Annotated[str | None, Meta(description="that the whole answer is to match; only here, not in Ollama")]
Choice = Annotated[list[str] | None, Meta(description="the answer is to be one of these; only here, not in Ollama")]
ToolChoice = Annotated[Any, Meta(description='"none", "auto", "required", or one tool in OpenAI\'s form; not in Ollama')]
KeepAlive = Annotated[Any, Meta(description='seconds, or a duration such as "5m"; negative: for ever')]
Think = Annotated[Any, Meta(description='true, false, "low", "medium", "high" or "max"')]
Streams = Annotated[bool | None, Meta(description="true where absent")]
Base64Images = Annotated[list[str] | None, Meta(description="base64")]
Nanoseconds = Annotated[int, Meta(description="nanoseconds")]
Bytes = Annotated[int, Meta(description="bytes")]
Priority = Annotated[
    int | None, Meta(description="lower goes first where requests wait; 0 where absent; only here, not in Ollama")
]
OldModelField = Annotated[str | None, Meta(description="an old word for model")]


class Request(msgspec.Struct, frozen=True):
    """What all requests have in common: nothing but how they are read."""


class Response(msgspec.Struct, frozen=True, omit_defaults=True):
    """What all responses have in common: nothing but how they are written."""


# Parts that requests and responses share


class ToolCallFunction(Request, frozen=True, omit_defaults=True):
    index: int | None = None
    name: str | None = None
    arguments: Json | None = None


class ToolCall(Request, frozen=True, omit_defaults=True):
    id: str | None = None
    function: ToolCallFunction | None = None


class Message(Request, frozen=True, omit_defaults=True):
    """One turn of a conversation."""

    role: str | None = None
    content: str | None = None
    thinking: str | None = None
    images: Base64Images = None
    tool_calls: list[ToolCall] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


# Generation


class ChatRequest(Request, frozen=True):
    """The conversation to go on with. Without messages the model is loaded, or with `keep_alive` 0 unloaded."""

    model: str | None = None
    messages: list[Message] | None = None
    stream: Streams = None
    format: Format = None
    grammar: Grammar = None
    regex: Regex = None
    choice: Choice = None
    keep_alive: KeepAlive = None
    tools: list[Json] | None = None
    tool_choice: ToolChoice = None
    parallel_tool_calls: Annotated[bool | None, Meta(description="false: one call at most")] = None
    options: Json | None = None
    think: Think = None
    truncate: bool | None = None
    shift: bool | None = None
    debug_render_only: bool | None = msgspec.field(name="_debug_render_only", default=None)
    logprobs: bool | None = None
    top_logprobs: int | None = None
    priority: Priority = None


class GenerateRequest(Request, frozen=True):
    """The prompt to answer. Without one the model is loaded, or with `keep_alive` 0 unloaded."""

    model: str | None = None
    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    template: str | None = None
    context: list[int] | None = None
    stream: Streams = None
    raw: bool | None = None
    format: Format = None
    grammar: Grammar = None
    regex: Regex = None
    choice: Choice = None
    keep_alive: KeepAlive = None
    images: Base64Images = None
    options: Json | None = None
    think: Think = None
    truncate: bool | None = None
    shift: bool | None = None
    debug_render_only: bool | None = msgspec.field(name="_debug_render_only", default=None)
    logprobs: bool | None = None
    top_logprobs: int | None = None
    priority: Priority = None


class ReplyMessage(Response, frozen=True):
    role: str
    content: str
    thinking: str = ""
    tool_calls: list[ToolCall] = []


class TokenChance(Response, frozen=True):
    """A token, the logarithm of its probability, and its bytes, which may be a part of a character."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TokenChance, frozen=True):
    top_logprobs: list[TokenChance] = []


class DebugInfo(Response, frozen=True):
    rendered_template: str
    image_count: int = 0


class ChatResponse(Response, frozen=True):
    """One line of a streamed answer, or all of it. The last line, with `done` true, carries the figures."""

    model: str
    created_at: str
    message: ReplyMessage
    done: bool
    done_reason: str = ""
    debug_info: DebugInfo | None = msgspec.field(name="_debug_info", default=None)
    logprobs: list[TokenLogprob] = []
    total_duration: Nanoseconds = 0
    load_duration: Nanoseconds = 0
    prompt_eval_count: int = 0
    prompt_eval_cached_count: int | None = None
    prompt_eval_duration: Nanoseconds = 0
    eval_count: int = 0
    eval_duration: Nanoseconds = 0
    truncated: Annotated[bool, Meta(description="only here, not in Ollama: the oldest messages were left out")] = False
    prompt_tokens_total: Annotated[int, Meta(description="tokens of the whole conversation as it was sent")] = 0
    dropped_messages: int = 0


class GenerateResponse(Response, frozen=True, kw_only=True):
    """One line of a streamed answer, or all of it. The last line, with `done` true, carries the figures."""

    model: str
    created_at: str
    response: str
    thinking: str = ""
    done: bool
    done_reason: str = ""
    context: list[int] = []
    total_duration: Nanoseconds = 0
    load_duration: Nanoseconds = 0
    prompt_eval_count: int = 0
    prompt_eval_cached_count: int | None = None
    prompt_eval_duration: Nanoseconds = 0
    eval_count: int = 0
    eval_duration: Nanoseconds = 0
    truncated: Annotated[bool, Meta(description="only here, not in Ollama: a part of the prompt was left out")] = False
    prompt_tokens_total: Annotated[int, Meta(description="tokens of the whole prompt as it was sent")] = 0
    dropped_messages: int = 0
    tool_calls: list[ToolCall] = []
    debug_info: DebugInfo | None = msgspec.field(name="_debug_info", default=None)
    logprobs: list[TokenLogprob] = []


# Embeddings


class EmbedRequest(Request, frozen=True):
    """The texts to make vectors of. Without any the model is loaded."""

    model: str | None = None
    input: Annotated[Any, Meta(description="a string, or a list of strings")] = None
    truncate: Annotated[bool | None, Meta(description="false: refuse an input that is too long")] = None
    dimensions: Annotated[int | None, Meta(description="numbers of each vector to keep; all where absent")] = None
    keep_alive: KeepAlive = None
    options: Json | None = None
    priority: Priority = None


class EmbedResponse(Response, frozen=True):
    """One vector an input, each of length 1."""

    model: str
    embeddings: list[list[float]]
    total_duration: Nanoseconds = 0
    load_duration: Nanoseconds = 0
    prompt_eval_count: int = 0


class EmbeddingRequest(Request, frozen=True):
    """The text to make a vector of. Without one the model is loaded. The older form of embed."""

    model: str | None = None
    prompt: str | None = None
    keep_alive: KeepAlive = None
    options: Json | None = None
    priority: Priority = None


class EmbeddingResponse(Response, frozen=True):
    embedding: list[float]


# Models


class ModelDetails(Response, frozen=True):
    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str
    context_length: int = 0
    embedding_length: int = 0


class ListModel(Response, frozen=True):
    name: str
    model: str
    modified_at: str
    size: Bytes
    digest: str
    details: ModelDetails
    capabilities: list[str]


class DamagedModel(Response, frozen=True):
    """A model that is there and cannot be used."""

    name: str
    error: str


class ListResponse(Response, frozen=True):
    models: list[ListModel]
    damaged: list[DamagedModel] = []


class ProcessModel(Response, frozen=True):
    name: str
    model: str
    size: Bytes
    digest: str
    details: ModelDetails
    expires_at: str
    size_vram: Bytes
    context_length: int


class ProcessResponse(Response, frozen=True):
    models: list[ProcessModel]


class ShowRequest(Request, frozen=True):
    model: str | None = None
    name: OldModelField = None
    verbose: bool | None = None
    system: str | None = None
    template: str | None = None
    options: Json | None = None


class Tensor(Response, frozen=True):
    name: str
    type: str
    shape: list[int]


class ShowResponse(Response, frozen=True, kw_only=True):
    license: str = ""
    modelfile: str = ""
    parameters: str = ""
    template: str = ""
    system: str = ""
    renderer: str = ""
    parser: str = ""
    details: ModelDetails
    messages: list[Message] = []
    model_info: Json
    projector_info: Json = {}
    tensors: list[Tensor] = []
    capabilities: list[str] = []
    modified_at: str
    requires: str = ""


class DeleteRequest(Request, frozen=True):
    model: str | None = None
    name: OldModelField = None


class CopyRequest(Request, frozen=True):
    source: str | None = None
    destination: str | None = None


class PullRequest(Request, frozen=True):
    model: str | None = None
    name: OldModelField = None
    insecure: bool | None = None
    stream: Streams = None


class PushRequest(Request, frozen=True):
    model: str | None = None
    name: OldModelField = None
    insecure: bool | None = None
    stream: Streams = None


class CreateRequest(Request, frozen=True):
    model: str | None = None
    name: OldModelField = None
    stream: Streams = None
    quantize: str | None = None
    from_model: str | None = msgspec.field(name="from", default=None)
    quantization: Annotated[str | None, Meta(description="the old name of `quantize`")] = None
    remote_host: str | None = None
    files: Annotated[dict[str, str] | None, Meta(description='file name to "sha256:…" of an uploaded blob')] = None
    adapters: dict[str, str] | None = None
    draft_files: dict[str, str] | None = None
    draft_quantize: str | None = None
    template: str | None = None
    license: Annotated[Any, Meta(description="a string, or a list of strings")] = None
    system: str | None = None
    parameters: Json | None = None
    messages: list[Message] | None = None
    renderer: str | None = None
    parser: str | None = None
    requires: str | None = None
    info: Json | None = None


class ProgressResponse(Response, frozen=True):
    """One line of the progress of a pull, push or create. The last one says "success"."""

    status: str
    digest: str = ""
    type: str = ""
    total: Bytes = 0
    completed: Bytes = 0


# The rest


class CloudStatus(msgspec.Struct, frozen=True):
    disabled: bool
    source: Literal["none", "env", "config", "both"]


class StatusResponse(msgspec.Struct, frozen=True):
    cloud: CloudStatus


class RecommendationsResponse(msgspec.Struct, frozen=True):
    recommendations: tuple[str, ...] = ()


class VersionResponse(Response, frozen=True):
    version: Annotated[str, Meta(description="the version of Ollama whose API this is")]
    corral: Annotated[str, Meta(description="Corral's own version")]


class ErrorResponse(Response, frozen=True):
    error: str
