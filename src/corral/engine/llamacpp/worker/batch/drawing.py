"""What comes of a computed step for one answer: the tokens that it goes on with, what is shown of them, and whether it ends.

A free answer goes on with the token that was drawn. One that has a guide may go on with others, and with more than one: then
all of them are computed together in the next step, and the one after the last of them is drawn (`Job.jump`; without that, or
where the logits of each are wanted, they come one a step all the same).

Under a grammar a token is first drawn as if there were none, and taken if the grammar takes it; only if not, the logits of
what it does not take are masked, and another one is drawn. Where p is the free distribution and A the share of it that the
grammar takes, a token of it comes with p + (1 - A) * p / A = p / A: just what drawing under the mask would give, but that
top_k, top_p and the like cut their share from the free distribution first. So a mask, which costs more than all the rest, is
made for the few tokens where the model would leave the grammar. Mirostat learns from each draw, so it always draws once.

A free answer that repeats one token without end is given up. What a grammar binds is made to go on otherwise first: a text that
has begun to meet its grammar is to meet it.
"""

from collections.abc import Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from corral.core.types import FinishReason, TokenChance, TokenLogprob
from corral.engine.llamacpp.worker.batch.generation import Generation
from corral.engine.llamacpp.worker.grammar.guide import Guide
from corral.engine.llamacpp.worker.grammar.matching import Said

_UNKNOWN: Final = b"\xff\xff"  # no token's bytes

DrawnFrom = TypeVar("DrawnFrom", contravariant=True)
C = TypeVar("C")


class Draws(Protocol[DrawnFrom]):
    """Draws tokens of one answer: sampling.py."""

    @property
    def draws_twice(self) -> bool:
        """A token that was drawn may be given back with `see_only`."""
        ...

    def see(self, tokens: Sequence[int]) -> None: ...
    def see_only(self, tokens: Sequence[int]) -> None: ...
    def draw(self, context: DrawnFrom, index: int) -> int: ...
    def draw_among(self, context: DrawnFrom, index: int, allowed: npt.NDArray[np.bool_], *, keeps: bool = False) -> int: ...
    def chances(self, context: DrawnFrom, index: int, token: int, top: int) -> tuple[float, list[tuple[int, float]]]: ...
    def close(self) -> None: ...


class Words(Protocol):
    def piece(self, token: int) -> bytes: ...
    def spelled(self, token: int) -> bytes: ...
    def ends(self, token: int) -> bool: ...


Logprobs = tuple[TokenLogprob, ...]
Gained = tuple[str, FinishReason | None, Logprobs]


class Drawing(Generic[C]):
    """Draws for all answers of one model."""

    def __init__(self, words: Words, make_room: Callable[[Generation], bool]) -> None:
        """`make_room` takes an answer whose context is full, and says whether it can go on."""
        self._words = words
        self._make_room = make_room
        self._pieces: dict[int, bytes | None] = {}  # what tokens show; None for those that end an answer

    def draw(self, context: C, generation: Generation, sampler: Draws[C], index: int) -> Gained:
        """What the answer gains from the logits of that index. Raises BadRequestError, EngineError where it cannot go on."""
        if generation.guide is not None or generation.dictated:
            return self._draw_guided(context, generation, sampler, index)
        token = sampler.draw(context, index)
        piece = self._pieces.get(token, _UNKNOWN)
        if piece is _UNKNOWN or piece == b"":
            piece = self._shown(generation, token)
        shown, reason = generation.take(token, piece)
        if reason is None and generation.is_full and not self._make_room(generation):
            shown, reason = shown + generation.text.close(), "length"
        top = generation.job.logprobs
        return shown, reason, () if top < 0 else self._logprobs(context, sampler, index, token, top)

    def _shown(self, generation: Generation, token: int) -> bytes | None:
        """What the token adds to the answer; None if it ends it."""
        if token not in self._pieces:
            self._pieces[token] = None if self._words.ends(token) else self._words.piece(token)
        piece = self._pieces[token]
        return self._words.spelled(token) if piece == b"" and token in generation.spelled else piece

    def _logprobs(self, context: C, sampler: Draws[C], index: int, token: int, top: int) -> Logprobs:
        """How likely the token was, and which others; nothing for the one that ends an answer, which nobody sees."""
        if self._words.ends(token):
            return ()
        logprob, likeliest = sampler.chances(context, index, token, top)
        chances = tuple(TokenChance(self._words.spelled(other), value) for other, value in likeliest)
        return (TokenLogprob(self._words.spelled(token), logprob, chances),)

    # Guided answers

    def _draw_guided(self, context: C, generation: Generation, sampler: Draws[C], index: int) -> Gained:
        guide, dictated = generation.guide, generation.dictated
        if generation.is_full and not self._make_room(generation):
            return generation.text.close(), "length", ()
        drawn = -1
        if guide is not None and not dictated:
            if guide.has_more:
                dictated.extend(guide.more())
            else:
                drawn = self._drawn(context, generation, guide, sampler, index)
                dictated.extend(guide.end() if self._words.ends(drawn) else guide.take(drawn))
            generation.thought_tokens = guide.thought_tokens
            if guide.is_done:
                generation.guide = None
        first = dictated[0].token if dictated else drawn
        gained = self._take_dictated(generation, sampler, drawn)
        top = generation.job.logprobs
        return (*gained, () if top < 0 else self._logprobs(context, sampler, index, first, top))

    def _drawn(self, context: C, generation: Generation, guide: Guide, sampler: Draws[C], index: int) -> int:
        if not guide.is_binding:
            return sampler.draw(context, index)
        loop = generation.loop
        if loop >= 0:
            generation.leave_loop()
        elif sampler.draws_twice:
            token = sampler.draw(context, index)
            if guide.allows(token):
                return token
            sampler.see_only(generation.tokens)
        return sampler.draw_among(context, index, guide.allowed(loop), keeps=generation.job.logprobs >= 0)

    def _take_dictated(self, generation: Generation, sampler: Draws[C], drawn: int) -> tuple[str, FinishReason | None]:
        """The answer goes on with what it is made to say, or ends with the token that was drawn."""
        dictated = generation.dictated
        if not dictated:
            return generation.take(drawn, None)
        if drawn >= 0 and dictated[0].token != drawn:
            sampler.see_only(generation.tokens)
            drawn = -1
        shown = ""
        for _ in range(len(dictated) if generation.jumps else 1):
            said = dictated.popleft()
            if drawn < 0:
                sampler.see((said.token,))
            text, reason = generation.take(said.token, self._dictated_piece(generation, said), is_dictated=drawn < 0)
            drawn = -1
            shown += text
            if generation.is_complete:
                return shown + generation.text.close(), "stop"
            if reason:
                return shown, reason
            if generation.is_full:
                break
        if generation.is_full and not generation.missing and not self._make_room(generation):
            return shown + generation.text.close(), "length"
        return shown, None  # a full context whose end is not computed is shifted when it is: there is more to shift then

    def _dictated_piece(self, generation: Generation, said: Said) -> bytes:
        if said.is_bound:
            return b"" if self._words.ends(said.token) else self._words.spelled(said.token)
        return self._shown(generation, said.token) or b""
