"""Tokens and grammars for tests of an answer's course: any bytes are a token, and a grammar is a few texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from corral.core.errors import BadRequestError
from corral.engine.llamacpp.worker.grammar.guide import Guide
from corral.engine.llamacpp.worker.grammar.matching import Allowed, Said

END: Final = 0


class AnyTokens:
    """The first 256 tokens behind END are the bytes; others are made of any text that is asked for."""

    def __init__(self) -> None:
        self.texts = [b"", *(bytes([byte]) for byte in range(256))]
        self.unspellable = b"\x00"  # there are no tokens for a text with this

    def token(self, text: bytes) -> int:
        if text not in self.texts[1:]:
            self.texts.append(text)
        return self.texts.index(text, 1)

    def of(self, token: int) -> bytes:
        return self.texts[token]

    def ends(self, token: int) -> bool:
        return token == END

    def exact(self, text: bytes) -> list[int]:
        if self.unspellable in text:
            raise BadRequestError("the model has no tokens for it")
        return [byte + 1 for byte in text]

    def blanks(self) -> list[int]:
        return [token for token, text in enumerate(self.texts) if text and not text.strip()]


class Texts:
    """The grammar of these texts and no others."""

    def __init__(self, tokens: AnyTokens, *texts: str, done: bytes = b"") -> None:
        self._tokens = tokens
        self._texts = [text.encode() for text in texts]
        self.done = done

    @property
    def _left(self) -> list[bytes]:
        return [text[len(self.done) :] for text in self._texts if text.startswith(self.done)]

    @property
    def accepts(self) -> bool:
        return b"" in self._left

    @property
    def is_over(self) -> bool:
        return self._left == [b""]

    def allows(self, tokens: Sequence[int]) -> bool:
        text = b"".join(map(self._tokens.of, tokens))
        return bool(text) and any(left.startswith(text) for left in self._left)

    def consume(self, tokens: Sequence[int]) -> None:
        self.done += b"".join(map(self._tokens.of, tokens))
        if not self._left:
            raise BadRequestError("the answer does not meet its grammar")

    def forced(self) -> list[int]:
        first, last = min(self._left, default=b""), max(self._left, default=b"")
        same = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
        return [] if self.accepts else self._tokens.exact(first[:same])

    def allowed(self) -> Allowed:
        allowed = np.array([self.allows((token,)) for token in range(len(self._tokens.texts))], np.bool_)
        allowed[END] = self.accepts
        return allowed

    def closing(self, allowed: Allowed) -> Allowed:
        return allowed

    def copy(self) -> "Texts":
        return Texts(self._tokens, *(text.decode() for text in self._texts), done=self.done)


@dataclass
class Course:
    """What became of an answer."""

    text: str = ""
    thought_tokens: int = 0
    ended: bool = False  # by the model, or because the grammar can only end
    bound: str = ""  # what was said under a grammar
    replaced: int = 0  # tokens of the model's that were not let through


def run(guide: Guide, tokens: AnyTokens, *wanted: str | int) -> Course:
    """The answer, where the model wants to say these tokens one after the other; where one is not allowed, the first other."""
    course = Course()
    said = _taken(course, guide.start(), tokens)
    for want in wanted:
        while guide.has_more:
            said += _taken(course, guide.more(), tokens)
        if guide.is_over:
            break
        token = want if isinstance(want, int) else tokens.token(want.encode())
        if guide.is_binding and not guide.allows(token):
            allowed = guide.allowed()
            assert len(tokens.texts) <= token or not allowed[token]
            allowed[tokens.blanks()] &= not allowed[[at for at, text in enumerate(tokens.texts) if text.strip()]].any()
            token = int(allowed.argmax())
            course.replaced += 1
        if tokens.ends(token):
            instead = guide.end()
            if not instead:
                course.ended = True
                break
            said += _taken(course, instead, tokens)
            continue
        said += _taken(course, guide.take(token), tokens)
    course.text = said.decode()
    course.ended = course.ended or guide.is_over
    course.thought_tokens = guide.thought_tokens
    return course


def _taken(course: Course, said: list[Said], tokens: AnyTokens) -> bytes:
    course.bound += b"".join(tokens.of(token) for token, is_bound in said if is_bound).decode("utf-8", "replace")
    return b"".join(tokens.of(token) for token, _ in said)
