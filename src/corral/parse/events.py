"""What an answer's text turns out to be. Joined in their order, the raw texts of all events are the answer itself.

Whoever asks for the parts of calls has them before each call: one or more CallPart with no other event between them, then the
Call that they are parts of. Where the answer ends before the call does, a CallCut comes instead. Where what follows makes it no
call after all, its whole text comes as content, as that of any broken call does, and the parts stand for nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class _Piece:
    text: str

    @property
    def raw(self) -> str:
        """The part of the answer that this event stands for."""
        return self.text


@dataclass(frozen=True, slots=True)
class Thinking(_Piece):
    """A part of what the model thought."""


@dataclass(frozen=True, slots=True)
class Content(_Piece):
    """A part of what the model said: also whatever looked like a call and was none."""


@dataclass(frozen=True, slots=True)
class Markup(_Piece):
    """Tags, and the white space that belongs to them. Nobody is to see it; it is told so that nothing goes missing."""


@dataclass(frozen=True, slots=True)
class Call:
    """A complete call of a tool. The arguments keep the model's order."""

    name: str
    arguments: dict[str, Any]
    raw: str  # as the model wrote it, with the tags before it
    call_id: str = ""  # where the model wrote one


@dataclass(frozen=True, slots=True)
class CallPart:
    """What has been written of a call that is not complete yet. It stands for none of the answer's text: what comes after does.

    Joined, the texts of a complete call's parts are its arguments as JSON.
    """

    name: str  # in the call's first part alone
    text: str
    call_id: str = ""  # in the first part, where the model has written one by then

    @property
    def raw(self) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class CallCut:
    """A call that the answer ended in, after parts of it had been told."""

    name: str
    raw: str  # as far as the model wrote it, with the tags before it


Event: TypeAlias = Thinking | Content | Markup | CallPart | Call | CallCut


def merged(events: Iterable[Event]) -> list[Event]:
    """The same with neighbours of one kind put together."""
    out: list[Event] = []
    for kind, group in groupby(events, type):
        if kind is CallPart:
            out.append(_joined([event for event in group if isinstance(event, CallPart)]))
        elif kind in (Call, CallCut):
            out.extend(group)
        else:
            out.append(kind("".join(event.raw for event in group)))
    return out


def _joined(parts: Sequence[CallPart]) -> CallPart:
    """Neighbours are of one call: between two there is what ended the first."""
    first = parts[0]
    return CallPart(first.name, "".join(part.text for part in parts), first.call_id) if len(parts) > 1 else first
