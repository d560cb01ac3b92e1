"""What crosses the wire under /admin that is read as Ollama's requests are; shapes only."""

from typing import Annotated

from msgspec import Meta

from corral.wire.ollama import Request


class PruneRequest(Request, frozen=True):
    """Whole blobs that no model names and what killed writers left are removed once they are an hour old."""

    dry_run: Annotated[bool | None, Meta(description="say what would be removed, and remove nothing")] = None
    partials: Annotated[bool | None, Meta(description="remove interrupted downloads too")] = None
