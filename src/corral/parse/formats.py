"""How a family of models writes thoughts and calls: plain data, for a parser to read by and for a grammar to be made of.

All texts are exact, white space included, as the model's own template writes them; parsers take white space around tags as it
comes. With several calls an answer is: around_all.open, then for each call around_each.open, the body, around_each.close, with
`separator` between two, then around_all.close. Where a body stands in a JSON list, list_open and list_close are inside of
around_all, and the separator is the list's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Pair:
    """What stands before something and after it."""

    open: str = ""
    close: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonCalls:
    """An object with the name and the arguments in it: `{"name": NAME, "arguments": {...}}`."""

    name_key: str = "name"
    arguments_key: str = "arguments"
    id_key: str = ""  # of a third member, which some families write
    id_first: bool = False  # it stands before the others
    id_number: Literal["", "text", "number"] = ""  # it is the call's number in the answer, in quotes or not
    inside: str = ""  # the key of an inner object that has the name and the arguments
    is_keyed: bool = False  # the object's one key is the name: `{NAME: {...}}`
    arguments_as_text: bool = False  # the arguments are JSON in a string
    is_indented: bool = False  # it is written on several lines
    list_open: str = ""  # "[" where the calls are a JSON list
    list_close: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedCalls:
    """The name, `before_arguments`, and the arguments as a JSON object. Between the two may stand an id after `before_id`."""

    before_arguments: str
    before_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggedCalls:
    """The name, `after_name`, and for each argument `before_key`, the key, `before_value`, the value, `after_value`.

    Strings stand as they are, without escapes; other values are JSON. `before_string` is `before_value` for strings; where the
    two are equal, the tool's schema alone tells a string from another value.
    """

    after_name: str
    before_key: str
    before_value: str
    before_string: str
    after_value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BracedCalls:
    """The name and `{key:value,...}`, with bare keys and with strings between `quote` and `quote`, without escapes."""

    quote: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonCalls:
    """Calls as Python writes them: `NAME(key="value", ...)`; in a list with `list_open` and `list_close`."""

    list_open: str = ""
    list_close: str = ""


Body: TypeAlias = JsonCalls | NamedCalls | TaggedCalls | BracedCalls | PythonCalls


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFormat:
    """How calls are written. With nothing around them they count at the beginning of an answer alone."""

    body: Body
    around_all: Pair = Pair()
    around_each: Pair = Pair()
    separator: str = ""
    also: "tuple[CallFormat, ...]" = ()  # other ways in which models of the family are known to write calls

    @property
    def is_bare(self) -> bool:
        """Whether nothing marks a call but itself."""
        return not (self.around_all.open + self.around_each.open).strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class ThoughtFormat:
    """What is around a thought. Where the prompt ends with `open`, the model is thinking already."""

    open: str
    close: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainFormat:
    """An answer is a thought, if any, then text with calls in it or after it."""

    family: str
    thought: ThoughtFormat | None = None
    calls: CallFormat
    around_content: Pair = Pair()  # tags around what is said, where a family has such


@dataclass(frozen=True, slots=True)
class Route:
    """Whom a message is for. A call's is the tool."""

    to: Literal["thinking", "content", "call"]
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFormat:
    """An answer is a row of messages, each with a header that says whom it is for.

    `start`, a header, `after_header`, the text, and one of `ends`, or the next `start` at once. The prompt ends in the midst of
    the first header, or before it.
    """

    family: str
    start: str
    after_header: str
    ends: tuple[str, ...]
    header_begins: tuple[str, ...]  # one of them begins an answer's first header; none: anything may
    route: Callable[[str], Route | None]
    thought: ThoughtFormat | None
    calls: CallFormat


AnswerFormat: TypeAlias = PlainFormat | MessageFormat
