"""The several answers of one request, as they come together in one reply: a stream's chunks, or one object."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from corral.api.exchange import PLAIN_JSON, Answer, Exchange, json_answer
from corral.api.openai.tokens import usage
from corral.api.stream import EventStream, pump
from corral.api.truncation import tell_truncation
from corral.service.requests import Delta, Done, Event, Loaded, Rendered, Started
from corral.service.several import Start, all_answers
from corral.service.whole import whole
from corral.wire import openai as wire

MAX_ANSWERS: Final = 2048  # of one request. Source: OpenAI's API reference, the prompts of one embedding request
SILENCE_S: Final = 15.0  # proxies take a stream for dead after 30 to 60
SIGN: Final = b": ping\n\n"  # a comment, which clients of event streams leave out
_LAST: Final = b"data: [DONE]\n\n"
_NOTHING: Final = Done(
    reason="stop", total_ns=0, load_ns=0, prompt_tokens=0, cached_tokens=0, prompt_ns=0, eval_tokens=0, eval_ns=0
)


class Choice(ABC):
    """One answer of a streamed reply: makes chunks of its events."""

    @abstractmethod
    def chunks(self, delta: Delta) -> bytes: ...

    @abstractmethod
    def ending(self, done: Done) -> bytes: ...

    def render(self, event: Event) -> bytes:
        return self.chunks(event) if isinstance(event, Delta) else self.ending(end_of(event))


class Reply(ABC):
    """What all answers of one request have in common, and what is said of all of them."""

    @abstractmethod
    def choice(self, index: int) -> Choice:
        """For the events of one answer in a stream."""

    @abstractmethod
    def usage_chunk(self, used: wire.Usage) -> bytes:
        """The event behind all others."""

    @abstractmethod
    def whole(self, answers: Sequence[tuple[Delta, Done]], used: wire.Usage) -> Any:
        """All answers in one object."""


async def answer(
    exchange: Exchange, starts: Sequence[Start], reply: Reply, *, prompts: int = 1, stream: bool, wants_usage: bool
) -> Answer | None:
    """Runs every answer to its end. They are for so many `prompts`, those for one of them one after another."""
    ends: dict[int, Done] = {}
    if stream:
        await _streamed(exchange, starts, reply, ends)
        used = usage([ends[index] for index in range(len(starts))], per_prompt=len(starts) // prompts)
        await exchange.write((reply.usage_chunk(used) if wants_usage else b"") + _LAST)
        return None
    deltas: dict[int, Delta] = {}

    async def collect(index: int, first: Event, rest: AsyncIterator[Event]) -> None:
        tell_truncation(exchange, first)
        deltas[index], end = await whole(first, rest)
        ends[index] = end_of(end)

    await all_answers(starts, collect)
    answers = [(deltas[index], ends[index]) for index in range(len(starts))]
    used = usage([done for _, done in answers], per_prompt=len(starts) // prompts)
    return json_answer(reply.whole(answers, used), content_type=PLAIN_JSON)


async def _streamed(exchange: Exchange, starts: Sequence[Start], reply: Reply, ends: dict[int, Done]) -> None:
    out = EventStream(exchange.write)

    async def send(index: int, first: Event, rest: AsyncIterator[Event]) -> None:
        choice = reply.choice(index)
        tell_truncation(exchange, first)

        def render(event: Event) -> bytes:
            if not isinstance(event, Delta):
                ends[index] = end_of(event)
            return choice.render(event)

        await pump(first, rest, render, out.write)

    async with out.kept_alive(SIGN, silence_s=SILENCE_S):
        await all_answers(starts, send)


def end_of(event: Loaded | Rendered | Started | Done) -> Done:
    """A prompt without a text loads the model and says nothing."""
    return event if isinstance(event, Done) else _NOTHING
