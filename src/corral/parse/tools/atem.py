"""Muse: messages to the model itself, to the user, or to a tool; a tool's has the call in tags. Known by its name for them."""

import re
from typing import Final

from corral.parse.formats import CallFormat, MessageFormat, Pair, Route, TaggedCalls, ThoughtFormat

_RECIPIENT: Final = re.compile(r"\bto=([^\s<]+)")
_ROUTES: Final = {"self": Route("thinking"), "user": Route("content")}


def recognise(source: str) -> MessageFormat | None:
    return FORMAT if "<atem:invoke" in source and "to=self" in source else None


def _route(header: str) -> Route | None:
    recipient = _RECIPIENT.search(header)
    if recipient is None:
        return Route("content") if header.strip() == "assistant" else None
    return _ROUTES.get(recipient[1]) or Route("call", recipient[1])


FORMAT: Final = MessageFormat(
    family="atem",
    start="<|start|>",
    after_header="<|message|>",
    ends=("<|eom|>", "<|eot|>"),
    header_begins=("to=",),
    route=_route,
    thought=ThoughtFormat(open=" to=self<|message|>", close="<|eom|>"),
    calls=CallFormat(
        around_all=Pair("<atem:function_calls>\n", "\n</atem:function_calls>"),
        around_each=Pair('<atem:invoke name="', "</atem:invoke>"),
        separator="\n",
        body=TaggedCalls(
            after_name='">\n',
            before_key='<atem:parameter name="',
            before_value='">',
            before_string='">',
            after_value="</atem:parameter>\n",
        ),
    ),
)
