"""From a lease and a rendered prompt to the events of an answer.

The engine alone knows how many tokens a prompt has, so the prompt is tried first and shortened only when it says no: the
usual request costs no extra round trip.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Final

from corral.core.clock import Clock
from corral.core.errors import ContextOverflowError
from corral.core.options import Options
from corral.core.types import Finish, Job, Message, Step
from corral.engine import Engine
from corral.sched import Lease
from corral.service.fit import cut_to_fit, dropped_to_fit
from corral.service.prompt import Prompt
from corral.service.requests import Delta, Done, Event, Started, Truncation
from corral.service.shape import Shape

Render = Callable[[Prompt], Awaitable[str]]
_TOKEN_BYTES: Final = 4  # of text, about: for what an answer cost that was left before it told so itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A generation that is wanted."""

    prompt: Prompt
    text: str  # the prompt, rendered
    shape: Shape
    options: Options
    truncate: bool
    shift: bool
    logprobs: int = -1  # likeliest tokens beside each token of the answer; negative: none, nor its own
    has_context: bool = False  # its last event is to tell the tokens of prompt and answer
    needs_start: bool = False
    client: str = ""
    priority: int = 0
    began_ns: int
    truncation: Truncation | None = None

    def job(self, lease: Lease) -> Job:
        options, shape = self.options, self.shape
        return Job(
            prompt=self.text,
            media=self.prompt.media,
            spelled=shape.spelled,
            thought=shape.thought(self.text),
            grammars=shape.grammars,
            suffix=self.prompt.infill_suffix,
            prefix_tokens=self.prompt.prefix_tokens,
            sampling=options.sampling,
            adapters=options.lora,
            stop=options.stop,
            num_predict=options.num_predict,
            num_keep=options.num_keep,
            num_ctx=lease.num_ctx,
            shift=self.shift,
            logprobs=self.logprobs,
            draft=options.draft_num_predict,
            client=self.client,
            priority=self.priority,
        )


