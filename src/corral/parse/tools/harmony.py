"""gpt-oss: messages with a channel, and a recipient for calls.

Source: OpenAI's harmony response format.
"""

import re
from typing import Final

from corral.parse.formats import CallFormat, MessageFormat, NamedCalls, Pair, Route, ThoughtFormat

_RECIPIENT: Final = re.compile(r"\bto=([^\s<]+)")
_CHANNEL: Final = re.compile(r"<\|channel\|>\s*(\w*)")


def recognise(source: str) -> MessageFormat | None:
    return FORMAT if "<|channel|>" in source and "<|message|>" in source and "<|start|>" in source else None


def _route(header: str) -> Route | None:
    """`assistant to=functions.NAME<|channel|>commentary json`, with the recipient before or behind the channel."""
    recipient, channel = _RECIPIENT.search(header), _CHANNEL.search(header)
    if recipient:
        return Route("call", recipient[1].removeprefix("functions."))
    if channel is None:
        return Route("content") if header.strip() == "assistant" else None
    return Route("thinking") if channel[1] == "analysis" else Route("content")


FORMAT: Final = MessageFormat(
    family="harmony",
    start="<|start|>",
    after_header="<|message|>",
    ends=("<|end|>", "<|return|>", "<|call|>"),
    header_begins=("<|channel|>", "<|constrain|>", "to="),
    route=_route,
    thought=ThoughtFormat(open="<|channel|>analysis<|message|>", close="<|end|>"),
    calls=CallFormat(
        around_each=Pair("<|channel|>commentary to=functions.", "<|call|>"),
        body=NamedCalls(before_arguments=" <|constrain|>json<|message|>"),
        separator="<|start|>assistant",
    ),
)
