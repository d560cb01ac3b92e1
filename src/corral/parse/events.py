"""What an answer's text turns out to be. Joined in their order, the raw texts of all events are the answer itself."""

from collections.abc import Iterable
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


Event: TypeAlias = Thinking | Content | Markup | Call


def merged(events: Iterable[Event]) -> list[Event]:
    """The same with neighbours of one kind put together."""
    out: list[Event] = []
    for kind, group in groupby(events, type):
        if kind is Call:
            out.extend(group)
        else:
            out.append(kind("".join(event.raw for event in group)))
    return out
