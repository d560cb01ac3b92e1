"""Grammars, compiled by llguidance, and the guides of the answers that they bind. With `gbnf` the only module that knows it.

Compiling goes on in a thread of its own, one grammar after the other, while the engine's steps go on; a grammar that has been
compiled before is there at once. What llguidance knows of the vocabulary is built with the first grammar, for that is
seconds' worth of work and megabytes that most workers never need: its last part, a quarter of a second for 150,000 tokens,
holds Python's lock, and the engine's other streams wait for so long, once in a worker's life.

All tokens but those that end an answer count as what they spell, control tokens too, so that a marker in a grammar is the
model's own. Control tokens that neither a grammar's text nor the job names are never drawn where a grammar binds.
"""

import logging
import re
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from corral.core.errors import BadRequestError
from corral.core.types import Grammar, Job
from corral.engine.llamacpp.worker.grammar.gbnf import lark_of
from corral.engine.llamacpp.worker.grammar.guide import Guide
from corral.engine.llamacpp.worker.grammar.matching import Allowed, Part
from corral.engine.llamacpp.worker.grammar.numbers import MOST, Numbers, leading
from corral.engine.llamacpp.worker.grammar.spelling import Spelling

log: Final = logging.getLogger(__name__)
_KEPT: Final = 16  # compiled grammars
_KEPT_BYTES: Final = 4 << 20  # of their texts
_USES: Final = 64  # of a compiled grammar: its copies share what they learn of its states, which is not to grow for ever
_ROW: Final = 10_000  # items of a parser's row: some 2,500 optional properties of an object; llguidance's own limit is for 500
_STATES: Final = 50_000  # of a grammar's lexer, some KB each
_REASON_CHARS: Final = 400
_SLICE: Final = r'[^"\\\x00-\x1F\x7F]{1,30}'  # tokens that strings are made of: looked at together
_PLACE: Final = re.compile(r"^(?:at )?\d+\(\d+\): ")
_SNIPPET: Final = re.compile(r"^\s*(?:\d+ \||\^+\s*$|<non-verbose/>)")

