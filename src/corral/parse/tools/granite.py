"""Granite 3: a JSON list after a token of its own; its template shows no calls, and tells of answers in tags as prose."""

from typing import Final

from corral.parse.formats import CallFormat, JsonCalls, Pair

FORMAT: Final = CallFormat(around_all=Pair("<|tool_call|>"), separator=", ", body=JsonCalls(list_open="[", list_close="]"))


def recognise(source: str) -> CallFormat | None:
    return FORMAT if "<|tool_call|>" in source and "<|start_of_role|>" in source else None
