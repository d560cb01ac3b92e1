"""Reads a call that is a JSON object: its name and its arguments are members, in any order and under any of the usual keys.

What comes first counts, of two names as of two sets of arguments: what has been read of a call never means another one later.
"""

from typing import Any, Final

from corral.parse import values
from corral.parse.formats import JsonCalls
from corral.parse.open_call import OpenCall
from corral.parse.schema import Toolbox, json_value
from corral.parse.source import NotACallError, Reading, Source
from corral.parse.values import Echo

_ARGUMENT_KEYS: Final = ("arguments", "parameters", "args", "input")
_NAME_KEYS: Final = ("name", "tool_name", "function")
_OTHER_KEYS: Final = ("type", "id", "tool_call_id")
_INNER_KEY: Final = "function"  # of an object in the object that has name and arguments, as OpenAI's API writes it
_MISSING: Final = object()


class CallObject:
    """Checked as it is read: where no marker says that it is a call, the first wrong key ends it."""

    def __init__(
        self,
        source: Source,
        body: JsonCalls,
        tools: Toolbox,
        call: OpenCall,
        *,
        is_known_only: bool,
        is_inner: bool = False,
    ) -> None:
        self._source = source
        self._body = body
        self._tools = tools
        self._call = call
        self._is_known_only = is_known_only
        self._is_inner = is_inner
        self._echo = Echo() if body.is_keyed else call  # of members whose keys might be the names of tools
        self._name_keys = (body.name_key, *_NAME_KEYS)
        self._argument_keys = (body.arguments_key, *_ARGUMENT_KEYS)
        self._known_keys = frozenset((*self._name_keys, *self._argument_keys, *_OTHER_KEYS, body.id_key))
        self.name = ""
        self._arguments: Any = _MISSING
        self._inner: CallObject | None = None
        self._is_keyed = False  # its first key turned out to be the name
        self._key_count = 0

    def read(self) -> Reading[None]:
        """The whole call. Raises NotACallError where there is no name, or where the arguments are no object."""
        read = yield from self.members()
        keys = list(read)
        if self._body.is_keyed and len(keys) == 1 and isinstance(read[keys[0]], dict):
            self._call.done(keys[0], read[keys[0]])
        else:
            said = self._inner or self
            self._call.done(said.name, said.meant_arguments())

    def members(self, depth: int = 1) -> Reading[dict[str, Any]]:
        """The object, as it is read."""
        on_key, read_value = self._on_key, self._member
        return values.members(self._source, values.JSON, depth=depth, on_key=on_key, read_value=read_value)

    def _on_key(self, key: str) -> None:
        self._key_count += 1
        is_known = key in self._known_keys or (self._body.is_keyed and key in self._tools)
        if self._is_keyed or (self._is_known_only and not self._is_inner and not is_known):
            raise NotACallError

    def _member(self, key: str, depth: int) -> Reading[Any]:
        """What stands under that key."""
        yield from self._source.space()
        begin = yield from self._source.peek()
        is_open = not self._inner and (not self.name or self._arguments is _MISSING)
        if is_open and not self._is_inner and begin == "{":
            if key == _INNER_KEY:
                return (yield from self._read_inner(depth))
            if self._body.is_keyed and self._key_count == 1 and key not in self._known_keys:
                return (yield from self._read_keyed(key, depth))
        if is_open and self._arguments is _MISSING and key in self._argument_keys:
            return (yield from self._read_arguments(begin, depth))
        read = yield from values.value(self._source, values.JSON, depth)
        if isinstance(read, str):
            self._read_text(key, read)
        return read

    def _read_inner(self, depth: int) -> Reading[Any]:
        self._call.forget()
        self._inner = CallObject(
            self._source, self._body, self._tools, self._call, is_known_only=self._is_known_only, is_inner=True
        )
        return (yield from self._inner.members(depth + 1))

    def _read_arguments(self, begin: str, depth: int) -> Reading[Any]:
        if self.name:
            self._call.named(self.name)
        echo = self._echo if begin == "{" else _ObjectInText(self._echo) if begin == '"' else Echo()
        self._arguments = yield from values.value(self._source, values.JSON, depth, echo)
        return self._arguments

    def _read_keyed(self, name: str, depth: int) -> Reading[Any]:
        """The arguments, under the name as their key. No other member may follow."""
        self._is_keyed = True
        self._call.named(name)
        return (yield from values.value(self._source, values.JSON, depth, self._call))

    def _read_text(self, key: str, text: str) -> None:
        if key in self._name_keys:
            if self._is_known_only and text not in self._tools:
                raise NotACallError
            self.name = self.name or text
            if self._arguments is not _MISSING and not self._inner:
                self._call.named(self.name)
        elif key == self._body.id_key:
            self._call.call_id = self._call.call_id or text

    def meant_arguments(self) -> dict[str, Any]:
        """The arguments, after the object has been read. Raises NotACallError where they are no object."""
        given = self._arguments
        if given is _MISSING and self._is_known_only:
            raise NotACallError
        if isinstance(given, str):
            given = json_value(given) if given.strip() else {}
        if given is _MISSING or given is None:
            given = {}
        if not isinstance(given, dict):
            raise NotACallError
        return given


class _ObjectInText(Echo):
    """Hears a string that is an object in JSON, and has it echoed as the object that it means."""

    def __init__(self, echo: Echo) -> None:
        self._source = Source()
        self._reading: Reading[None] | None = self._read(echo)

    def text(self, text: str) -> None:
        if self._reading:
            self._source.feed(text)
            try:
                next(self._reading)
            except (StopIteration, NotACallError):
                self._reading = None

    def _read(self, echo: Echo) -> Reading[None]:
        yield from self._source.space()
        if (yield from self._source.peek()) == "{":
            yield from values.value(self._source, values.JSON, echo=echo)
