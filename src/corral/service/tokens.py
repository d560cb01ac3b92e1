"""Text to tokens and back, as a model's tokenizer has it. No model is loaded for it: see corral.sched.vocabularies."""

from dataclasses import dataclass
from typing import Final

from corral.core.aio import ThreadLimiter
from corral.core.clock import Clock, SystemClock
from corral.core.errors import BadRequestError
from corral.sched import Vocabularies
from corral.service.lookup import ModelLookup
from corral.store import Store

MOST_TEXT_BYTES: Final = 4 << 20  # of one request: more than the longest context, and tokenized in seconds at worst


@dataclass(frozen=True, slots=True, kw_only=True)
class VocabularyRequest:
    """What both ways have in common."""

    model: str  # as the client spelled it
    keep_alive_s: float | None = None  # of the vocabulary; None: the server's default
    client: str = ""  # who asks, for fairness in the queue


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizeRequest(VocabularyRequest):
    text: str
    add_special: bool = False  # a BOS before the text, as every prompt of the model gets it
    parse_special: bool = True  # read the names of special tokens as these tokens
    with_pieces: bool = False  # tell what each token stands for


@dataclass(frozen=True, slots=True, kw_only=True)
class DetokenizeRequest(VocabularyRequest):
    tokens: tuple[int, ...]  # of 32 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenized:
    tokens: list[int]
    pieces: list[bytes] | None  # of each token, which may be a part of a character; None: nobody asked
    total_ns: int  # from the request's arrival
    load_ns: int  # waiting for the vocabulary, queueing included


@dataclass(frozen=True, slots=True, kw_only=True)
class Detokenized:
    text: str
    total_ns: int
    load_ns: int


class TokenService:
    """The use cases."""

    def __init__(self, store: Store, vocabularies: Vocabularies, *, clock: Clock | None = None) -> None:
        self._vocabularies = vocabularies
        self._clock: Clock = clock or SystemClock()
        self._threads = ThreadLimiter("corral-tokens", 1)  # reads models
        self._lookup = ModelLookup(store, self._threads)

    def close(self) -> None:
        self._threads.close()

    async def tokenize(self, request: TokenizeRequest) -> Tokenized:
        """Raises BadRequestError, ModelNotFoundError, and what a vocabulary's lending raises."""
        began_ns = self._clock.monotonic_ns()
        if (size_bytes := _size_bytes(request.text)) > MOST_TEXT_BYTES:
            raise BadRequestError(
                f"the text has {size_bytes} bytes or more, and {MOST_TEXT_BYTES} are taken; send it in several requests"
            )
        model = await self._lookup.named(request.model)
        async with self._vocabularies.lend(model, keep_alive_s=request.keep_alive_s, client=request.client) as lent:
            tokens = await lent.engine.tokenize(
                request.text, add_special=request.add_special, parse_special=request.parse_special
            )
            pieces = await lent.engine.pieces(tokens) if request.with_pieces else None
        return Tokenized(tokens=tokens, pieces=pieces, total_ns=self._clock.monotonic_ns() - began_ns, load_ns=lent.load_ns)

    async def detokenize(self, request: DetokenizeRequest) -> Detokenized:
        """Raises BadRequestError also for a number that is no token, ModelNotFoundError, and what a lending raises."""
        began_ns = self._clock.monotonic_ns()
        model = await self._lookup.named(request.model)
        async with self._vocabularies.lend(model, keep_alive_s=request.keep_alive_s, client=request.client) as lent:
            text = await lent.engine.detokenize(request.tokens)
        return Detokenized(text=text, total_ns=self._clock.monotonic_ns() - began_ns, load_ns=lent.load_ns)


def _size_bytes(text: str) -> int:
    """Exactly, or for a long text at least: to encode it would take longer than to refuse it."""
    return len(text) if len(text) > MOST_TEXT_BYTES else len(text.encode("utf-8", "replace"))
