"""Reads calls: from the marker that opens one to its end, by the format of the model's family.

A reader is started once one of its `openers` has been taken, or for a bare format where a call may begin. It gives each call as
soon as it is complete, and its parts before, where they are wanted. NotACallError leaves what was taken since the last call to
whoever started it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from corral.parse import values
from corral.parse.call_object import CallObject
from corral.parse.formats import BracedCalls, CallFormat, JsonCalls, NamedCalls, PythonCalls, TaggedCalls
from corral.parse.open_call import Emit, OpenCall
from corral.parse.schema import Toolbox
from corral.parse.source import Marks, NotACallError, Reading, Source, mark
from corral.parse.tagged_call import TaggedCall
from corral.parse.units import is_tag, tag_parts, words

_MAX_NAME_CHARS: Final = 256
_NAME: Final = re.compile(r"[^\s<>\[\](){}\"'`,=]*")
_FENCE: Final = "```"


class CallReader:
    """The calls of one answer, in one format or in several that are known for the family."""

    def __init__(self, source: Source, form: CallFormat, tools: Toolbox, *, has_parts: bool = False) -> None:
        forms = [form, *form.also]
        self._source = source
        self._tools = tools
        self._has_parts = has_parts
        self._bare = next((one for one in forms if one.is_bare), None)
        self._opened: dict[str, tuple[CallFormat, tuple[str, ...]]] = {}
        for one in forms:
            for opener, rest in _openers(one):
                self._opened.setdefault(opener, (one, rest))
        self.openers = Marks(self._opened)
        self.closers = Marks(closer for one in forms for closer in _closers(one))

    @property
    def is_bare(self) -> bool:
        """Whether a call may begin with no marker before it."""
        return self._bare is not None

    def may_begin_with(self, char: str) -> bool:
        """Whether a call may begin with this character, no marker before it."""
        return self._bare is not None and bool(char) and char in "{["

    def read(self, opener: str, emit: Emit, *, is_known_only: bool = False) -> Reading[None]:
        """The calls that come now. The opener has been taken; "" is a bare beginning."""
        form, rest = self._opened[opener] if opener else (self._bare, ())
        assert form
        bodies = _Bodies(self._source, self._tools, form, emit, is_known_only or not opener, self._has_parts)
        for part in rest:
            yield from self._source.space()
            if not (yield from self._source.literal(part)):
                if (yield from self._source.peek()) in ("{", "[") and not isinstance(form.body, PythonCalls):
                    break
                if is_tag(part):
                    raise NotACallError
        yield from bodies.read()


def _openers(form: CallFormat) -> list[tuple[str, tuple[str, ...]]]:
    """The texts that a call may begin with, each with what must follow it before the body.

    Some models leave out what is around all calls, or the outer of two tags around each.
    """
    every, each = words(form.around_all.open), words(form.around_each.open)
    parts = [*every, *each]
    tags = [at for at, part in enumerate(parts) if is_tag(part)]
    begins = {0, *tags[:1]} if parts else set()
    inner = [at for at in tags if at >= len(every)]
    begins.update(inner if isinstance(form.body, TaggedCalls) else inner[:1])  # a name follows: it says enough by itself
    return [(parts[at], tuple(parts[at + 1 :])) for at in sorted(begins)]


def _closers(form: CallFormat) -> list[str]:
    """The tags that may come after a call, and say nothing any more."""
    parts = [*tag_parts(form.around_each.close), *words(form.around_each.close), *words(form.around_all.close)]
    return [part for part in parts if is_tag(part) or part == _FENCE]


@dataclass(frozen=True, slots=True)
class _Bodies:
    """Reads what stands between the tags around a call."""

    source: Source
    tools: Toolbox
    form: CallFormat
    emit: Emit
    is_known_only: bool  # a call of any other tool is none
    has_parts: bool

    def read(self) -> Reading[None]:
        yield from self.source.space()
        char = yield from self.source.peek()
        match self.form.body:
            case JsonCalls() as body:
                yield from self._json_calls(body)
            case PythonCalls():
                yield from self._python_calls()
            case _ if char and char in "{[":  # a model that falls back into the most usual form
                yield from self._json_calls(JsonCalls())
            case NamedCalls() as body:
                yield from self._named_call(body)
            case TaggedCalls() as body:
                name = yield from self._name()
                ends = tag_parts(self.form.around_each.close)[:1]
                yield from TaggedCall(self.source, body, self.tools, self._open_call(), name=name, ends=ends).read()
            case BracedCalls() as body:
                name = yield from self._name()
                yield from self._object(name, values.braces(body.quote))

    def _open_call(self) -> OpenCall:
        return OpenCall(self.source, self.emit, has_parts=self.has_parts, accepts=self._accepts)

    def _accepts(self, name: str) -> bool:
        return bool(name) and (not self.is_known_only or name in self.tools)

    def _object(
        self, name: str, dialect: values.Dialect, around: str = "{}", between: str = ":", call_id: str = ""
    ) -> Reading[None]:
        """The arguments of a call whose name has been taken."""
        call = self._open_call()
        call.call_id = call_id
        call.named(name)
        call.done(name, (yield from values.members(self.source, dialect, around, between, echo=call)))

    def _name(self) -> Reading[str]:
        return (yield from self.source.run(_NAME, _MAX_NAME_CHARS))

    def _json_calls(self, body: JsonCalls) -> Reading[None]:
        """One object, a list of them, or several one after the other."""
        source = self.source
        if (yield from source.literal("[")):
            yield from self._list(lambda: self._json_call(body))
            return
        while True:
            yield from self._json_call(body)
            yield from source.space()
            has_more = (yield from source.literal(";")) or (yield from source.literal(","))
            yield from source.space()
            if (yield from source.peek()) != "{":
                break
        if has_more:
            raise NotACallError

    def _list(self, read_one: Callable[[], Reading[None]]) -> Reading[None]:
        """What stands in a list, its beginning having been taken. Its end may be missing where the text is over."""
        source = self.source
        has_more = True
        while has_more:
            yield from source.space()
            if (yield from source.literal("]")):
                return
            yield from read_one()
            yield from source.space()
            has_more = yield from source.literal(",")
        if not (yield from source.literal("]")) and (yield from source.peek()):
            raise NotACallError

    def _json_call(self, body: JsonCalls) -> Reading[None]:
        yield from CallObject(self.source, body, self.tools, self._open_call(), is_known_only=self.is_known_only).read()

    def _python_calls(self) -> Reading[None]:
        if (yield from self.source.literal("[")):
            yield from self._list(self._python_call)
        else:
            yield from self._python_call()

    def _python_call(self) -> Reading[None]:
        if (yield from self.source.peek()) == "{":
            yield from self._json_call(JsonCalls())
            return
        name = (yield from self._name()).removesuffix(".call")
        yield from self._object(name, values.PYTHON, "()", "=")

    def _named_call(self, body: NamedCalls) -> Reading[None]:
        source = self.source
        name = yield from self._name()
        if body.before_id == ":":  # the call's number in the conversation; name and number are its id
            head, _, number = name.rpartition(":")
            is_numbered = number.isdigit()
            call_id = "".join(words(self.form.around_each.open)[-1:]) + name if is_numbered else ""
            yield from self._arguments(head if is_numbered else name, words(body.before_arguments), call_id)
        elif body.before_id and (yield from source.literal(body.before_id)):
            pieces: list[str] = []
            yield from source.find(mark(words(body.before_arguments)[0]), _short(pieces))
            yield from self._arguments(name, words(body.before_arguments)[1:], "".join(pieces).strip())
        else:
            yield from self._arguments(name, words(body.before_arguments))

    def _arguments(self, name: str, before: Sequence[str], call_id: str = "") -> Reading[None]:
        source = self.source
        for part in before:
            yield from source.space()
            if not (yield from source.literal(part)) and is_tag(part):
                raise NotACallError
        yield from source.space()
        yield from self._object(name, values.JSON, call_id=call_id)
        yield from source.space()
        yield from source.literal(_FENCE)


def _short(pieces: list[str]) -> Callable[[str], None]:
    """Collects an id; raises NotACallError once it is too long for one."""

    def collect(text: str) -> None:
        pieces.append(text)
        if sum(map(len, pieces)) > _MAX_NAME_CHARS:
            raise NotACallError

    return collect
