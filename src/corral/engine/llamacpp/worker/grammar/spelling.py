"""Texts as tokens whose bytes are those texts and no others; tokens as what they stand for in an answer.

What the engine itself puts into an answer is spelled here: the end of a thought, what a grammar leaves no choice of. The
model's own tokenizer is asked first, so that the model reads what it would have written. It may add a space of its own, or
find a token in a name that ends the answer: then the longest tokens that fit are taken one after the other.
Pure, but for the vocabulary that it asks; any thread may use it.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from corral.core.errors import EngineError

_SENTINEL: Final = "\x02"  # a character that no token joins to what follows it
_SPACE: Final = b" \t\r\n"
_BLANK_BYTES: Final = 8
_MOST_NAMED: Final = 64  # lists of names that are remembered


class Vocabulary(Protocol):
    size: int

    def tokenize(self, text: str, *, add_special: bool) -> list[int]: ...
    def spelled(self, token: int) -> bytes: ...
    def ends(self, token: int) -> bool: ...
    def is_control(self, token: int) -> bool: ...


class Spelling:
    """What the tokens of one vocabulary spell. Tokens that end an answer spell nothing."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._all: tuple[bytes, ...] = ()
        self._by_text: dict[bytes, int] = {}
        self._longest = 0
        self._blanks: list[int] | None = None
        self._named: dict[tuple[str, ...], frozenset[int]] = {}

    def of(self, token: int) -> bytes:
        return b"" if self._vocabulary.ends(token) else self._vocabulary.spelled(token)

    def ends(self, token: int) -> bool:
        """Does the token end an answer?"""
        return self._vocabulary.ends(token)

    def exact(self, text: bytes) -> list[int]:
        """Tokens that spell this, none of which ends an answer. Raises EngineError where there are none."""
        if not text:
            return []
        return self._tokenized(text) or self._longest_first(text)

    def named(self, names: tuple[str, ...]) -> frozenset[int]:
        """The tokens whose names these are; a name that takes several tokens is text anyhow, and no token ends an answer."""
        if not names:
            return frozenset()
        known = self._named.get(names)
        if known is None:
            if len(self._named) >= _MOST_NAMED:
                self._named.clear()
            found = [self._tokenized(name.encode("utf-8", "replace")) for name in names]
            known = self._named[names] = frozenset(ids[0] for ids in found if len(ids) == 1)
        return known

    def all(self) -> tuple[bytes, ...]:
        """What each token of the vocabulary spells. Takes a while the first time."""
        if not self._all:
            self._all = tuple(map(self.of, range(self._vocabulary.size)))
        return self._all

    def controls(self) -> dict[int, bytes]:
        """The control tokens, those that end an answer left out, with their names."""
        return {token: name for token, name in enumerate(self.all()) if name and self._vocabulary.is_control(token)}

    def blanks(self) -> list[int]:
        """The tokens that are a little white space."""
        if self._blanks is None:
            self._blanks = [
                at for at, text in enumerate(self.all()) if 0 < len(text) <= _BLANK_BYTES and not text.strip(_SPACE)
            ]
        return self._blanks

    def _tokenized(self, text: bytes) -> list[int]:
        """By the model's own tokenizer; nothing where its tokens spell another text."""
        try:
            plain = text.decode()
            tokens = self._vocabulary.tokenize(plain, add_special=False)
            if self._spells(tokens, text):
                return tokens
            before = self._vocabulary.tokenize(_SENTINEL, add_special=False)
            tokens = self._vocabulary.tokenize(_SENTINEL + plain, add_special=False)
        except (UnicodeDecodeError, EngineError):
            return []
        own = tokens[len(before) :]
        return own if tokens[: len(before)] == before and self._spells(own, text) else []

    def _spells(self, tokens: Sequence[int], text: bytes) -> bool:
        return b"".join(map(self.of, tokens)) == text

    def _longest_first(self, text: bytes) -> list[int]:
        index, tokens, at = self._index(), list[int](), 0
        while at < len(text):
            for size in range(min(self._longest, len(text) - at), 0, -1):
                if (token := index.get(text[at : at + size])) is not None:
                    tokens.append(token)
                    at += size
                    break
            else:
                raise EngineError(f"the model has no tokens for {text[at:][:40]!r}, which the answer has to go on with")
        return tokens

    def _index(self) -> dict[bytes, int]:
        """A token by what it spells; of several the first one, as later ones are made for other uses."""
        if not self._by_text:
            index: dict[bytes, int] = {}
            for token, text in enumerate(self.all()):
                if text:
                    index.setdefault(text, token)
            self._longest = max(map(len, index), default=0)
            self._by_text = index
        return self._by_text
