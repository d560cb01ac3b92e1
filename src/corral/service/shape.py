"""What an answer is made of: how its text is taken apart, and what it is held to while it is generated. Pure.

A shape is made from a request before the engine is asked. It gives the engine's job its thought, its grammars and the tags to
spell out, and makes the reader that turns the answer's text into thoughts, content and calls.
"""

import secrets
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from corral.core.options import Options
from corral.core.types import Grammar, Step, Thought, ToolCall
from corral.parse import AnswerFormat, Call, CallPart, Content, Event, Thinking, answer_parser, markers
from corral.service import requests
from corral.service.constraints import check_choice, grammars_of
from corral.service.requests import Delta, InferenceRequest

_ID_CHARS: Final = 32  # as Ollama's
_ID_LETTERS: Final = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """`form` None: the text is the answer as it is."""

    form: AnswerFormat | None = None
    tools: tuple[Mapping[str, Any], ...] = ()  # that the answer may call
    shows_thoughts: bool = True
    may_think: bool = True  # False: the model is to answer at once
    thought_budget: int = -1  # tokens; negative: any number
    grammars: tuple[Grammar, ...] = ()
    call_id_chars: int = 0  # of the ids of calls; 0: as many as usual
    call_parts: bool = False  # calls are told while they are written too

    @property
    def spelled(self) -> tuple[str, ...]:
        return markers(self.form) if self.form else ()

    def thought(self, prompt: str) -> Thought | None:
        """The thought of the answer to that prompt; None where the model has none."""
        form = self.form.thought if self.form else None
        if form is None:
            return None
        return Thought(
            open=form.open,
            close=form.close,
            is_open=prompt.rstrip().endswith(form.open.strip()),
            may_open=self.may_think,
            budget=self.thought_budget if self.may_think else 0,
        )

    def reader(self, prompt: str) -> "PlainReader | FormReader":
        return FormReader(self, self.form, prompt) if self.form else PlainReader()


def shape_of(
    form: AnswerFormat | None,
    request: InferenceRequest,
    tools: tuple[Mapping[str, Any], ...],
    options: Options,
    *,
    call_id_chars: int,
) -> Shape:
    """The shape of the answer to a request. `tools` are those that it may call, `form` how the model writes.

    Raises BadRequestError for a format that cannot be followed, or a tool whose parameters cannot, or a choice that cannot be
    said to its end.
    """
    check_choice(request.choice, options.stop)
    return Shape(
        form=form,
        tools=tools,
        shows_thoughts=request.think is not False,
        may_think=request.think is not False,
        thought_budget=options.think_budget,
        grammars=grammars_of(form, request, tools),
        call_id_chars=call_id_chars,
        call_parts=request.call_parts,
    )


class PlainReader:
    """For answers that are what they say."""

    def read(self, step: Step) -> Iterator[Delta]:
        """What came with this step of the engine."""
        if step.text or step.logprobs:
            yield Delta(content=step.text, logprobs=step.logprobs)


class FormReader:
    """Takes an answer apart. Logprobs come with the first piece of their step, or alone while text is held back."""

    def __init__(self, shape: Shape, form: AnswerFormat, prompt: str) -> None:
        self._shape = shape
        self._parser = answer_parser(form, prompt=prompt, tools=shape.tools, parts=shape.call_parts)
        self._ids: list[str] = []  # of the calls so far, those included that were begun and never completed
        self._is_in_call = False  # the last of them is not complete yet

    def read(self, step: Step) -> Iterator[Delta]:
        """What is clear with this step of the engine."""
        events: Sequence[Event] = self._parser.feed(step.text) if step.text else ()
        if step.finish:
            events = [*events, *self._parser.close()]
        logprobs = step.logprobs
        for event in events:
            if delta := self._delta(event):
                yield replace(delta, logprobs=logprobs) if logprobs else delta
                logprobs = ()
        if logprobs:
            yield Delta(logprobs=logprobs)

    def _delta(self, event: Event) -> Delta | None:
        match event:
            case Content(text):
                return Delta(content=text)
            case Thinking(text) if self._shape.shows_thoughts:
                return Delta(thinking=text)
            case CallPart():
                return Delta(call_parts=(self._call_part(event),))
            case Call():
                return Delta(tool_calls=(self._tool_call(event),))
            case _:
                return None

    def _call_part(self, part: CallPart) -> requests.CallPart:
        if part.name:
            self._add_id(part.call_id)
            self._is_in_call = True
        return requests.CallPart(index=len(self._ids) - 1, call_id=self._ids[-1], name=part.name, text=part.text)

    def _tool_call(self, call: Call) -> ToolCall:
        """With the id of its parts, where it had any: one that the model wrote behind the arguments came too late."""
        if not self._is_in_call:
            self._add_id(call.call_id)
        self._is_in_call = False
        return ToolCall(name=call.name, arguments=call.arguments, call_id=self._ids[-1], index=len(self._ids) - 1)

    def _add_id(self, call_id: str) -> None:
        """The id of the next call: the model's own, or one made up where it has none or has had it before."""
        if not call_id or call_id in self._ids:
            call_id = "".join(secrets.choice(_ID_LETTERS) for _ in range(self._shape.call_id_chars or _ID_CHARS))
        self._ids.append(call_id)
