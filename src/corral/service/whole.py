"""An answer that nobody wants in pieces. Pure but for the waiting."""

from collections.abc import AsyncIterator

from corral.core.types import TokenLogprob, ToolCall
from corral.service.requests import Delta, Done, Event, Loaded, Rendered, Started


async def whole(first: Event, rest: AsyncIterator[Event]) -> tuple[Delta, Loaded | Rendered | Started | Done]:
    """All that an answer says as one piece, and the event that ends it, or is all there is."""
    content: list[str] = []
    thinking: list[str] = []
    calls: list[ToolCall] = []
    logprobs: list[TokenLogprob] = []
    event = first
    while isinstance(event, Delta):
        content.append(event.content)
        thinking.append(event.thinking)
        calls += event.tool_calls
        logprobs += event.logprobs
        event = await anext(rest)
    said = Delta(content="".join(content), thinking="".join(thinking), tool_calls=tuple(calls), logprobs=tuple(logprobs))
    return said, event
