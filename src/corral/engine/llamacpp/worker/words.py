"""A worker's answers about its vocabulary: text to tokens, tokens to text. Worker side, native.

A call that cannot be answered is answered all the same: it is no reason for all the other answers of the worker to end.
"""

import ctypes
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Final

import llama_cpp.llama_cpp as api

from corral.core.errors import BadRequestError, EngineError, ModelLoadError
from corral.core.types import EngineInfo, LoadSpec
from corral.engine.llamacpp.worker.embed.ranking import MarkedPair, Ranking, TemplatedPair
from corral.engine.llamacpp.worker.embed.reading import Words, suffix
from corral.engine.llamacpp.worker.native.binding import Model, Vocabulary
from corral.engine.llamacpp.worker.texts import Texts
from corral.wire.link import CallFailed, Detokenize, Pieces, Tokenize, Tokens

_BYTES_PER_TOKEN: Final = 16  # room for the text of tokens, before it is known
_LOOK_EVERY_S: Final = 0.02  # a worker with nothing else to do asks its socket so often


def load_vocabulary(spec: LoadSpec) -> Vocabulary:
    """The model's vocabulary alone, which takes a fraction of a second however large the model is. Raises ModelLoadError."""
    params = api.llama_model_default_params()
    params.vocab_only = True
    pointer = api.llama_model_load_from_file(spec.model_path.encode(), params)
    if not pointer:
        raise ModelLoadError(f"llama.cpp cannot load the vocabulary of {spec.model_path}")
    if api.llama_vocab_type(api.llama_model_get_vocab(pointer)) == api.LLAMA_VOCAB_TYPE_NONE:
        raise ModelLoadError(f"{spec.model_path} has no vocabulary")
    return Vocabulary(pointer)


def vocabulary_info(spec: LoadSpec) -> EngineInfo:
    """Of an engine that has only a vocabulary: what that takes is little, and not known."""
    return EngineInfo(n_ctx=0, n_ctx_train=0, n_parallel=spec.n_parallel, size_bytes=0, vram_bytes=0, can_shift=False)


def ranking(model: Model) -> Ranking:
    """How a model that ranks wants the query and the text."""
    words, pointer = model.vocabulary, model.vocabulary.pointer
    if template := api.llama_model_chat_template(model.pointer, b"rerank"):
        return TemplatedPair(words, template.decode("utf-8", "replace"))
    sep: int = api.llama_vocab_sep(pointer)
    eos: int = api.llama_vocab_eos(pointer)
    ends = [eos if eos >= 0 else sep] if api.llama_vocab_get_add_eos(pointer) else []
    separators = [sep] if api.llama_vocab_get_add_sep(pointer) else []
    return MarkedPair(
        words,
        before=(words.bos,) if words.adds_bos and words.bos >= 0 else (),
        between=tuple(token for token in (*ends, *separators) if token >= 0),
        after=tuple(suffix(words)),
    )


def tokenized(words: Words, frame: Tokenize) -> Tokens | CallFailed:
    try:
        ids = words.tokenize(frame.text, add_special=frame.add_special, parse_special=frame.parse_special)
    except (BadRequestError, EngineError) as error:
        return CallFailed(frame.call_id, str(error), is_asked_wrong=isinstance(error, BadRequestError))
    return Tokens(frame.call_id, ids)


class Calls:
    """Tokenizes what is asked of a model that computes meanwhile."""

    def __init__(self, words: Words, texts: Texts) -> None:
        self._words = words
        self._texts = texts
        self._pending: dict[int, Future[Tokens | CallFailed]] = {}

    @property
    def has_work(self) -> bool:
        return bool(self._pending)

    def begin(self, frame: Tokenize) -> None:
        """`fetch` gives the answer, when it is there."""
        self._pending[frame.call_id] = self._texts.read(len(frame.text), lambda: tokenized(self._words, frame))

    def cancel(self, call_id: int) -> None:
        """Nobody waits for the answer any more. A text whose turn has not come is not read."""
        if future := self._pending.pop(call_id, None):
            future.cancel()

    def fetch(self, *, waits: bool) -> list[Tokens | CallFailed]:
        """The answers that are there; with `waits` after a moment in which one may come."""
        if waits:
            wait(self._pending.values(), _LOOK_EVERY_S, FIRST_COMPLETED)
        done = [call_id for call_id, future in self._pending.items() if future.done()]
        return [self._pending.pop(call_id).result() for call_id in done]


def detokenized(vocabulary: Vocabulary, frame: Detokenize) -> Pieces | CallFailed:
    for token in frame.tokens:
        if not 0 <= token < vocabulary.size:  # llama.cpp would end the worker
            reason = f"token {token} is not in the model's vocabulary, which has the tokens 0 to {vocabulary.size - 1}"
            return CallFailed(frame.call_id, reason, is_asked_wrong=True)
    if frame.is_apart:
        known = {token: vocabulary.spelled(token) for token in set(frame.tokens)}
        return Pieces(frame.call_id, [known[token] for token in frame.tokens])
    return Pieces(frame.call_id, [_together(vocabulary, frame.tokens)])


def _together(vocabulary: Vocabulary, tokens: Sequence[int]) -> bytes:
    """The text that these tokens are of, without the space that some tokenizers put before every text."""
    ids = (api.llama_token * len(tokens))(*tokens)
    room = len(tokens) * _BYTES_PER_TOKEN + 1
    buffer = ctypes.create_string_buffer(room)
    size = api.llama_detokenize(vocabulary.pointer, ids, len(tokens), buffer, room, False, True)
    if size < 0:
        buffer = ctypes.create_string_buffer(-size)
        size = api.llama_detokenize(vocabulary.pointer, ids, len(tokens), buffer, -size, False, True)
    return buffer.raw[: max(size, 0)]
