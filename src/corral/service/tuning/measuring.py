"""What an engine reaches at real work: a long prompt, an answer to it, several at once, and several that share that prompt.

Answers are drawn at random from the likeliest tokens, so that each has its length and repeats nothing that could be guessed.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from corral.core.clock import Clock
from corral.core.errors import EngineError
from corral.core.types import Finish, Job, Sampling
from corral.core.units import NS_PER_S
from corral.engine import Engine
from corral.wire.tuning import Speeds, TuneLoad

_WORDS: Final = (  # common ones, about a token each
    "river stone light garden window morning paper winter market silver engine forest letter summer bridge yellow "
    "station music doctor island bottle simple travel father number second answer corner planet village question "
    "machine history weather kitchen blanket picture evening thunder harvest"
)
_TAIL: Final = 8  # tokens that each request has behind a prompt that they share
_PROBE_TOKENS: Final = 64
_PROBE_ANSWER: Final = 8


@dataclass(frozen=True, slots=True)
class Bench:
    """Measures the engines of one model. `never` is the text of a token that would end an answer."""

    num_ctx: int
    never: str
    clock: Clock

    async def probe(self, engine: Engine) -> tuple[float, float]:
        """Roughly the tokens a second of a prompt and of an answer, once the weights are in memory."""
        tokens = await self._tokens(engine, 2 * _PROBE_TOKENS)
        await self._answered(engine, tokens[:_PROBE_TOKENS], _PROBE_ANSWER, seed=0)
        finish = await self._answered(engine, tokens[_PROBE_TOKENS:], _PROBE_ANSWER, seed=0)
        return _per_s(finish.prompt_tokens - finish.cached_tokens, finish.prompt_ns), _per_s(finish.eval_tokens, finish.eval_ns)

    async def measure(self, engine: Engine, load: TuneLoad) -> Speeds:
        """Raises EngineError where it does not get through."""
        long, own, streams = load.prompt_tokens, load.own_prompt_tokens, load.streams
        tokens = await self._tokens(engine, long + streams * max(own, _TAIL))
        owns = [tokens[begin : begin + own] for begin in range(long, long + streams * own, own)]
        await self._answered_together(engine, [each[:_TAIL] for each in owns], 2)  # takes the memory that all need
        alone = await self._answered(engine, tokens[:long], load.answer_tokens, seed=0)
        several = await self._answered_together(engine, owns, load.answer_tokens)
        began_ns = self.clock.monotonic_ns()
        tails = [tokens[long + at * _TAIL : long + (at + 1) * _TAIL] for at in range(streams)]
        forks = await self._answered_together(engine, [tokens[:long] + tail for tail in tails], load.answer_tokens)
        return Speeds(
            prompt=_per_s(alone.prompt_tokens - alone.cached_tokens, alone.prompt_ns),
            alone=_per_s(alone.eval_tokens, alone.eval_ns),
            together=streams * max(_per_s(each.eval_tokens, each.eval_ns) for each in several),  # of the one that began last
            forks=_per_s(sum(each.eval_tokens for each in forks), self.clock.monotonic_ns() - began_ns),
        )

    async def _tokens(self, engine: Engine, count: int) -> list[int]:
        draw, words = random.Random(0), _WORDS.split()  # noqa: S311  the same text for every engine
        tokens: list[int] = []
        while len(tokens) < count:
            text = " ".join(draw.choice(words) for _ in range(count))
            tokens += await engine.tokenize(text, add_special=not tokens, parse_special=False)
        return tokens[:count]

    async def _answered_together(self, engine: Engine, prompts: Sequence[Sequence[int]], length: int) -> list[Finish]:
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(self._answered(engine, prompt, length, seed=seed), name=f"tune {seed}")
                    for seed, prompt in enumerate(prompts, 1)
                ]
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
        return [task.result() for task in running]

    async def _answered(self, engine: Engine, prompt: Sequence[int], length: int, *, seed: int) -> Finish:
        never = ((self.never, float("-inf")),) if self.never else ()
        sampling = Sampling(temperature=1.5, seed=seed, logit_bias=never)
        job = Job(prompt="", prefix_tokens=tuple(prompt), num_ctx=self.num_ctx, num_predict=length, sampling=sampling)
        async with engine.generate(job) as steps:
            async for step in steps:
                if step.finish:
                    return step.finish
        raise EngineError("an answer ended without a word of its cost")


def _per_s(tokens: int, elapsed_ns: int) -> float:
    """At least a little, so that ratios can be taken of it."""
    return max(tokens, 1) * NS_PER_S / max(elapsed_ns, 1)
