"""What crosses the wire under /api beside Ollama's API: tokens, rendered prompts, rankings, and what to tune. Shapes only.

Made as Ollama's own are, see corral.wire.ollama; the names are llama.cpp's server's, and for rankings Jina's and Cohere's.
Source: llama.cpp tools/server/README.md.
"""

from typing import Annotated

from msgspec import Meta

from corral.wire.ollama import Json, KeepAlive, Message, Nanoseconds, Priority, Request, Response, Streams, Think

Piece = Annotated[str | list[int], Meta(description="text, or bytes where it is a part of a character")]


class TokenizeRequest(Request, frozen=True):
    """The text to take apart. The model is not loaded for it."""

    model: str | None = None
    content: str | None = None
    text: Annotated[str | None, Meta(description="another word for content")] = None
    prompt: Annotated[str | None, Meta(description="another word for content")] = None
    add_special: Annotated[bool | None, Meta(description="true: with what the model's prompts begin with")] = None
    parse_special: Annotated[bool | None, Meta(description="false: names of special tokens are plain text")] = None
    with_pieces: Annotated[bool | None, Meta(description="true: with what each token stands for")] = None
    keep_alive: KeepAlive = None


class TokenizeResponse(Response, frozen=True):
    model: str
    tokens: list[int]
    pieces: list[Piece] | None = None
    total_duration: Nanoseconds = 0
    load_duration: Nanoseconds = 0


class DetokenizeRequest(Request, frozen=True):
    """The tokens to put together. The model is not loaded for it."""

    model: str | None = None
    tokens: list[int] | None = None
    keep_alive: KeepAlive = None


class DetokenizeResponse(Response, frozen=True):
    model: str
    content: str
    total_duration: Nanoseconds = 0
    load_duration: Nanoseconds = 0


class ApplyTemplateRequest(Request, frozen=True):
    """The conversation to render as /api/chat would. The model is not loaded for it."""

    model: str | None = None
    messages: list[Message] | None = None
    tools: list[Json] | None = None
    think: Think = None


class ApplyTemplateResponse(Response, frozen=True):
    model: str
    prompt: str


class RerankDocument(Request, frozen=True):
    text: str | None = None


class RerankRequest(Request, frozen=True):
    """A question, and the texts that may answer it. Without any texts the model is loaded."""

    model: str | None = None
    query: str | None = None
    documents: Annotated[list[str | RerankDocument] | None, Meta(description='texts, or {"text": …}')] = None
    top_n: Annotated[int | None, Meta(description="so many of the best; all where absent")] = None
    return_documents: Annotated[bool | None, Meta(description="true: with the texts")] = None
    raw_scores: Annotated[bool | None, Meta(description="true: the model's own numbers, not between 0 and 1")] = None
    truncate: Annotated[bool | None, Meta(description="false: refuse a text that is too long")] = None
    keep_alive: KeepAlive = None
    options: Json | None = None
    priority: Priority = None


class RankedDocument(Response, frozen=True):
    text: str


class RerankResult(Response, frozen=True):
    index: int
    relevance_score: float
    document: RankedDocument | None = None


class RerankResponse(Response, frozen=True):
    """The texts by their places in the request, best first."""

    model: str
    results: list[RerankResult]
    total_duration: Nanoseconds = 0
    load_duration: Nanoseconds = 0
    prompt_eval_count: int = 0


class TuneRequest(Request, frozen=True):
    """The model to measure. It must not be in use; a request for it that comes meanwhile goes first, and ends the tuning."""

    model: str | None = None
    rounds: Annotated[int | None, Meta(description="how often each way to set the engine up is measured; 3 where absent")] = (
        None
    )
    budget: Annotated[float | None, Meta(description="seconds that it may take, about; 180 where absent")] = None
    allow_lossy: Annotated[bool | None, Meta(description="choose also what changes the model's answers")] = None
    dry_run: Annotated[bool | None, Meta(description="store nothing")] = None
    clear: Annotated[bool | None, Meta(description="remove what is stored, and measure nothing")] = None
    stream: Streams = None
