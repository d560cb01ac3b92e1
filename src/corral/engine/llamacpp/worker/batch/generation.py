"""One job on its way: its tokens, how many of them are computed, what it may say, and what it cost."""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from corral.core.types import Begun, Finish, FinishReason, Job
from corral.engine.llamacpp.worker.batch.text import TextStream
from corral.engine.llamacpp.worker.grammar.guide import Guide
from corral.engine.llamacpp.worker.grammar.matching import Said
from corral.engine.llamacpp.worker.media.spans import NO_SPANS, Span, Spans
from corral.engine.llamacpp.worker.speculation.speculation import Guesses

STUCK: Final = "prediction aborted, token repeat limit reached"
_REPEATS: Final = 100  # of one token in a row; a model that says more of them does not find out of it again
_LOOPS: Final = 8  # in an answer that a grammar binds
_ENDLESS: Final = 10  # "no limit" is this many contexts' worth of tokens. Source: ollama@v0.32 runner, num_predict


class Generation:
    """Invariant: `tokens[computed:]` are still to be computed, and when the last of them is, a token is drawn.

    That is one token where one was drawn before; more while the prompt is read, or where the answer was made to say more.
    KV memory holds the computed ones and, within a step only, those of the draft behind them.
    """

    def __init__(
        self,
        job_id: int,
        job: Job,
        tokens: list[int],
        spans: Spans = NO_SPANS,
        *,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.job_id = job_id
        self.job = job
        self.tokens = tokens
        self.spans = spans  # of the prompt; the token behind the last of them is one of a text
        self.prompt_tokens = len(tokens)
        self.scales: tuple[float, ...] = ()  # of the model's adapters, one each
        self.slot = -1
        self.computed = 0
        self.cached = 0
        self.drawn = 0
        self.guesses: Guesses | None = None  # what it may say next; None before anybody has asked
        self.draft: list[int] = []  # what it was guessed to say next: computed, but not said as yet
        self.drafted = self.confirmed = 0  # tokens that were in drafts, and those of them that were said
        self.urgency = job.priority  # an earlier one, while somebody of an earlier one waits for what it computes
        self.is_displaced = False  # it has run, and waits to go on
        self.is_shifted = False  # what is in KV memory cannot be had again from the tokens
        self.keeps_place_until = 0  # so many tokens are drawn
        self._repeats = 0
        self._loops = 0  # that a grammar has led it out of
        self.marks: deque[int] = deque()  # places in the prompt where a checkpoint is wanted
        self.guide: Guide | None = None  # of an answer that is not just free
        self.dictated: deque[Said] = deque()  # what it has to say next, whatever the model would say
        self.jumps = job.jump and job.logprobs < 0  # all of that goes into one step
        self.spelled: frozenset[int] = frozenset()  # the control tokens that are shown
        self.thought_tokens = 0
        self.text = TextStream(job.stop)
        endless = job.num_ctx * _ENDLESS
        self.limit = job.num_predict if 0 <= job.num_predict <= endless else endless
        self._now_ns = now_ns
        self._began_ns = 0
        self._first_ns = 0
        self._has_told = False

    def begin(self, slot: int, cached: int) -> None:
        self.slot, self.computed, self.cached = slot, cached, cached
        self._began_ns = self._now_ns()

    def go_on(self, slot: int, computed: int) -> None:
        """After it was displaced."""
        self.slot, self.computed, self.is_displaced = slot, computed, False

    @property
    def may_be_displaced(self) -> bool:
        """Could it go on later just as it would now, and has it had its time?"""
        return not self.spans and not self.is_shifted and self.drawn >= self.keeps_place_until

    @property
    def missing(self) -> int:
        """Tokens to be computed before the last one, whose logits are wanted."""
        return len(self.tokens) - self.computed - 1

    @property
    def missing_text(self) -> int:
        """Those of them that come before the next span, and before the next checkpoint."""
        end = len(self.tokens) - 1
        if self.marks and self.computed < self.marks[0]:
            end = min(end, self.marks[0])
        if not self.spans:
            return end - self.computed
        return 0 if self.span else self.spans.text_end(self.computed, end) - self.computed

    @property
    def span(self) -> Span | None:
        """The span that is to be computed next."""
        return self.spans.at(self.computed) if self.spans else None

    @property
    def position(self) -> int:
        """Of the token that is to be computed next."""
        return self.spans.position(self.computed) if self.spans else self.computed

    def take(self, token: int, piece: bytes | None, *, is_dictated: bool = False) -> tuple[str, FinishReason | None]:
        """The token that comes next, and its bytes; None when it ends the answer. Gives what may be shown, and how it ends."""
        self.drawn += 1
        self._first_ns = self._first_ns or self._now_ns()
        if piece is None:
            return self.text.close(), "stop"
        if is_dictated:
            self._repeats = 0
        else:
            self._repeats = self._repeats + 1 if self._repeats and token == self.tokens[-1] else 1
        self.tokens.append(token)
        shown = self.text.feed(piece)
        if self.text.stopped_by:
            return shown, "stop"
        if self.drawn >= self.limit:
            return shown + self.text.close(), "length"
        return shown, None

    @property
    def is_stuck(self) -> bool:
        """It has said the same token too often in a row.

        Source: ollama@v0.33 llm, Completion: an error from this many on, no answer cut short.
        """
        return self._repeats > _REPEATS

    @property
    def loop(self) -> int:
        """The token that it has said too often to say it again, where a grammar can show it a way out; negative: none."""
        return self.tokens[-1] if self._repeats == _REPEATS and self._loops < _LOOPS else -1

    def leave_loop(self) -> None:
        """It is shown the way out now."""
        self._loops += 1

    @property
    def is_complete(self) -> bool:
        """It has come to the end of the grammar that bound all of it."""
        return self.guide is not None and self.guide.is_over and not self.dictated

    @property
    def is_full(self) -> bool:
        """There is no room for the next token."""
        return len(self.tokens) >= self.job.num_ctx

    @property
    def most_draft(self) -> int:
        """Tokens that may be computed beyond its last one, as it can go on with so many and one more.

        The end of a prompt is computed alone, so that its logits are the same whoever has asked it before.
        """
        if not self.drawn:
            return 0
        room = min(self.limit - self.drawn, self.job.num_ctx - len(self.tokens)) - 1
        return room if self.job.draft < 0 else min(room, self.job.draft)

    def confirm(self, begin: int) -> bool:
        """Compares what was said from there on with the draft. True where all of it is computed, so that more can be drawn."""
        said, draft = self.tokens[begin:], self.draft
        right = next((at for at, token in enumerate(said) if at == len(draft) or token != draft[at]), len(said))
        del draft[:right]
        self.computed += right
        self.confirmed += right
        return 0 < right == len(said)

    def kept_at_front(self, *, adds_bos: bool) -> int:
        """Tokens that a shift of the full context leaves alone."""
        wanted = self.prompt_tokens if self.job.num_keep < 0 else self.job.num_keep + adds_bos
        return max(0, min(wanted, self.prompt_tokens, self.job.num_ctx - 4))

    def drop(self, begin: int, end: int) -> None:
        """Those computed tokens are gone from the context."""
        del self.tokens[begin:end]
        self.guesses = None
        self.computed -= end - begin

    def pass_mark(self) -> bool:
        """Is it just where a checkpoint is wanted? That is asked once."""
        is_there = False
        while self.marks and self.computed >= self.marks[0]:
            is_there = self.computed == self.marks.popleft()
        return is_there

    def tell_begun(self) -> Begun | None:
        """What its first gain tells of it; None for the others."""
        if self._has_told:
            return None
        self._has_told = True
        return Begun(self.prompt_tokens, self.cached)

    def finish(self, reason: FinishReason) -> Finish:
        now_ns = self._now_ns()
        first_ns = self._first_ns or now_ns
        return Finish(
            reason=reason,
            stop_text=self.text.stopped_by,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached,
            prompt_ns=first_ns - self._began_ns,
            thought_tokens=min(self.thought_tokens, self.drawn),
            eval_tokens=self.drawn,
            eval_ns=max(now_ns - first_ns, 1) if self.drawn else 0,
            draft_tokens=self.drafted,
            confirmed_tokens=self.confirmed,
        )
