"""How images and sounds lie in a sequence of tokens: where their tags are, which tokens stand for them, at which positions.

A piece is what the encoder makes of an image at once: all of it, or one of the slices that some models cut it into. In a
sequence it is a span: a run of one negative number, which is no token of any model and comes from the content alone. So the
same image at the same place is the same beginning, and another one never is. Nothing is cut inside of a span.
A token has one position, a span of a model with positions in two dimensions has fewer positions than tokens. Pure.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy.typing as npt

_TAG: Final = re.compile(r"\[img-(\d{1,9})\]")
_ID_BYTES: Final = 15  # of a digest, so many that no two pieces ever have the same number


def tagged(prompt: str, count: int) -> list[str | int]:
    """The texts of a prompt, and between them the numbers of what is shown there, of so many that there are.

    A tag of a number that is not there is text like any other.
    """
    parts: list[str | int] = []
    text, at = "", 0
    for found in _TAG.finditer(prompt):
        if (number := int(found[1])) < count:
            text += prompt[at : found.start()]
            parts += [text, number] if text else [number]
            text, at = "", found.end()
    text += prompt[at:]
    return [*parts, text] if text else parts


@dataclass(frozen=True, slots=True)
class Piece:
    """What is encoded at once. `part` and `ordinal` say which piece of which part it is in the prompt that brought it."""

    digest: bytes  # of its image, its place among the image's pieces and its size: equal ones have equal embeddings
    part: int
    ordinal: int
    tokens: int
    positions: int
    is_causal: bool  # else each of its tokens sees all the others, so that they are computed together
    places: npt.NDArray[Any]  # int32: the position of each of its tokens, by dimension

    @property
    def token(self) -> int:
        """The number that stands for each of its tokens."""
        return -1 - int.from_bytes(self.digest[:_ID_BYTES], "little")


def digest_of(content: bytes, ordinal: int, tokens: int) -> bytes:
    """The digest of a piece, from that of the whole file."""
    return hashlib.sha256(b"%s %d %d" % (content, ordinal, tokens)).digest()


@dataclass(frozen=True, slots=True)
class Span:
    """A piece in a sequence."""

    begin: int  # tokens before it
    position: int  # of its first token
    piece: Piece

    @property
    def end(self) -> int:
        return self.begin + self.piece.tokens


class Spans:
    """The spans of a sequence, in order. What comes behind the last one is text."""

    def __init__(self, spans: Sequence[Span] = ()) -> None:
        self._spans = tuple(spans)

    def __bool__(self) -> bool:
        return bool(self._spans)

    def position(self, count: int) -> int:
        """The position of the token that comes after so many others."""
        saved = 0
        for span in self._spans:
            if count < span.end and (count <= span.begin or span.piece.positions == span.piece.tokens):
                break
            saved += span.piece.tokens - span.piece.positions
            count = max(count, span.end)  # inside of a span in several dimensions: what comes next comes behind it
        return count - saved

    def border(self, count: int) -> int:
        """So many tokens, or as many fewer that no span is cut."""
        for span in self._spans:
            if span.begin < count < span.end:
                return span.begin
        return count

    def at(self, count: int) -> Span | None:
        """The span that the token after so many others is part of."""
        return next((span for span in self._spans if span.begin <= count < span.end), None)

    def text_end(self, count: int, end: int) -> int:
        """How far text goes from there, up to `end` at most."""
        return next((min(span.begin, end) for span in self._spans if span.begin >= count), end)

    def pieces(self, begin: int) -> list[Piece]:
        """What of them is not over after so many tokens."""
        return [span.piece for span in self._spans if span.end > begin]

    @property
    def end(self) -> int:
        """Tokens up to the end of the last one."""
        return self._spans[-1].end if self._spans else 0


NO_SPANS: Final = Spans()


def laid_out(prefix: Sequence[int], parts: Iterable[list[int] | Piece]) -> tuple[list[int], Spans]:
    """The tokens of texts and pieces behind a prefix, and where the spans are."""
    tokens, position = list(prefix), len(prefix)
    spans: list[Span] = []
    for part in parts:
        if isinstance(part, Piece):
            spans.append(Span(len(tokens), position, part))
            tokens += [part.token] * part.tokens
            position += part.positions
        else:
            tokens += part
            position += len(part)
    return tokens, Spans(spans)
