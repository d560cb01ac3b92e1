"""What a conversation's earlier turns leave unsaid about calls and their results: ids and names. Pure.

Ollama's clients name the tool that a result is from, OpenAI's give the call's id, and templates may ask for either. Results
come in the order of their calls where nothing else tells which is which.
"""

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
    open_calls: list[ToolCall] = []
    for message in messages:
        if message.tool_calls:
            calls = []
            for call in message.tool_calls:
                calls.append(call if call.call_id else replace(call, call_id=f"call{count:05d}"))
                count += 1
            open_calls = list(calls)
            yield replace(message, tool_calls=tuple(calls))
        elif message.role == "tool":
            answered = _answered(message, open_calls)
            if answered:
                open_calls.remove(answered)
            yield _named(message, answered) if answered else message
        else:
            yield message


def _named(result: Message, call: ToolCall) -> Message:
    return replace(result, tool_call_id=result.tool_call_id or call.call_id, tool_name=result.tool_name or call.name)


def _answered(result: Message, calls: Sequence[ToolCall]) -> ToolCall | None:
    """The call that this is the result of."""
    if result.tool_call_id:
        return next((call for call in calls if call.call_id == result.tool_call_id), None)
    if result.tool_name:
        return next((call for call in calls if call.name == result.tool_name), None)
    return next(iter(calls), None)
