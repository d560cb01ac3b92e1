"""What comes of an answer: its items, one after another, and the events that tell how each grows.

One item is open at a time, or none: what is of another kind ends it. Its index is its place among the items. The many plain
pieces of a text take the quick road of a NumberedTextEvent.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, TypeVar
from uuid import uuid4

from corral.api.openai.chat import arguments_text
from corral.api.openai.tokens import chat_logprobs
from corral.api.stream import NumberedTextEvent, named_event
from corral.core.types import TokenLogprob, ToolCall
from corral.service.requests import CallPart, Delta
from corral.wire import responses as wire
from corral.wire.openai import ChatTokenLogprob

_IN_PROGRESS: Final = "in_progress"
_COMPLETED: Final = "completed"
_INCOMPLETE: Final = "incomplete"

K = TypeVar("K", bound="_Item")


def new_id(prefix: str) -> str:
    return f"{prefix}_{uuid4().hex}"


class Events:
    """Writes events with their numbers. Where nobody streams there is nothing to write."""

    def __init__(self, *, is_streamed: bool) -> None:
        self._is_streamed = is_streamed
        self._count = 0

    def event(self, kind: type[wire.ResponseEvent], *values: Any) -> bytes:
        """The next event, of that kind and with those values behind its number."""
        if not self._is_streamed:
            return b""
        data = _written(kind, self._count, *values)
        self._count += 1
        return data

    def texts(self, kind: type[wire.ResponseEvent], values: Callable[[str], tuple[Any, ...]]) -> Callable[[str], bytes]:
        """Writes events that differ in a text alone; `values` gives what stands behind the number."""
        if not self._is_streamed:
            return lambda _text: b""
        envelope = NumberedTextEvent(lambda number, text: _written(kind, number, *values(text)))

        def write(text: str) -> bytes:
            data = envelope.fill(self._count, text)
            self._count += 1
            return data

        return write


def _written(kind: type[wire.ResponseEvent], number: int, *values: Any) -> bytes:
    return named_event(str(kind.__struct_config__.tag), kind(number, *values))


class Output:
    """The items of one answer. Each method that adds to them gives the events that tell of it."""

    def __init__(self, events: Events, namespaces: Mapping[str, tuple[str, str]]) -> None:
        """`namespaces` has namespace and name of each function that has one, by the name that the model knows."""
        self._events = events
        self._namespaces = namespaces
        self._items: list[wire.OutputItem] = []  # that nothing is added to any more
        self._open: _Item | None = None
        self._logprobs: tuple[TokenLogprob, ...] = ()  # of tokens whose text is still to come

    def add(self, delta: Delta) -> bytes:
        has_more = delta.thinking or delta.call_parts or delta.tool_calls
        if isinstance(self._open, _Message) and not (has_more or delta.logprobs or self._logprobs):
            return self._open.write(delta.content)
        logprobs, self._logprobs = self._logprobs + delta.logprobs, ()
        if not (has_more or delta.content):
            self._logprobs = logprobs
            return b""
        out = b""
        if delta.thinking:
            before, thought = self._in(_Thought)
            out += before + thought.write(delta.thinking)
        if delta.content:
            before, message = self._in(_Message)
            out += before + message.write(delta.content, logprobs)
        out += b"".join(map(self._call_part, delta.call_parts))
        return out + b"".join(map(self._call, delta.tool_calls))

    def end(self, *, is_cut: bool) -> bytes:
        """Nothing more comes. An answer that came to its own end has a message, if an empty one, or a call."""
        out = self._close(is_cut=is_cut)
        if not is_cut and all(isinstance(item, wire.ReasoningItem) for item in self._items):
            before, _ = self._in(_Message)
            out += before + self._close()
        return out

    def items(self) -> list[wire.OutputItem]:
        """Of the one that is open, if one is, what there is."""
        return [*self._items, *([self._open.item(_INCOMPLETE)] if self._open else [])]

    def _in(self, kind: type[K]) -> tuple[bytes, K]:
        """The open item, where it is of that kind; else a new one, and the events of the change."""
        if isinstance(self._open, kind):
            return b"", self._open
        return self._begin(lambda index: kind(self._events, index))

    def _begin(self, make: Callable[[int], K]) -> tuple[bytes, K]:
        before = self._close()
        self._open = item = make(len(self._items))
        return before + item.opened(), item

    def _close(self, *, is_cut: bool = False) -> bytes:
        """The end of the item that is open, if one is."""
        if self._open is None:
            return b""
        item, self._open = self._open, None
        status = item.status(is_cut=is_cut)
        self._items.append(item.item(status))
        return item.closed(status)

    def _call_part(self, part: CallPart) -> bytes:
        before, call = self._in_call(part.index, part.call_id, part.name)
        return before + (call.write(part.text) if part.text else b"")

    def _call(self, whole: ToolCall) -> bytes:
        """The end of a call whose parts have been told; all of one that had none."""
        before, call = self._in_call(whole.index, whole.call_id, whole.name)
        if not call.has_text:
            before += call.write(arguments_text(whole))
        call.is_complete = True
        return before + self._close()

    def _in_call(self, number: int, call_id: str, name: str) -> "tuple[bytes, _Call]":
        if isinstance(self._open, _Call) and self._open.number == number:
            return b"", self._open
        namespace, name = self._namespaces.get(name, ("", name))
        return self._begin(lambda index: _Call(self._events, index, number, call_id, name, namespace))


class _Item(ABC):
    """An item that grows."""

    prefix: ClassVar[str]  # of its id

    def __init__(self, events: Events, index: int) -> None:
        self._events = events
        self._index = index
        self._id = new_id(self.prefix)
        self._texts: list[str] = []

    @abstractmethod
    def opened(self) -> bytes: ...

    @abstractmethod
    def closed(self, status: str) -> bytes: ...

    @abstractmethod
    def item(self, status: str) -> wire.OutputItem:
        """As it is told when nothing is added to it any more."""

    def status(self, *, is_cut: bool) -> str:
        """At its end. `is_cut` says that the answer was cut there."""
        return _INCOMPLETE if is_cut else _COMPLETED

    @property
    def _text(self) -> str:
        return "".join(self._texts)

    def _added(self, item: wire.OutputItem) -> bytes:
        return self._events.event(wire.OutputItemAdded, self._index, item)

    def _done(self, status: str) -> bytes:
        return self._events.event(wire.OutputItemDone, self._index, self.item(status))


class _Thought(_Item):
    prefix = "rs"

    def __init__(self, events: Events, index: int) -> None:
        super().__init__(events, index)
        self._event = events.texts(wire.ReasoningDelta, lambda text: (self._id, index, 0, text))

    def write(self, text: str) -> bytes:
        self._texts.append(text)
        return self._event(text)

    def opened(self) -> bytes:
        return self._added(wire.ReasoningItem(id=self._id, summary=[]))

    def closed(self, status: str) -> bytes:
        done = self._events.event(wire.ReasoningDone, self._id, self._index, 0, self._text)
        return done + self._done(status)

    def item(self, status: str) -> wire.OutputItem:
        text = self._text
        return wire.ReasoningItem(id=self._id, summary=[wire.SummaryText(text=text)], encrypted_content=text)


class _Message(_Item):
    prefix = "msg"

    def __init__(self, events: Events, index: int) -> None:
        super().__init__(events, index)
        self._logprobs: list[ChatTokenLogprob] = []
        self._event = events.texts(wire.OutputTextDelta, lambda text: (self._id, index, 0, text, []))

    def write(self, text: str, logprobs: tuple[TokenLogprob, ...] = ()) -> bytes:
        self._texts.append(text)
        told = chat_logprobs(logprobs)
        if told is None:
            return self._event(text)
        self._logprobs += told.content
        return self._events.event(wire.OutputTextDelta, self._id, self._index, 0, text, told.content)

    def opened(self) -> bytes:
        added = self._added(wire.MessageItem(id=self._id, status=_IN_PROGRESS, role="assistant", content=[]))
        return added + self._events.event(wire.ContentPartAdded, self._id, self._index, 0, self._part())

    def closed(self, status: str) -> bytes:
        done = self._events.event(wire.OutputTextDone, self._id, self._index, 0, self._text, self._logprobs)
        done += self._events.event(wire.ContentPartDone, self._id, self._index, 0, self._part())
        return done + self._done(status)

    def item(self, status: str) -> wire.OutputItem:
        return wire.MessageItem(id=self._id, status=status, role="assistant", content=[self._part()])

    def _part(self) -> wire.OutputText:
        return wire.OutputText(text=self._text, annotations=[], logprobs=list(self._logprobs))


class _Call(_Item):
    """Complete once the whole call has come: one that was cut short, or that was none after all, never is."""

    prefix = "fc"

    def __init__(self, events: Events, index: int, number: int, call_id: str, name: str, namespace: str) -> None:
        super().__init__(events, index)
        self.number = number  # among the answer's calls
        self.is_complete = False
        self._call_id = call_id
        self._name = name
        self._namespace = namespace
        self._event = events.texts(wire.ArgumentsDelta, lambda text: (self._id, index, text))

    @property
    def has_text(self) -> bool:
        return bool(self._texts)

    def write(self, text: str) -> bytes:
        self._texts.append(text)
        return self._event(text)

    def opened(self) -> bytes:
        return self._added(self._made(_IN_PROGRESS))

    def closed(self, status: str) -> bytes:
        """Only of a complete call the arguments are said to be done: programs take that for the word to call."""
        done = self._events.event(wire.ArgumentsDone, self._id, self._index, self._text) if self.is_complete else b""
        return done + self._done(status)

    def status(self, *, is_cut: bool) -> str:
        return _COMPLETED if self.is_complete else _INCOMPLETE

    def item(self, status: str) -> wire.OutputItem:
        return self._made(status)

    def _made(self, status: str) -> wire.FunctionCallItem:
        return wire.FunctionCallItem(
            id=self._id,
            status=status,
            call_id=self._call_id,
            name=self._name,
            namespace=self._namespace,
            arguments=self._text,
        )
