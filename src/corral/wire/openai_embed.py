"""What crosses the wire under /v1/embeddings, in OpenAI's dialect: shapes only. What /v1 has in common is in openai.py."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from corral.wire.openai import KeepAlive, Options, Priority, Request, User


class EmbeddingsRequest(Request, frozen=True):
    """The texts to make vectors of."""

    model: str | None = None
    input: Annotated[Any, Meta(description="a text, a list of texts, a list of tokens, or a list of lists of tokens")] = None
    dimensions: Annotated[int | None, Meta(description="numbers of each vector to keep; all where absent")] = None
    encoding_format: Annotated[str | None, Meta(description="float, or base64 of 32-bit floats")] = None
    truncate: Annotated[bool | None, Meta(description="only here; false: refuse an input that is too long")] = None
    keep_alive: KeepAlive = None
    options: Options = None
    priority: Priority = None
    user: User = None


class EmbeddingItem(msgspec.Struct, frozen=True):
    object: str
    embedding: Annotated[list[float] | str, Meta(description="numbers, or base64")]
    index: int


class EmbeddingsUsage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    total_tokens: int


class EmbeddingsList(msgspec.Struct, frozen=True):
    object: str
    data: list[EmbeddingItem]
    model: str
    usage: EmbeddingsUsage
