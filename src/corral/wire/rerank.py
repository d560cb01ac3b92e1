"""What crosses the wire under /v1/rerank, as Jina's and Cohere's clients send and expect it: shapes only, no behaviour."""

from typing import Annotated

import msgspec
from msgspec import Meta

from corral.wire.openai import KeepAlive, Options, Priority, Request, Response
from corral.wire.openai_embed import EmbeddingsUsage


class SentDocument(Request, frozen=True):
    text: str | None = None


class DocumentsRequest(Request, frozen=True):
    """A question, and the texts that may answer it, as Jina's and Cohere's clients send them."""

    model: str | None = None
    query: str | None = None
    documents: Annotated[list[str | SentDocument] | None, Meta(description='texts, or {"text": …}')] = None
    top_n: Annotated[int | None, Meta(description="so many of the best; all where absent")] = None
    return_documents: Annotated[bool | None, Meta(description="true: with the texts")] = None
    truncate: Annotated[bool | None, Meta(description="only here; false: refuse a text that is too long")] = None
    keep_alive: KeepAlive = None
    options: Options = None
    priority: Priority = None


class RankedText(msgspec.Struct, frozen=True):
    text: str


class RankedEntry(Response, frozen=True):
    index: Annotated[int, Meta(description="the document's place in the request")]
    relevance_score: Annotated[float, Meta(description="between 0 and 1")]
    document: RankedText | None = None


class RankedDocuments(msgspec.Struct, frozen=True):
    """Best first."""

    object: str
    model: str
    results: list[RankedEntry]
    usage: EmbeddingsUsage
