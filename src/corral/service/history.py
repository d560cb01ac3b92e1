"""What a conversation's earlier turns leave unsaid about calls and their results: ids and names. Pure.

Ollama's clients name the tool that a result is from, OpenAI's give the call's id, and templates may ask for either. Results
come in the order of their calls where nothing else tells which is which.
"""

from collections import deque
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from corral.core.types import Message, ToolCall


def linked(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The same messages; calls without an id have one, and results have their call's id and their tool's name."""
    if not any(message.tool_calls or message.role == "tool" for message in messages):
        return tuple(messages)
    return tuple(_linked(messages))


def _linked(messages: Sequence[Message]) -> Iterator[Message]:
    count = 0
    open_calls = _OpenCalls(())
    for message in messages:
        if message.tool_calls:
            calls = []
            for call in message.tool_calls:
                calls.append(call if call.call_id else replace(call, call_id=f"call{count:05d}"))
                count += 1
            open_calls = _OpenCalls(calls)
            yield replace(message, tool_calls=tuple(calls))
        elif message.role == "tool":
            answered = open_calls.answered(message)
            yield _named(message, answered) if answered else message
        else:
            yield message


def _named(result: Message, call: ToolCall) -> Message:
    return replace(result, tool_call_id=result.tool_call_id or call.call_id, tool_name=result.tool_name or call.name)


class _OpenCalls:
    """Calls that have no result yet. To find one takes no longer where there are many."""

    def __init__(self, calls: Sequence[ToolCall]) -> None:
        self._calls = calls
        self._answered: set[int] = set()  # places of those that have a result
        self._all = deque(range(len(calls)))
        self._by_id: dict[str, deque[int]] = {}
        self._by_name: dict[str, deque[int]] = {}
        for place, call in enumerate(calls):
            self._by_id.setdefault(call.call_id, deque()).append(place)
            self._by_name.setdefault(call.name, deque()).append(place)

    def answered(self, result: Message) -> ToolCall | None:
        """The call that this is the result of, which is open no more."""
        if result.tool_call_id:
            places = self._by_id.get(result.tool_call_id)
        else:
            places = self._by_name.get(result.tool_name) if result.tool_name else self._all
        while places:
            place = places.popleft()
            if place not in self._answered:
                self._answered.add(place)
                return self._calls[place]
        return None
