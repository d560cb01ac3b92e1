"""Reads a call whose arguments stand in tags, as bare text: `<function=NAME><parameter=KEY>VALUE</parameter></function>`."""

from collections.abc import Callable, Sequence
from typing import Any

from corral.parse.formats import TaggedCalls
from corral.parse.open_call import OpenCall
from corral.parse.schema import Toolbox, json_value
from corral.parse.source import Marks, NotACallError, Reading, Source, mark
from corral.parse.units import tag_parts


class TaggedCall:
    """What comes behind the name. `ends` are the tags that may end the call."""

    def __init__(
        self, source: Source, body: TaggedCalls, tools: Toolbox, call: OpenCall, *, name: str, ends: Sequence[str]
    ) -> None:
        self._source = source
        self._body = body
        self._tools = tools
        self._call = call
        self._name = name
        self._ends = ends
        self._key_begins = tag_parts(body.before_key)
        self._is_typed = body.before_string != body.before_value  # the tags tell strings from other values

    def read(self) -> Reading[None]:
        """To the end of the call. Raises NotACallError where anything else comes."""
        source, call = self._source, self._call
        yield from self._expect(tag_parts(self._body.after_name))
        call.named(self._name)
        next_part = Marks([*self._key_begins[:1], *self._ends])
        arguments: dict[str, Any] = {}
        while True:
            yield from source.space()
            found = yield from source.match(next_part)
            if found in self._ends:
                break
            if not found:
                raise NotACallError
            yield from self._expect(self._key_begins[1:])
            yield from self._argument(arguments)
        call.sign("}" if arguments else "{}")
        call.done(self._name, arguments)

    def _expect(self, parts: Sequence[str]) -> Reading[None]:
        for part in parts:
            yield from self._source.space()
            yield from self._source.expect(part)

    def _argument(self, arguments: dict[str, Any]) -> Reading[None]:
        """Adds the next one, what is before its key having been taken."""
        key, is_string = yield from self._key()
        call = self._call
        call.sign("," if arguments else "{")
        call.value(key)
        call.sign(":")
        if is_string or (not self._is_typed and self._tools.is_text(self._name, key)):
            call.sign('"')
            arguments[key] = yield from self._text(call.text)
            call.sign('"')
        else:
            text = yield from self._text(_unheard)
            arguments[key] = json_value(text) if self._is_typed else self._tools.typed(self._name, key, text)
            call.value(arguments[key])

    def _key(self) -> Reading[tuple[str, bool]]:
        """The key, and whether what is behind it says that a string comes."""
        body = self._body
        befores = {tuple(tag_parts(body.before_value)): False}
        if self._is_typed:
            befores = {(body.before_value.strip(),): False, (body.before_string.strip(),): True}
        pieces: list[str] = []
        found = yield from self._source.find(Marks(parts[0] for parts in befores), pieces.append)
        parts = next((parts for parts in befores if parts[0] == found), None)
        if parts is None:
            raise NotACallError
        yield from self._expect(parts[1:])
        return "".join(pieces).strip(), befores[parts]

    def _text(self, hear: Callable[[str], None]) -> Reading[str]:
        """The value, up to what is behind it."""
        lines = _Lines(self._body, hear)
        if not (yield from self._source.find(mark(tag_parts(self._body.after_value)[0]), lines.add)):
            raise NotACallError
        return "".join(lines.pieces)


class _Lines:
    """A value as it is read, without the one newline at each end that the format puts there."""

    def __init__(self, body: TaggedCalls, hear: Callable[[str], None]) -> None:
        self.pieces: list[str] = []
        self._hear = hear
        self._may_begin = body.before_value.endswith("\n")
        self._may_end = body.after_value.startswith("\n")
        self._held = ""  # a newline that may be the last

    def add(self, text: str) -> None:
        if self._may_begin:
            text = text.removeprefix("\n")
            self._may_begin = False
        text = self._held + text
        self._held = "\n" if self._may_end and text.endswith("\n") else ""
        if text := text[: len(text) - len(self._held)]:
            self.pieces.append(text)
            self._hear(text)


def _unheard(_text: str) -> None:
    pass
