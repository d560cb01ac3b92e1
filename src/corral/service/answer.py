"""From a lease and a rendered prompt to the events of an answer.

The engine alone knows how many tokens a prompt has, so the prompt is tried first and shortened only when it says no: the
usual request costs no extra round trip.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from corral.core.clock import Clock
from corral.core.errors import ContextOverflowError
from corral.core.options import Options
from corral.core.types import Finish, Job, Message, Step
from corral.engine import Engine
from corral.sched import Lease
from corral.service.fit import dropped_to_fit
from corral.service.prompt import ChatPrompt
from corral.service.requests import Delta, Done, Event, Truncation

ContextOf = Callable[[str], Awaitable[tuple[int, ...]]]
Render = Callable[[ChatPrompt], Awaitable[str]]


@dataclass(slots=True)
class Answer:
    """One generation under way: its first step is there, so whatever the engine refuses has been raised."""

    first: Step
    rest: AsyncIterator[Step]
    lease: Lease
    began_ns: int
    clock: Clock
    truncation: Truncation | None = None

    async def events(self, context_of: ContextOf | None = None) -> AsyncIterator[Event]:
        """Deltas, then Done. `context_of` makes Done's context from the whole text of the answer."""
        said: list[str] = []
        step: Step | None = self.first
        while step is not None:
            if step.text:
                if context_of:
                    said.append(step.text)
                yield Delta(content=step.text)
            if step.finish:
                yield self._done(step.finish, await context_of("".join(said)) if context_of else None)
                return
            step = await anext(self.rest)

    def _done(self, finish: Finish, context: tuple[int, ...] | None) -> Done:
        return Done(
            reason=finish.reason,
            total_ns=self.clock.monotonic_ns() - self.began_ns,
            load_ns=self.lease.load_ns,
            prompt_tokens=finish.prompt_tokens,
            cached_tokens=finish.cached_tokens,
            prompt_ns=finish.prompt_ns,
            eval_tokens=finish.eval_tokens,
            eval_ns=finish.eval_ns,
            context=context,
            truncation=self.truncation,
        )


def job_for(lease: Lease, options: Options, prompt: str, *, shift: bool, prefix_tokens: tuple[int, ...] = ()) -> Job:
    return Job(
        prompt=prompt,
        prefix_tokens=prefix_tokens,
        sampling=options.sampling,
        stop=options.stop,
        num_predict=options.num_predict,
        num_keep=options.num_keep,
        num_ctx=lease.num_ctx,
        shift=shift,
    )


async def begin(stack: AsyncExitStack, lease: Lease, job: Job, *, began_ns: int, clock: Clock) -> Answer:
    """Starts the job and waits for its first step. Raises ContextOverflowError where the prompt does not fit."""
    steps = await stack.enter_async_context(lease.engine.generate(job))
    return Answer(await anext(steps), steps, lease, began_ns, clock)


async def shortened(
    prompt: ChatPrompt, render: Render, engine: Engine, overflow: ContextOverflowError
) -> tuple[str, Truncation]:
    """The chat without its oldest turns, as many as must go, and what was left out.

    Raises the overflow itself when the last turn alone does not fit.
    """
    fitting = ""  # the longest text so far that fits: each that is found to fit is longer than the one before

    async def fits(messages: Sequence[Message]) -> bool:
        nonlocal fitting
        text = await render(replace(prompt, messages=tuple(messages)))
        if len(await engine.tokenize(text)) >= overflow.num_ctx:
            return False
        fitting = text
        return True

    kept = await dropped_to_fit(prompt.messages, fits)
    if kept is None:
        raise overflow
    dropped = len(prompt.messages) - len(kept)
    return fitting, Truncation(prompt_tokens_total=overflow.prompt_tokens, dropped_messages=dropped)