Key = tuple[str, str]


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
        tokens = TokenizerWrapper(_Tokens(spelling, self.ends))
        self.tokenizer = LLTokenizer(tokens, eos_token=self.ends or None, slices=[_SLICE])
        self.limits = LLParserLimits(verbose_errors=False, max_lexer_states=_STATES, max_items_in_row=_ROW)
        self.size = len(texts)
        self.texts = texts
        self.quotes = np.fromiter((text.startswith(b'"') for text in texts), np.bool_, len(texts))
        self.zeros = np.fromiter((text.isdigit() and text.endswith(b"0") for text in texts), np.bool_, len(texts))
        self.leading_digits = np.fromiter((min(leading(text), MOST + 1) for text in texts), np.int8, len(texts))
        self.words = np.zeros((self.tokenizer.vocab_size + 31) // 32, np.int32)  # room for one mask: they are made one by one


@dataclass(slots=True)
class _Compiled:
    matcher: LLMatcher
    size_bytes: int
    uses: int = 0


class LlgMatcher:
    """A text in a grammar, as guide.Matcher wants it. `hidden` are control tokens that are not to be drawn.

    Of JSON it knows the `numbers`, too: where one has had its digits, it takes what ends it, if there is anything.
    """

    def __init__(
        self,
        compiled: _Compiled,
        native: LLMatcher,
        vocabulary: Vocabulary,
        hidden: frozenset[int],
        numbers: Numbers | None = None,
    ) -> None:
        self._compiled = compiled
        self._native = native
        self._vocabulary = vocabulary
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
        return self._native.validate_tokens(list(tokens)) == len(tokens) and not self._native.is_stopped()

    def consume(self, tokens: Sequence[int]) -> None:
        if not self._native.consume_tokens(list(tokens)):
            self._check()
            raise BadRequestError("the answer does not meet its grammar")
        if self._numbers:
            self._numbers.take(b"".join(self._vocabulary.texts[token] for token in tokens))

    def forced(self) -> list[int]:
        return self._native.compute_ff_tokens()

    def allowed(self) -> Allowed:
        words = self._vocabulary.words
        self._native.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
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
        return LlgMatcher(self._compiled, self._native.deep_copy(), self._vocabulary, self._hidden, numbers)

    def _ending(self, allowed: Allowed, numbers: Numbers) -> Allowed:
        """Of the allowed tokens those that give no number too many digits; all of them where there are no others."""
        if numbers.is_quoted:
            return allowed
        fitting: Allowed = allowed & (self._vocabulary.leading_digits <= numbers.left)
        if not fitting.any():  # one that is to be above a bound cannot end with a 0
            fitting = allowed & ~self._vocabulary.zeros
        return fitting if fitting.any() else allowed

    def _check(self) -> None:
        """llguidance says nothing of what went wrong, and remembers it."""
        if not self._native.is_error():
            return
        self._compiled.uses = _USES
        error = self._native.get_error()
        if error.startswith("NoExtension"):
            raise BadRequestError("the answer can neither go on nor end by its grammar; nothing meets it")
        raise BadRequestError(f"the answer's grammar takes too much work: {readable(error)}")


class Grammars:
    """Makes the guides of jobs that have grammars, each in its time."""

    def __init__(self, spelling: Spelling) -> None:
        self._spelling = spelling
        self._thread = ThreadPoolExecutor(1, "grammars")
        self._vocabulary: Vocabulary | None = None
        self._compiled: OrderedDict[Key, _Compiled] = OrderedDict()

    def guide(self, job: Job) -> Future[Guide]:
        """The job's guide, when it is made; BadRequestError where a grammar is refused."""
        if job.grammars:
            return self._thread.submit(self._made, job)
        future = Future[Guide]()
        future.set_result(Guide(self._spelling, thought=job.thought))
        return future

    def named(self, names: tuple[str, ...]) -> frozenset[int]:
        """The control tokens of these names."""
        return self._spelling.named(names)

    def _made(self, job: Job) -> Guide:
        self._vocabulary = self._vocabulary or Vocabulary(self._spelling)
        wholes = [grammar for grammar in job.grammars if not grammar.after]
        if wholes and len(job.grammars) > 1:
            raise BadRequestError("a grammar of the whole answer must be the only one")
        if wholes:
            return Guide(self._spelling, thought=job.thought, whole=self._matcher(wholes[0], job, self._vocabulary))
        parts = [
            Part(
                after=grammar.after.encode(),
                matcher=self._matcher(grammar, job, self._vocabulary),
                at_start=grammar.at_start,
                ends=grammar.ends,
                dictates=grammar.dictates,
            )
            for grammar in job.grammars
        ]
        return Guide(self._spelling, thought=job.thought, parts=parts)

    def _matcher(self, grammar: Grammar, job: Job, vocabulary: Vocabulary) -> LlgMatcher:
        """A new one, at the grammar's beginning."""
        text = grammar.text.encode("utf-8", "replace")
        named = self._spelling.named(job.spelled)
        hidden = frozenset(at for at, name in vocabulary.controls.items() if at not in named and name not in text)
        compiled = self._newest(grammar, vocabulary)
        numbers = Numbers(grammar.after) if grammar.is_json else None
        return LlgMatcher(compiled, compiled.matcher.deep_copy(), vocabulary, hidden, numbers)

    def _newest(self, grammar: Grammar, vocabulary: Vocabulary) -> _Compiled:
        key = grammar.kind, grammar.text
        known = self._compiled.pop(key, None)
        if known is None or known.uses >= _USES:
            lark = lark_of(grammar.text) if grammar.kind == "gbnf" else grammar.text
            native = LLMatcher(vocabulary.tokenizer, lark, limits=vocabulary.limits, log_level=0)
            if native.is_error():
                raise BadRequestError(f"the answer's grammar cannot be used: {readable(native.get_error())}")
            known = _Compiled(native, len(lark))
        known.uses += 1
        self._compiled[key] = known
        while len(self._compiled) > 1 and (len(self._compiled) > _KEPT or self._kept_bytes() > _KEPT_BYTES):
            self._compiled.popitem(last=False)
        return known

    def _kept_bytes(self) -> int:
        return sum(compiled.size_bytes for compiled in self._compiled.values())


def readable(error: str) -> str:
    """llguidance's reason in one line, without the text that it points at."""
    lines = [line.strip() for line in error.splitlines() if not _SNIPPET.match(line)]
    return _PLACE.sub("", " ".join(filter(None, lines)))[:_REASON_CHARS] or "llguidance gives no reason"
