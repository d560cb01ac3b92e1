"""Grammars tried out in this process: what they take, what they force, and random texts by them."""

import random
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from corral.core.types import Grammar
from corral.engine.llamacpp.worker.grammar.compiler import limits
from corral.engine.llamacpp.worker.grammar.gbnf import lark_of

_END: Final = 256
_MOST_STEPS: Final = 6000
_CLOSERS: Final = ('"', "}", "]", "'", ")", "\n", " ", "0", ",")


class _Bytes:
    """A vocabulary of single bytes, and a token that ends the text."""

    eos_token_id = _END
    bos_token_id = None
    tokens: Final = [bytes((byte,)) for byte in range(256)] + [b"<end>"]
    special_token_ids: Final = (_END,)

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


@lru_cache
def _tokenizer() -> LLTokenizer:
    return LLTokenizer(TokenizerWrapper(_Bytes()))


def matcher(grammar: Grammar) -> LLMatcher:
    """At the grammar's beginning. Fails where it does not compile."""
    made = LLMatcher(
        _tokenizer(), lark_of(grammar.text) if grammar.kind == "gbnf" else grammar.text, limits=limits(), log_level=0
    )
    assert not made.is_error(), made.get_error()
    return made


def taken(grammar: Grammar, text: str) -> str:
    """As much of the text as the grammar takes; with `…` behind it where the text may not end there."""
    made, data = matcher(grammar), text.encode()
    count = made.try_consume_tokens(list(data))
    return data[:count].decode(errors="replace") + ("" if made.is_accepting() else "…")


def takes(grammar: Grammar, text: str) -> bool:
    """Whether the text meets the grammar."""
    return taken(grammar, text) == text


def forced(grammar: Grammar, text: str = "") -> str:
    """What must come behind the text."""
    made = matcher(grammar)
    assert made.consume_tokens(list(text.encode()))
    return made.compute_ff_bytes().decode()


class Walker:
    """Random texts of a grammar. Whatever is among `hints` and may come next is tried more often, the longer the text is."""

    def __init__(self, grammar: Grammar, hints: Sequence[str] = ()) -> None:
        self._start = matcher(grammar)
        self._hints = [list(hint.encode()) for hint in (*hints, *_CLOSERS)]
        assert self._start.get_error() == ""

    def text(self, seed: int) -> str:
        """A text that meets the grammar. The same seed gives the same one."""
        draw, made = random.Random(seed), self._start.deep_copy()
        out = bytearray()
        for step in range(_MOST_STEPS):
            if made.is_stopped() or (made.is_accepting() and draw.random() < 0.3):
                return out.decode()
            piece = self._next(made, draw, step)
            if not piece:
                return out.decode()
            out += piece
        raise AssertionError(f"no end in {_MOST_STEPS} steps: {out.decode(errors='replace')!r}")

    def _next(self, made: LLMatcher, draw: random.Random, step: int) -> bytes:
        """What comes next; nothing where the text can only end."""
        if draw.random() < min(0.7, 0.3 + step / 300):
            for hint in draw.sample(self._hints, len(self._hints)):
                if made.validate_tokens(hint) == len(hint):
                    made.consume_tokens(hint)
                    return bytes(hint)
        allowed = [byte for byte, is_allowed in enumerate(made.compute_logit_bias()[:_END]) if is_allowed]
        if not allowed and made.is_accepting():
            return b""
        assert allowed, made.get_error()
        byte = (
            draw.choice([one for one in allowed if 32 <= one < 127] or allowed) if draw.random() < 0.8 else draw.choice(allowed)
        )
        assert made.consume_token(byte), made.get_error()
        return bytes((byte,))
