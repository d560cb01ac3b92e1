"""Phi-4-mini: tools stand between <|tool|> tags, calls as a JSON list between others, which its template does not show."""

from typing import Final

from corral.parse.formats import CallFormat, JsonCalls, Pair
from corral.parse.tools.generic import BARE

FORMAT: Final = CallFormat(
    around_all=Pair("<|tool_call|>", "<|/tool_call|>"),
    separator=", ",
    body=JsonCalls(list_open="[", list_close="]"),
    also=(BARE,),
)


def recognise(source: str) -> CallFormat | None:
    return FORMAT if "<|tool|>" in source or "<|/tool|>" in source else None
