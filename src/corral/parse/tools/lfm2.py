"""LFM2: calls as Python writes them, in a list between tags that its template does not show."""

from typing import Final

from corral.parse.formats import CallFormat, Pair, PythonCalls

FORMAT: Final = CallFormat(
    around_all=Pair("<|tool_call_start|>", "<|tool_call_end|>"),
    separator=", ",
    body=PythonCalls(list_open="[", list_close="]"),
)


def recognise(source: str) -> CallFormat | None:
    return FORMAT if "<|tool_list_start|>" in source or "List of tools: [" in source else None
