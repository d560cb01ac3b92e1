"""Functionary 3.2: `>>>`, a recipient, a newline, and what it is to get; `all` is the user."""

import re
from typing import Final

from corral.parse.formats import CallFormat, MessageFormat, NamedCalls, Pair, Route

_RECIPIENT: Final = re.compile(r"[\w.\-]+")


def recognise(source: str) -> MessageFormat | None:
    return FORMAT if ">>>all" in source else None


def _route(header: str) -> Route | None:
    if not _RECIPIENT.fullmatch(header):
        return None
    return Route("content") if header == "all" else Route("call", header)


FORMAT: Final = MessageFormat(
    family="functionary-3.2",
    start=">>>",
    after_header="\n",
    ends=(),
    header_begins=(),
    route=_route,
    thought=None,
    calls=CallFormat(around_each=Pair(">>>"), body=NamedCalls(before_arguments="\n")),
)
