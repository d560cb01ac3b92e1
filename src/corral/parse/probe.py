"""Learns from a chat template how its model writes thoughts and calls: by rendering conversations whose words it knows.

What surrounds those words is the format. A template that refuses, or leaves out what it is given, teaches nothing; then the
family's known format or the most usual one is taken.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from corral.core.errors import CorralError
from corral.core.types import Message, ToolCall
from corral.parse import probe_calls, probe_thought, tools
from corral.parse.formats import AnswerFormat, CallFormat, Pair, PlainFormat, ThoughtFormat
from corral.parse.probe_text import ARGUMENTS, CONTENT, IDS, NAMES, QUESTION, THOUGHT, TOOLS, Shown
from corral.parse.units import common_end, common_start

_QUESTION: Final = Message(role="user", content=QUESTION)
_MAX_CHARS: Final = 100_000  # a template that writes more about two tools is not worth reading
_NEXT: Final = Message(role="user", content="probe thanks")
_IN_PROSE: Final = "<response></response>"  # tags that a template tells its model of, and never writes itself


class Render(Protocol):
    """Renders a conversation, ready for the model's next turn. May raise CorralError."""

    def __call__(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], *, think: bool | str | None = None
    ) -> str: ...


def learn(render: Render, source: str) -> AnswerFormat:
    """What the template shows of its model. `source` is its text."""
    return tools.in_messages(source) or _Probe(render, source).learned()


class _Probe:
    def __init__(self, render: Render, source: str) -> None:
        self._render = render
        self._source = source
        self._begin = self._shown(())
        self._said = self._shown((_assistant(CONTENT),))

    def learned(self) -> PlainFormat:
        thought = self._thought()
        calls = self._calls(thought)
        family = "probed"
        if calls is None:
            calls = tools.by_text(self._source)
            family = "known" if calls else "generic"
        calls = calls or tools.GENERIC
        return PlainFormat(
            family=family,
            thought=thought,
            calls=tools.with_habits(self._source, calls),
            around_content=self._around_content(thought),
        )

    def _shown(self, messages: Sequence[Message], think: bool | None = None) -> str:
        """The conversation after a question, with these turns; "" where the template refuses."""
        try:
            text = self._render((_QUESTION, *messages), TOOLS, think=think)
        except CorralError:
            return ""
        return text if len(text) <= _MAX_CHARS else ""

    def _thought(self) -> ThoughtFormat | None:
        prompts = [self._shown((), True), self._begin, self._shown((), False)]
        return probe_thought.learned(self._source, self._thoughts(prompts), self._said, prompts)

    def _thoughts(self, prompts: Sequence[str]) -> Iterator[Shown]:
        """Renderings of a thought: some templates show only those of the last turn, or only before a call."""
        turns = (
            (_assistant(CONTENT, THOUGHT),),
            (_assistant("", THOUGHT, calls=1),),
            (_assistant(CONTENT, THOUGHT), _NEXT),
        )
        for think, begin in zip((True, None), prompts, strict=False):
            for turn in turns:
                text = self._shown(turn, think)
                if THOUGHT in text:
                    yield Shown(begin, text)

    def _calls(self, thought: ThoughtFormat | None) -> CallFormat | None:
        """From calls in the last turn, or where that shows nothing in a turn before."""
        for after in ((), (_result(0),)):
            one = self._shown((_assistant("", calls=1), *after))
            two = self._shown((_assistant("", calls=2), *after, *([_result(1)] if after else [])))
            said = self._shown((_assistant(CONTENT), *([_NEXT] if after else [])))
            form = probe_calls.learned(self._begin, said, one, two, thought)
            if form:
                return form
        return None

    def _around_content(self, thought: ThoughtFormat | None) -> Pair:
        """The tags around what is said: what stands there beyond the turn's own beginning and end."""
        called = self._shown((_assistant("", calls=1),))
        at = self._said.find(CONTENT)
        if at < 0 or not called:
            return self._prose_pair()
        before, after = self._said[:at], self._said[at + len(CONTENT) :]
        header = max(common_start(self._begin, before), common_start(called, before))
        opening = probe_thought.without_thought(before[header:], thought)
        closing = after[: len(after) - common_end(called, after)]
        if opening.strip() and closing.strip():
            return Pair(opening, closing)
        return self._prose_pair()

    def _prose_pair(self) -> Pair:
        return Pair("<response>", "</response>") if _IN_PROSE in self._source else Pair()


def _assistant(content: str, thought: str = "", calls: int = 0) -> Message:
    made = tuple(
        ToolCall(name=NAMES[number], arguments=dict(ARGUMENTS), call_id=IDS[number], index=number) for number in range(calls)
    )
    return Message(role="assistant", content=content, thinking=thought, tool_calls=made)


def _result(number: int) -> Message:
    return Message(role="tool", content="probe result", tool_name=NAMES[number], tool_call_id=IDS[number])
