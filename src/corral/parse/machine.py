"""The parser of an answer: text in, events out. One for each answer.

It holds back only what may be the beginning of a tag or of a call, and white space where a tag may follow. It never raises and
never loses a character: what began like a call and is none comes back as content, or as a CallCut where the answer ended in it
and parts of it had been told. Merged, the events are the same however the text is cut.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias

from corral.parse.calls import CallReader
from corral.parse.events import Call, CallCut, CallPart, Content, Event, Markup, Thinking, merged
from corral.parse.formats import PlainFormat
from corral.parse.schema import Toolbox
from corral.parse.source import Marks, NotACallError, Reading, Source


class Parser(Protocol):
    """What takes one answer apart."""

    def feed(self, text: str) -> list[Event]:
        """What is clear by now."""
        ...

    def close(self) -> list[Event]:
        """The rest: the answer is over. Nothing may be fed after it."""
        ...


class ReadingParser(ABC):
    """A parser that is a generator over a source."""

    def __init__(self) -> None:
        self.source = Source()
        self._events: list[Event] = []
        self._told = ""  # the name of the call that parts have been told of, until it is complete
        self._run: Generator[None, None, None] | None = None

    def feed(self, text: str) -> list[Event]:
        self.source.feed(text)
        return self._go_on()

    def close(self) -> list[Event]:
        self.source.is_closed = True
        return self._go_on()

    @abstractmethod
    def run(self) -> Reading[None]:
        """Reads the whole answer."""

    def emit(self, event: Event) -> None:
        if event.raw:
            self._events.append(event)

    def emit_content(self, _text: str = "") -> None:
        self.emit(Content(self.source.commit()))

    def emit_thinking(self, _text: str = "") -> None:
        self.emit(Thinking(self.source.commit()))

    def emit_markup(self) -> None:
        self.emit(Markup(self.source.commit()))

    def emit_call(self, event: Call | CallPart) -> None:
        self._told = event.name or self._told if isinstance(event, CallPart) else ""
        self._events.append(event)

    def emit_no_call(self) -> None:
        """What was taken is no call, or not a whole one."""
        name, self._told = self._told, ""
        if name and self.source.is_closed:
            self.source.rest()
            self.emit(CallCut(name, self.source.commit()))
        else:
            self.emit_content()

    def _go_on(self) -> list[Event]:
        self._run = self._run or self.run()
        next(self._run, None)
        events, self._events = self._events, []
        return merged(events) if len(events) > 1 else events


class PlainParser(ReadingParser):
    """For answers that are a thought, if any, then text with calls in it."""

    def __init__(self, form: PlainFormat, prompt: str, tools: Sequence[Mapping[str, Any]], *, has_parts: bool) -> None:
        super().__init__()
        toolbox = Toolbox(tools)
        self._calls = CallReader(self.source, form.calls, toolbox, has_parts=has_parts) if toolbox else None
        self._openers = self._calls.openers.texts if self._calls else ()
        closers = self._calls.closers.texts if self._calls else ()
        self._open, self._close = (form.thought.open.strip(), form.thought.close.strip()) if form.thought else ("", "")
        content_open, self._content_close = form.around_content.open.strip(), form.around_content.close.strip()
        tags = [self._open, self._close, content_open]
        self._at_start = Marks([*tags, *self._openers])
        self._after_call = Marks([*tags, *self._openers, *closers])
        self._in_content = Marks([*filter(_is_unmistakable, tags), self._content_close, *self._openers])
        self._in_thought = Marks([self._close, *self._openers])
        self._calling = Marks(self._openers)
        self._more_calls = Marks([*self._openers, *closers])
        end = prompt.rstrip()
        self._is_thinking = bool(self._open) and end.endswith(self._open)
        self._place: _Place = "start"
        if self._close and end.endswith(self._close):
            self._place = "after a tag"
        elif not self._at_start and not (self._calls and self._calls.is_bare):
            self._place = "content"

    def run(self) -> Reading[None]:
        if self._is_thinking:
            yield from self._thought()
        while (yield from self.source.peek()):
            yield from self._content() if self._place == "content" else self._start()

    def _start(self) -> Reading[None]:
        """One step where nothing has been said since the answer's start, a tag or a call: over one tag, or over white space."""
        yield from self.source.space()
        found = yield from self.source.match(self._after_call if self._place == "after a call" else self._at_start)
        if found and found == self._open:
            yield from self._thought()
        elif found in self._openers:
            yield from self._call(found)
        elif found:
            self.emit_markup()
            self._place = "after a call" if self._place == "after a call" else "after a tag"
        else:
            char = yield from self.source.peek()
            if self._calls and self._calls.may_begin_with(char):
                yield from self._call("")
                return
            if self._place == "after a tag" or (self._place == "after a call" and not char):
                self.emit_markup()
            else:
                self.emit_content()
            self._place = "content"

    def _content(self) -> Reading[None]:
        """To the next tag and what it begins, or to the end."""
        found = yield from self.source.find(self._in_content, self.emit_content)
        if found and found == self._content_close and not _is_unmistakable(found):
            yield from self.source.space()
            found = yield from self.source.match(self._calling)
            if not found and not (yield from self.source.peek()):
                self.emit_markup()  # it is a tag only where nothing else is said after it
        if found in self._openers:
            yield from self._call(found)
        elif found and found == self._open:
            yield from self._thought()
        elif found:
            self.emit_markup()
        else:
            self.emit_content()

    def _thought(self) -> Reading[None]:
        """To the end of the thought. Its first tag has been taken, here or in the prompt."""
        yield from self.source.space()
        self.emit_markup()
        while True:
            found = yield from self.source.find(self._in_thought, self.emit_thinking)
            if not found:
                return
            if found == self._close:
                self.emit_markup()
                self._place = "after a tag"
                return
            yield from self._calls_in_thought(found)

    def _calls_in_thought(self, opener: str) -> Reading[None]:
        """A model may forget to end its thought before it calls: where the answer ends with calls, they count.

        Whatever else follows, they were part of the thought.
        """
        assert self._calls
        events: list[Event] = []
        try:
            while opener:
                if opener in self._openers:
                    yield from self._calls.read(opener, events.append, is_known_only=True)
                yield from self.source.space()
                events.append(Markup(self.source.commit()))
                opener = yield from self.source.match(self._more_calls)
            is_end = not (yield from self.source.peek())
        except NotACallError:
            is_end = False
        if is_end:
            for event in events:
                if isinstance(event, Call | CallPart):
                    self.emit_call(event)
                else:
                    self.emit(event)
        else:
            self.emit(Thinking("".join(event.raw for event in events) + self.source.commit()))

    def _call(self, opener: str) -> Reading[None]:
        assert self._calls
        try:
            yield from self._calls.read(opener, self.emit_call)
        except NotACallError:
            self.emit_no_call()
            self._place = "content"
        else:
            self.emit_markup()
            self._place = "after a call"


_Place: TypeAlias = Literal["start", "after a tag", "after a call", "content"]
_UNMISTAKABLE: Final = re.compile(r"<[^<>]*[|\uff5c:][^<>]*>|\[[A-Z /]+\]")


def _is_unmistakable(tag: str) -> bool:
    """Whether it is a tag wherever it stands. A plain word in angle brackets may be what a text speaks of."""
    return bool(_UNMISTAKABLE.match(tag))