@dataclass(slots=True)
class Answer:
    """One generation under way: its first step is there, so whatever the engine refuses has been raised."""

    ask: Ask
    first: Step
    rest: AsyncIterator[Step]
    lease: Lease
    clock: Clock
    _finish: Finish | None = field(default=None, init=False)
    _seen_tokens: int = field(default=0, init=False)  # of the answer, about

    def events(self) -> AsyncIterator[Event]:
        """Started where it is wanted, deltas, then Done. The first of them also tells what was left out of the conversation."""
        return _telling(self.ask.truncation, self._events()) if self.ask.truncation else self._events()

    async def _events(self) -> AsyncIterator[Event]:
        said: list[str] = []
        reader = self.ask.shape.reader(self.ask.text)
        if self.ask.needs_start:
            yield self._started()
        step: Step | None = self.first
        while step is not None:
            self._count(step)
            if self.ask.has_context:
                said.append(step.text)
            for delta in reader.read(step):
                yield delta
            if step.finish:
                yield self._done(step.finish, await self._context("".join(said)) if self.ask.has_context else None)
                return
            step = await anext(self.rest)

    def _started(self) -> Started:
        begun = self.first.begun
        assert begun is not None, "an engine tells it with its first step"
        return Started(prompt_tokens=begun.prompt_tokens, cached_tokens=begun.cached_tokens, truncation=self.ask.truncation)

    async def _context(self, said: str) -> tuple[int, ...]:
        prompt = self.ask.prompt
        text = prompt.shown(self.ask.text) + said
        own = await self.lease.engine.tokenize(text, add_special=not prompt.prefix_tokens)
        return (*prompt.prefix_tokens, *own)

    def _count(self, step: Step) -> None:
        self._finish = step.finish
        self._seen_tokens += max(1, len(step.logprobs), len(step.text.encode()) // _TOKEN_BYTES)

    def pay(self) -> None:
        """Tells the place what this cost: the engine's own numbers, or by what was seen of an answer that was left."""
        told = self._finish or self.first.begun
        prompt_tokens = told.prompt_tokens - told.cached_tokens if told else 0
        self.lease.place.spend(prompt_tokens + (self._finish.eval_tokens if self._finish else self._seen_tokens))

    def _done(self, finish: Finish, context: tuple[int, ...] | None) -> Done:
        return Done(
            reason=finish.reason,
            stop_text=finish.stop_text,
            total_ns=self.clock.monotonic_ns() - self.ask.began_ns,
            load_ns=self.lease.load_ns,
            prompt_tokens=finish.prompt_tokens,
            cached_tokens=finish.cached_tokens,
            prompt_ns=finish.prompt_ns,
            eval_tokens=finish.eval_tokens,
            thought_tokens=finish.thought_tokens,
            eval_ns=finish.eval_ns,
            context=context,
            truncation=self.ask.truncation,
        )


async def _telling(truncation: Truncation, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    first = await anext(events)
    yield replace(first, truncation=truncation) if isinstance(first, Delta) else first
    async for event in events:
        yield event


async def begin(stack: AsyncExitStack, lease: Lease, ask: Ask, render: Render, clock: Clock) -> Answer:
    """Starts the job and waits for its first step; a prompt that does not fit is shortened first, where that may be.

    Raises ContextOverflowError where it cannot be made to fit.
    """
    try:
        return await _start(stack, lease, ask, clock)
    except ContextOverflowError as overflow:
        if not ask.truncate or overflow.is_least:  # what cannot be counted cannot be cut to measure
            raise
        shorter = await _shortened(ask, render, lease.engine, overflow)
    while shorter.prompt.media:  # each was taken for as large as all are on average: the engine knows better
        try:
            return await _start(stack, lease, shorter, clock)
        except ContextOverflowError as overflow:
            shorter = await _with_fewer_turns(shorter, render, lease.engine, overflow)
    return await _start(stack, lease, shorter, clock)


async def _start(stack: AsyncExitStack, lease: Lease, ask: Ask, clock: Clock) -> Answer:
    steps = await stack.enter_async_context(lease.engine.generate(ask.job(lease)))
    answer = Answer(ask, await anext(steps), steps, lease, clock)
    stack.callback(answer.pay)
    return answer


async def _shortened(ask: Ask, render: Render, engine: Engine, overflow: ContextOverflowError) -> Ask:
    """The same without what is oldest, as much as must go. Raises the overflow itself when the last turn alone does not fit."""
    if ask.prompt.prefix_tokens:
        return _with_less_context(ask, overflow)
    return await _with_fewer_turns(ask, render, engine, overflow)


def _with_less_context(ask: Ask, overflow: ContextOverflowError) -> Ask:
    tokens, keep = ask.prompt.prefix_tokens, ask.options.num_keep
    kept = cut_to_fit(
        tokens,
        keep=keep + bool(ask.prompt.bos) if keep >= 0 else keep,
        new_tokens=overflow.prompt_tokens - len(tokens),
        num_ctx=overflow.num_ctx,
    )
    if kept is None:
        raise overflow
    return replace(ask, prompt=replace(ask.prompt, prefix_tokens=kept), truncation=_truncation(overflow))


async def _with_fewer_turns(ask: Ask, render: Render, engine: Engine, overflow: ContextOverflowError) -> Ask:
    shorter: dict[int, Ask] = {}  # by their messages' count
    medium_tokens = 0
    if count := len(ask.prompt.media):
        medium_tokens = max(0, overflow.prompt_tokens - len(await engine.tokenize(ask.text))) // count

    async def tokens(messages: Sequence[Message]) -> int:
        prompt = replace(ask.prompt, messages=tuple(messages))
        text = await render(prompt)
        shorter[len(messages)] = replace(ask, prompt=prompt, text=text)
        return len(await engine.tokenize(text)) + medium_tokens * len(prompt.media)

    sent = ask.prompt.messages
    kept = await dropped_to_fit(sent, tokens, total=overflow.prompt_tokens, num_ctx=overflow.num_ctx)
    if kept is None:
        raise ContextOverflowError(ask.truncation.prompt_tokens_total, overflow.num_ctx) if ask.truncation else overflow
    before = ask.truncation or _truncation(overflow)
    dropped = before.dropped_messages + len(sent) - len(kept)
    return replace(shorter[len(kept)], truncation=replace(before, dropped_messages=dropped))


def _truncation(overflow: ContextOverflowError) -> Truncation:
    return Truncation(prompt_tokens_total=overflow.prompt_tokens)
