"""`python -m corral.engine.llamacpp.worker.grammar.trying FD`: compiles grammars and takes their first steps. See trials.py.

The kernel ends it when a grammar has had its time. Its memory is bounded, too: what asks for more of it aborts.
"""

import contextlib
import resource
import signal
import sys
import time
from multiprocessing.connection import Connection
from typing import Final

import msgspec
from llguidance import LLMatcher, LLTokenizer

from corral.core.errors import BadRequestError
from corral.core.parent import end_with_parent
from corral.core.types import Grammar
from corral.engine.llamacpp.worker.grammar.compiler import compiled, lark_text, limits, readable, tokenizer_of
from corral.engine.llamacpp.worker.grammar.trials import CPU_S, MEMORY_BYTES, Verdict, Words

_IDLE_S: Final = 60.0
_STEPS: Final = 24
_STEP_S: Final = 0.1  # that one question may take
_DICTATED_BYTES: Final = 64 << 10  # that a grammar leaves no choice of: Python stands still while they are looked for
_CLOSERS: Final = (b'"', b"}", b"]", b",")  # what leads on to the next part soonest


class _Tokens:
    """As llguidance wants to be told of it. Nothing is tokenized here but by the longest tokens first."""

    bos_token_id = None

    def __init__(self, words: Words) -> None:
        self.tokens = list(words.tokens)
        self.special_token_ids = list(words.ends)
        self.eos_token_id = words.ends[0] if words.ends else None

    def __call__(self, _text: bytes) -> list[int]:
        return []


class Trying:
    def __init__(self, words: Words) -> None:
        self._tokenizer: LLTokenizer = tokenizer_of(_Tokens(words), words.ends)
        texts = {text: token for token, text in reversed(list(enumerate(words.tokens)))}
        self._closers = [texts[text] for text in _CLOSERS if text in texts]
        self._ends = frozenset(words.ends)

    def refusal(self, grammar: Grammar) -> str:
        """Why it cannot be used; empty where it can."""
        try:
            matcher = compiled(self._tokenizer, lark_text(grammar), limits())
            self._walk(matcher)
        except BadRequestError as error:
            return str(error)
        return ""

    def _walk(self, matcher: LLMatcher) -> None:
        """Some steps into the grammar. Raises BadRequestError where one takes too long."""
        for _ in range(_STEPS):
            began_s = time.process_time()
            dictated = matcher.compute_ff_bytes()
            if (size := len(dictated)) > _DICTATED_BYTES:
                raise BadRequestError(
                    f"the answer's grammar cannot be used: it dictates {size} bytes at once, and may dictate "
                    f"{_DICTATED_BYTES}; shorten its fixed texts"
                )
            if dictated:
                matcher.consume_tokens(self._tokenizer.greedy_tokenize(dictated.decode("utf-8", "ignore")))
            if matcher.is_stopped():
                break
            mask = matcher.compute_bitmask()
            token = self._next(matcher, mask)
            _check_time(time.process_time() - began_s)
            if token < 0 or not matcher.consume_token(token):
                break
        if matcher.is_error() and not (error := matcher.get_error()).startswith("NoExtension"):
            raise BadRequestError(f"the answer's grammar takes too much work: {readable(error)}")

    def _next(self, matcher: LLMatcher, mask: bytes) -> int:
        """A token that goes on with the text; negative where none does."""
        for token in self._closers:
            if mask[token >> 3] >> (token & 7) & 1:
                return token
        for at, bits in enumerate(mask):
            for bit in range(8):
                if bits >> bit & 1 and (token := at * 8 + bit) not in self._ends:
                    return token
        return -1


def _check_time(took_s: float) -> None:
    if took_s > _STEP_S:
        raise BadRequestError(
            f"the answer's grammar cannot be used: it takes {took_s * 1000:.0f} ms for one of its first tokens, and may take "
            f"{_STEP_S * 1000:.0f}; give it fewer ways to go on"
        )


def main() -> None:
    end_with_parent()
    link = Connection(int(sys.argv[1]))
    trying = Trying(msgspec.msgpack.decode(link.recv_bytes(), type=Words))
    _bound_memory()
    link.send_bytes(b"ready")
    with contextlib.suppress(EOFError, OSError):
        while link.poll(_IDLE_S):
            grammar = msgspec.msgpack.decode(link.recv_bytes(), type=Grammar)
            signal.setitimer(signal.ITIMER_PROF, CPU_S)  # SIGPROF ends a process
            refusal = trying.refusal(grammar)
            signal.setitimer(signal.ITIMER_PROF, 0)
            link.send_bytes(msgspec.msgpack.encode(Verdict(refusal)))


def _bound_memory() -> None:
    with contextlib.suppress(ValueError, OSError):  # macOS has no such bound
        taken_bytes = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) << 10
        bound_bytes = taken_bytes + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (bound_bytes, bound_bytes))


if __name__ == "__main__":
    main()
