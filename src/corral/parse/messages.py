"""The parser for answers that are a row of messages, each with a header that says whom it is for."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from corral.parse import values
from corral.parse.calls import CallReader
from corral.parse.events import Call, CallPart
from corral.parse.formats import MessageFormat, NamedCalls, Route
from corral.parse.machine import ReadingParser
from corral.parse.open_call import OpenCall
from corral.parse.schema import Toolbox
from corral.parse.source import Marks, NotACallError, Reading

_MAX_HEADER_CHARS: Final = 300
_CONTENT: Final = Route("content")


class MessageParser(ReadingParser):
    """Reads header and text by turns. What is no header after all is content."""

    def __init__(self, form: MessageFormat, prompt: str, tools: Sequence[Mapping[str, Any]], *, has_parts: bool) -> None:
        super().__init__()
        self._form = form
        self._tools = Toolbox(tools)
        self._has_parts = has_parts
        self._calls = CallReader(self.source, form.calls, self._tools, has_parts=has_parts)
        self._call_tags = Marks([*self._calls.openers.texts, *self._calls.closers.texts])
        self._first = Marks([form.start, form.after_header, *form.header_begins])
        self._header_ends = Marks([form.after_header, form.start, *form.ends])
        self._text_ends = Marks([form.start, *form.ends])
        self._said = prompt.rpartition(form.start)[2] if form.start in prompt else ""  # of the first message, by the prompt

    def run(self) -> Reading[None]:
        route = yield from self._first_route()
        while True:
            if route.to == "call" and self._tools:
                yield from self._call(route.name)
                route = _CONTENT
            emit = self.emit_thinking if route.to == "thinking" else self.emit_content
            found = yield from self.source.find(self._text_ends, emit)
            if not found:
                return
            if found != self._form.start:
                yield from self.source.space()
                if not (yield from self.source.literal(self._form.start)):
                    self.emit_markup()
                    route = _CONTENT
                    continue
            route = yield from self._route("")

    def _first_route(self) -> Reading[Route]:
        """Where the prompt has not said it all, what the answer begins with may be the rest of a header."""
        form = self._form
        header, is_whole, _ = self._said.rpartition(form.after_header)
        if is_whole:
            return form.route(header) or _CONTENT
        if not form.header_begins:
            return (yield from self._route(self._said))
        yield from self.source.space()
        found = yield from self.source.match(self._first)
        if found == form.after_header:
            return self._checked(form.route(self._said))
        if found == form.start:
            return (yield from self._route(""))
        if found:
            return (yield from self._route(self._said + " " + found))
        self.emit_content()
        return _CONTENT

    def _route(self, said: str) -> Reading[Route]:
        """Reads what is left of a header. Where it is none, it is content, and so is what follows."""
        pieces = [said]

        def hold(text: str) -> None:
            pieces.append(text)
            if sum(map(len, pieces)) > _MAX_HEADER_CHARS:
                raise NotACallError

        try:
            found = yield from self.source.find(self._header_ends, hold)
            while found == self._form.start and not "".join(pieces).strip():  # said again what the prompt has said
                found = yield from self.source.find(self._header_ends, hold)
        except NotACallError:
            return self._checked(None)
        return self._checked(self._form.route("".join(pieces)) if found == self._form.after_header else None)

    def _checked(self, route: Route | None) -> Route:
        """Says what the taken header is. That of a call stays: it goes with the call."""
        if route is None:
            self.emit_content()
        elif route.to != "call":
            self.emit_markup()
        return route or _CONTENT

    def _call(self, name: str) -> Reading[None]:
        source = self.source
        try:
            yield from source.space()
            if isinstance(self._form.calls.body, NamedCalls):
                call = OpenCall(source, self.emit_call, has_parts=self._has_parts)
                call.named(name)
                call.done(name, (yield from values.members(source, values.JSON, echo=call)))
            else:
                yield from self._tagged_calls()
            yield from source.space()
        except NotACallError:
            self.emit_no_call()
        else:
            self.emit_markup()

    def _tagged_calls(self) -> Reading[None]:
        calls = 0

        def emit(event: Call | CallPart) -> None:
            nonlocal calls
            calls += isinstance(event, Call)
            self.emit_call(event)

        while found := (yield from self.source.match(self._call_tags)):
            if found in self._calls.openers.texts:
                yield from self._calls.read(found, emit)
            yield from self.source.space()
        if not calls:
            raise NotACallError
