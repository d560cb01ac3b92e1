"""Grammars, compiled by llguidance, and the guides of the answers that they bind.

Compiling goes on in a thread of its own, one grammar after the other, while the engine's steps go on; a grammar that has been
compiled before is there at once. One that might take for ever is tried elsewhere first, with another thread to wait for it, so
that ordinary ones do not wait behind it. What llguidance knows of the vocabulary is built with the first grammar, for that is
seconds' worth of work and megabytes that most workers never need: its last part, a quarter of a second for 150,000 tokens,
holds Python's lock, and the engine's other streams wait for so long, once in a worker's life.

All tokens but those that end an answer count as what they spell, control tokens too, so that a marker in a grammar is the
model's own. Control tokens that neither a grammar's text nor the job names are never drawn where a grammar binds.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher

from corral.core.errors import BadRequestError, EngineError
from corral.core.types import Grammar, Job
from corral.engine.llamacpp.worker.grammar.compiler import compiled, is_plain, lark_text, limits, readable, tokenizer_of
from corral.engine.llamacpp.worker.grammar.guide import RUN, Guide
from corral.engine.llamacpp.worker.grammar.kept import Compiled, Kept, Key, allocated_bytes, trim
from corral.engine.llamacpp.worker.grammar.matching import Allowed, Part
from corral.engine.llamacpp.worker.grammar.numbers import MOST, Numbers, leading
from corral.engine.llamacpp.worker.grammar.patience import Patience
from corral.engine.llamacpp.worker.grammar.spelling import Spelling
from corral.engine.llamacpp.worker.grammar.trials import Trials, Words

_PIECE_BYTES: Final = 2 << 10  # of a long text that is dictated, at a time
_UNSURE_TOKENS: Final = 8  # at the end of such a piece, which what follows may change

T = TypeVar("T")


class _Tokens:
    """The vocabulary as llguidance wants to be told of it."""

    bos_token_id = None

    def __init__(self, spelling: Spelling, ends: Sequence[int]) -> None:
        self._spelling = spelling
        self.tokens = spelling.all()
        self.special_token_ids = list(ends)
        self.eos_token_id = ends[0] if ends else None

    def __call__(self, text: bytes) -> list[int]:
        return self._spelling.exact(text)


class Vocabulary:
    """What matchers need of the vocabulary, built once."""

    def __init__(self, spelling: Spelling) -> None:
        texts = spelling.all()
        self.ends = [token for token in range(len(texts)) if spelling.ends(token)]
        self.controls = spelling.controls()
        spelling.blanks()
        self.spelling = spelling
        self.tokenizer = tokenizer_of(_Tokens(spelling, self.ends), self.ends)
        self.limits = limits()
        self.size = len(texts)
        self.texts = texts
        self.quotes = np.fromiter((text.startswith(b'"') for text in texts), np.bool_, len(texts))
        self.zeros = np.fromiter((text.isdigit() and text.endswith(b"0") for text in texts), np.bool_, len(texts))
        self.leading_digits = np.fromiter((min(leading(text), MOST + 1) for text in texts), np.int8, len(texts))
        self.words = np.zeros((self.tokenizer.vocab_size + 31) // 32, np.int32)  # room for one mask: they are made one by one


class LlgMatcher:
    """A text in a grammar, as guide.Matcher wants it. `hidden` are control tokens that are not to be drawn.

    Of JSON it knows the `numbers`, too: where one has had its digits, it takes what ends it, if there is anything.
    """

    def __init__(
        self,
        source: Compiled,
        native: LLMatcher,
        vocabulary: Vocabulary,
        patience: Patience,
        hidden: frozenset[int],
        numbers: Numbers | None = None,
    ) -> None:
        self._source = source
        self._native = native
        self._vocabulary = vocabulary
        self._patience = patience
        self._hidden = hidden
        self._numbers = numbers
        self._hidden_list: npt.NDArray[np.int64] = np.fromiter(hidden, np.int64, len(hidden))

    @property
    def accepts(self) -> bool:
        return self._native.is_accepting()

    @property
    def is_over(self) -> bool:
        if not self._native.is_stopped():
            return False
        self._check()
        return True

    def allows(self, tokens: Sequence[int]) -> bool:
        if not self._hidden.isdisjoint(tokens):
            return False
        if self._numbers and not self._numbers.takes(self._vocabulary.texts[token] for token in tokens):
            return False
        return self._ask(lambda: self._native.validate_tokens(list(tokens))) == len(tokens) and not self._native.is_stopped()

    def consume(self, tokens: Sequence[int]) -> None:
        if not self._ask(lambda: self._native.consume_tokens(list(tokens))):
            self._check()
            raise BadRequestError("the answer does not meet its grammar")
        if self._numbers:
            self._numbers.take(b"".join(self._vocabulary.texts[token] for token in tokens))

    def forced(self) -> list[int]:
        """A long text comes in pieces: llguidance would have all of it tokenized, and again for each of them."""
        text = self._ask(self._native.compute_ff_bytes)
        if len(text) <= _PIECE_BYTES:
            return self._ask(self._native.compute_ff_tokens) if text else []
        tokens, size = list[int](), _PIECE_BYTES
        while len(tokens) <= RUN and size < len(text):
            tokens = self._piece(text[:size])
            size *= 2
        return tokens[: self._native.validate_tokens(tokens)]

    def allowed(self) -> Allowed:
        words = self._vocabulary.words
        self._ask(lambda: self._native.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes))
        self._check()
        allowed = np.unpackbits(words.view(np.uint8), count=self._vocabulary.size, bitorder="little").view(np.bool_)
        allowed[self._hidden_list] = False
        allowed[self._vocabulary.ends] = self.accepts
        return allowed if self._numbers is None else self._ending(allowed, self._numbers)

    def closing(self, allowed: Allowed) -> Allowed:
        if self._numbers is None or not self._numbers.is_quoted:
            return allowed
        fitting: Allowed = allowed & self._vocabulary.quotes
        return fitting if fitting.any() else allowed

    def copy(self) -> "LlgMatcher":
        numbers = self._numbers and self._numbers.copy()
        return LlgMatcher(self._source, self._native.deep_copy(), self._vocabulary, self._patience, self._hidden, numbers)

    def _piece(self, text: bytes) -> list[int]:
        """The tokens of the beginning of a text, as far as they are sure."""
        try:
            return self._vocabulary.spelling.exact(text.decode("utf-8", "ignore").encode())[:-_UNSURE_TOKENS]
        except EngineError:
            return []

    def _ending(self, allowed: Allowed, numbers: Numbers) -> Allowed:
        """Of the allowed tokens those that give no number too many digits; all of them where there are no others."""
        if numbers.is_quoted:
            return allowed
        fitting: Allowed = allowed & (self._vocabulary.leading_digits <= numbers.left)
        if not fitting.any():  # one that is to be above a bound cannot end with a 0
            fitting = allowed & ~self._vocabulary.zeros
        return fitting if fitting.any() else allowed

    def _ask(self, question: Callable[[], T]) -> T:
        before_s = self._patience.slow_s
        try:
            return self._patience.ask(question)
        finally:
            if (slow_s := self._patience.slow_s - before_s) > 0:
                self._source.learn(slow_s)

    def _check(self) -> None:
        """llguidance says nothing of what went wrong, and remembers it."""
        if not self._native.is_error():
            return
        self._source.wear_out()
        error = self._native.get_error()
        if error.startswith("NoExtension"):
            raise BadRequestError("the answer can neither go on nor end by its grammar; nothing meets it")
        raise BadRequestError(f"the answer's grammar takes too much work: {readable(error)}")


class Grammars:
    """Makes the guides of jobs that have grammars, each in its time.

    A guide that is no longer wanted is given up with its future: before its turn has come nothing is done for it.
    """

    def __init__(self, spelling: Spelling) -> None:
        self._spelling = spelling
        self._thread = ThreadPoolExecutor(1, "grammars")
        self._waiting = ThreadPoolExecutor(1, "grammar trials")
        self._vocabulary: Vocabulary | None = None
        self._trials: Trials | None = None
        self._kept = Kept(self._give_back)

    def guide(self, job: Job) -> Future[Guide]:
        """The job's guide, when it is made; BadRequestError where a grammar is refused."""
        if any(self._is_doubtful(grammar) for grammar in job.grammars):
            return self._waiting.submit(self._tried, job)
        if job.grammars:
            return self._thread.submit(self._made, job)
        future = Future[Guide]()
        future.set_result(Guide(self._spelling, thought=job.thought))
        return future

    def named(self, names: tuple[str, ...]) -> frozenset[int]:
        """The control tokens of these names."""
        return self._spelling.named(names)

    def _is_doubtful(self, grammar: Grammar) -> bool:
        return not (self._kept.knows(_key(grammar)) or is_plain(grammar))

    def _tried(self, job: Job) -> Guide:
        """The job's guide, if each of its grammars can be compiled in time."""
        vocabulary = self._thread.submit(self._known_vocabulary).result()
        self._trials = self._trials or Trials(Words(vocabulary.texts, vocabulary.ends))
        for grammar in job.grammars:
            if self._is_doubtful(grammar):
                self._trials.hold(grammar)
        return self._thread.submit(self._made, job).result()

    def _known_vocabulary(self) -> Vocabulary:
        self._vocabulary = self._vocabulary or Vocabulary(self._spelling)
        return self._vocabulary

    def _made(self, job: Job) -> Guide:
        vocabulary, patience = self._known_vocabulary(), Patience()
        wholes = [grammar for grammar in job.grammars if not grammar.after]
        if wholes and len(job.grammars) > 1:
            raise BadRequestError("a grammar of the whole answer must be the only one")
        if wholes:
            return Guide(self._spelling, thought=job.thought, whole=self._matcher(wholes[0], job, vocabulary, patience))
        parts = [
            Part(
                after=grammar.after.encode(),
                matcher=self._matcher(grammar, job, vocabulary, patience),
                at_start=grammar.at_start,
                ends=grammar.ends,
                dictates=grammar.dictates,
            )
            for grammar in job.grammars
        ]
        return Guide(self._spelling, thought=job.thought, parts=parts)

    def _matcher(self, grammar: Grammar, job: Job, vocabulary: Vocabulary, patience: Patience) -> LlgMatcher:
        """A new one, at the grammar's beginning."""
        text = grammar.text.encode("utf-8", "replace")
        named = self._spelling.named(job.spelled)
        hidden = frozenset(at for at, name in vocabulary.controls.items() if at not in named and name not in text)
        source = self._newest(grammar, vocabulary)
        numbers = Numbers(grammar.after) if grammar.is_json else None
        return LlgMatcher(source, source.matcher.deep_copy(), vocabulary, patience, hidden, numbers)

    def _newest(self, grammar: Grammar, vocabulary: Vocabulary) -> Compiled:
        key = _key(grammar)
        known = self._kept.get(key)
        if known is None:
            before_bytes = allocated_bytes()
            native = compiled(vocabulary.tokenizer, lark_text(grammar), vocabulary.limits)
            native.compute_ff_bytes()  # what it dictates first: found here it is found for all its copies
            known = Compiled(native, max(len(grammar.text), allocated_bytes() - before_bytes))
            self._kept.add(key, known)
        known.uses += 1
        self._kept.fit()
        return known

    def _give_back(self) -> None:
        """Behind what is being compiled, for that is why memory is wanted."""
        with suppress(RuntimeError):  # the process ends
            self._thread.submit(trim)


def _key(grammar: Grammar) -> Key:
    return grammar.kind, grammar.text
