"""Reads calls: from the marker that opens one to its end, by the format of the model's family.

A reader is started once one of its `openers` has been taken, or for a bare format where a call may begin. It gives each call as
soon as it is complete. NotACallError leaves what was taken since the last call to whoever started it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from corral.parse import values
from corral.parse.events import Call
from corral.parse.formats import BracedCalls, CallFormat, JsonCalls, NamedCalls, PythonCalls, TaggedCalls
from corral.parse.schema import Toolbox, json_value
from corral.parse.source import Marks, NotACallError, Reading, Source, mark
from corral.parse.units import is_tag, tag_parts, words

Emit: TypeAlias = Callable[[Call], None]

_MAX_NAME_CHARS: Final = 256
_NAME: Final = re.compile(r"[^\s<>\[\](){}\"'`,=]*")
_FENCE: Final = "```"
_ARGUMENT_KEYS: Final = ("arguments", "parameters", "args", "input")
_NAME_KEYS: Final = ("name", "tool_name", "function")
_OTHER_KEYS: Final = ("type", "id", "tool_call_id")


class CallReader:
    """The calls of one answer, in one format or in several that are known for the family."""

    def __init__(self, source: Source, form: CallFormat, tools: Toolbox) -> None:
        forms = [form, *form.also]
        self._source = source
        self._tools = tools
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
        bodies = _Bodies(self._source, self._tools, form, emit, is_known_only or not opener)
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
                yield from self._tagged_call(body)
            case BracedCalls() as body:
                name = yield from self._name()
                self._said(name, (yield from values.members(self.source, values.braces(body.quote))))

    def _said(self, name: str, arguments: dict[str, Any], call_id: str = "") -> None:
        if not name or (self.is_known_only and name not in self.tools):
            raise NotACallError
        self.emit(Call(name, arguments, self.source.commit(), call_id))

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
        call = _CallObject(body, self.tools, is_known_only=self.is_known_only)
        members = values.members(self.source, values.JSON, on_key=call.on_key, on_value=call.on_value)
        self._said(*call.meant((yield from members)))

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
        self._said(name, (yield from values.members(self.source, values.PYTHON, "()", "=")))

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
        self._said(name, (yield from values.members(source, values.JSON)), call_id)
        yield from source.space()
        yield from source.literal(_FENCE)

    def _tagged_call(self, body: TaggedCalls) -> Reading[None]:
        source = self.source
        name = yield from self._name()
        for part in tag_parts(body.after_name):
            yield from source.space()
            yield from source.expect(part)
        ends = tag_parts(self.form.around_each.close)[:1]
        key_begins = tag_parts(body.before_key)
        next_part = Marks([*key_begins[:1], *ends])
        arguments: dict[str, Any] = {}
        while True:
            yield from source.space()
            found = yield from source.match(next_part)
            if found in ends:
                break
            if not found:
                raise NotACallError
            for part in key_begins[1:]:
                yield from source.space()
                yield from source.expect(part)
            key, text, is_text = yield from self._tagged_argument(body)
            differ = body.before_string != body.before_value
            typed = text if is_text else json_value(text) if differ else self.tools.typed(name, key, text)
            arguments[key] = typed
        self._said(name, arguments)

    def _tagged_argument(self, body: TaggedCalls) -> Reading[tuple[str, str, bool]]:
        """Key and text of the value, and whether the format says that it is a string."""
        source = self.source
        befores = {tuple(tag_parts(body.before_value)): False}
        if body.before_string != body.before_value:
            befores = {(body.before_value.strip(),): False, (body.before_string.strip(),): True}
        pieces: list[str] = []
        found = yield from source.find(Marks(parts[0] for parts in befores), pieces.append)
        parts = next((parts for parts in befores if parts[0] == found), None)
        if parts is None:
            raise NotACallError
        for part in parts[1:]:
            yield from source.space()
            yield from source.expect(part)
        key = "".join(pieces).strip()
        pieces.clear()
        if not (yield from source.find(mark(tag_parts(body.after_value)[0]), pieces.append)):
            raise NotACallError
        return key, _without_own_lines("".join(pieces), body), befores[parts]


def _without_own_lines(text: str, body: TaggedCalls) -> str:
    """The value without the one newline at each end that the format puts there."""
    if body.before_value.endswith("\n"):
        text = text.removeprefix("\n")
    return text.removesuffix("\n") if body.after_value.startswith("\n") else text


def _short(pieces: list[str]) -> Callable[[str], None]:
    """Collects an id; raises NotACallError once it is too long for one."""

    def collect(text: str) -> None:
        pieces.append(text)
        if sum(map(len, pieces)) > _MAX_NAME_CHARS:
            raise NotACallError

    return collect


class _CallObject:
    """An object that is a call, checked as it is read: where no marker says so, the first wrong key ends it."""

    def __init__(self, body: JsonCalls, tools: Toolbox, *, is_known_only: bool) -> None:
        self._name_keys = tuple(dict.fromkeys((body.name_key, *_NAME_KEYS)))
        self._argument_keys = tuple(dict.fromkeys((body.arguments_key, *_ARGUMENT_KEYS)))
        self._body = body
        self._tools = tools
        self._is_known_only = is_known_only

    def on_key(self, key: str) -> None:
        if self._is_known_only and key not in (*self._name_keys, *self._argument_keys, *_OTHER_KEYS, self._body.id_key):
            raise NotACallError

    def on_value(self, key: str, value: Any) -> None:
        if self._is_known_only and key in self._name_keys and isinstance(value, str) and value not in self._tools:
            raise NotACallError

    def meant(self, read: dict[str, Any]) -> tuple[str, dict[str, Any], str]:
        """Name, arguments and id. Raises NotACallError where there is no name, or where the arguments are no object."""
        if self._body.is_keyed and len(read) == 1 and isinstance(arguments := next(iter(read.values())), dict):
            return next(iter(read)), arguments, ""
        inner = read.get("function")
        said = inner if isinstance(inner, dict) else read
        name = next((said[key] for key in self._name_keys if isinstance(said.get(key), str)), "")
        key = next((key for key in self._argument_keys if key in said), None)
        arguments = said[key] if key else {}
        if self._is_known_only and key is None:
            raise NotACallError
        if isinstance(arguments, str):
            arguments = json_value(arguments) if arguments.strip() else {}
        if arguments is None:
            arguments = {}
        if not isinstance(arguments, dict):
            raise NotACallError
        call_id = read.get(self._body.id_key)
        return name, arguments, call_id if isinstance(call_id, str) else ""
