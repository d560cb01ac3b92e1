"""A llama.cpp context that makes vectors of texts, beside the one that generates or alone. Worker side, native.

A model that reads from left to right keeps what it has read in KV memory; here its token vectors are pooled, so that a text may
come in pieces. Other models read a text at once, keep nothing, and llama.cpp pools for them: some have layers behind that.
It does for all that rank, too: of one that reads from left to right the last token counts, so what comes of the last piece.
"""

import ctypes
from collections.abc import Iterable, Sequence
from typing import Any, Final

import llama_cpp.llama_cpp as api
import numpy as np
import numpy.typing as npt

from corral.core.errors import EngineError, ModelLoadError
from corral.core.machine_memory import available_bytes
from corral.engine.llamacpp.worker.allowance import Allowance
from corral.engine.llamacpp.worker.embed.embedder import Piece
from corral.engine.llamacpp.worker.embed.reading import POOLS, Pool, Pooling, Reading, sizes
from corral.engine.llamacpp.worker.native.binding import KV_TYPES, Model, NativeLog
from corral.engine.llamacpp.worker.native.context import ContextSettings

RANKS: Final = int(api.LLAMA_POOLING_TYPE_RANK)
_POOLINGS: Final[dict[int, Pooling]] = {
    api.LLAMA_POOLING_TYPE_NONE: "mean",
    api.LLAMA_POOLING_TYPE_MEAN: "mean",
    api.LLAMA_POOLING_TYPE_CLS: "cls",
    api.LLAMA_POOLING_TYPE_LAST: "last",
    RANKS: "rank",
}
_NATIVE: Final = {number: pooling for pooling, number in _POOLINGS.items()}
_SHORTEST: Final = 4  # tokens of the shortest texts that fill a step
_MOST_SEQUENCES: Final = 256  # llama.cpp takes no more
_STATE_SEQUENCES: Final = 8  # where each of them has a state of a fixed, large size
_FLOAT_BYTES: Final = 4
_LEAST_ROOM: Final = 1  # tokens, of the smallest context
_PROBE: Final = 32  # tokens of a context that is only asked what it is
_TOPIC: Final = "embeddings"  # in llama.cpp's log


def reading(model: Model, log: NativeLog) -> Reading:
    """Asks a small context. Raises ModelLoadError."""
    stated = model.pooling
    pooling = "mean" if stated is None else _POOLINGS.get(stated)
    if pooling is None:
        raise ModelLoadError(f"the model's pooling type is {stated}; known are {', '.join(map(str, _POOLINGS))}")
    params = api.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = _PROBE
    params.embeddings = params.no_perf = True
    pointer = _made(model, params, log)
    keeps = bool(api.llama_get_memory(pointer))
    is_causal = bool(api.llama_get_causal_attn(pointer))
    api.llama_free(pointer)
    log.forget(_TOPIC)
    return Reading(pooling, keeps, reads_whole=not (keeps and is_causal))


def _made(model: Model, params: Any, log: NativeLog) -> Any:
    log.topic = _TOPIC
    pointer = api.llama_init_from_model(model.pointer, params)
    log.topic = ""
    if not pointer:
        log.forget(_TOPIC)
        raise ModelLoadError(f"llama.cpp cannot make a context to make embeddings of {params.n_ctx} tokens in")
    return pointer


class NativeEmbedContext:
    """Reads a text of `room` tokens, or many short ones at once. Meets EmbedContext."""

    def __init__(
        self, model: Model, settings: ContextSettings, how: Reading, log: NativeLog, *, room: int, allowance: Allowance
    ) -> None:
        self.batch, self.cells = sizes(how, room=room, vocabulary_size=model.vocabulary.size)
        self.sequences = min(_STATE_SEQUENCES if model.keeps_state else _MOST_SEQUENCES, self.batch // _SHORTEST)
        self.reads_whole = how.reads_whole
        self._log = log
        free_bytes = available_bytes()
        if room > _LEAST_ROOM or model.pooling is None:  # else it is part of what the model was let in with
            free_bytes = allowance.left_of(free_bytes)
        self._claim_memory(model, settings, how, free_bytes)
        params = api.llama_context_default_params()
        params.n_ctx = self.cells
        params.n_batch = params.n_ubatch = self.batch
        params.n_seq_max = self.sequences
        params.n_threads = params.n_threads_batch = settings.threads.now
        params.flash_attn_type = -1 if settings.flash_attention is None else int(settings.flash_attention)
        params.type_k = params.type_v = KV_TYPES[settings.kv_type]
        params.kv_unified = True  # texts of any length in one batch; with memory of their own llama.cpp would cut it up
        params.embeddings = params.no_perf = True
        self._is_pooled_natively = how.reads_whole or how.pooling == "rank"
        params.pooling_type = _NATIVE[how.pooling] if self._is_pooled_natively else api.LLAMA_POOLING_TYPE_NONE
        self._pointer = _made(model, params, log)
        log.note(_TOPIC, "output", self._output_bytes)
        model.apply_adapters(self._pointer, model.scales)
        self._memory = api.llama_get_memory(self._pointer)
        self._row_size = api.llama_model_n_cls_out(model.pointer) if how.pooling == "rank" else model.embedding_size
        self._row = ctypes.c_float * self._row_size
        self._partial: set[int] = set()  # sequences of texts that are not read to their end
        self._pooled: dict[int, Pool] = {}
        self._pooling = how.pooling
        self._tokens = _Tokens(self.batch)
        self._threads = settings.threads
        self._threads_set = settings.threads.now

    def _claim_memory(self, model: Model, settings: ContextSettings, how: Reading, free_bytes: int) -> None:
        """Refuses what would not end well: the system lets a process have memory that is not there, and kills it later."""
        output_bytes = self.batch * model.vocabulary.size * _FLOAT_BYTES
        need_bytes = output_bytes
        if how.keeps:
            need_bytes += output_bytes + int(self.cells * model.kv_bytes_per_token(settings.kv_type))
        if need_bytes > free_bytes:
            raise ModelLoadError(
                f"not enough memory to make embeddings of {self.batch} tokens at once: that takes {need_bytes >> 20} MiB, "
                f"and {free_bytes >> 20} MiB are free; send shorter inputs or free memory"
            )
        self._output_bytes = output_bytes

    def compute(self, pieces: Sequence[Piece]) -> list[bytes]:
        for piece in pieces:
            self._tokens.add(piece)
        count = self._tokens.native.n_tokens
        if self._threads_set != self._threads.now:
            self._threads_set = self._threads.now
            api.llama_set_n_threads(self._pointer, self._threads_set, self._threads_set)
        status = api.llama_decode(self._pointer, self._tokens.native)
        self._tokens.native.n_tokens = 0
        if status:
            raise EngineError(f"llama.cpp could not compute embeddings of {count} tokens: llama_decode gave {status}")
        for piece in pieces:
            (self._partial.discard if piece.is_last else self._partial.add)(piece.sequence)
        read = [piece for piece in pieces if piece.is_last]
        vectors = self._native_vectors(read) if self._is_pooled_natively else self._pool(pieces, count)
        self._forget_read([piece.sequence for piece in read])
        return vectors

    def forget(self, sequences: Iterable[int]) -> None:
        for sequence in sequences:
            self._partial.discard(sequence)
            self._pooled.pop(sequence, None)
            if self._memory:
                api.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def close(self) -> None:
        if self._pointer:
            api.llama_free(self._pointer)
            self._pointer = None
            self._log.forget(_TOPIC)

    def _forget_read(self, sequences: Sequence[int]) -> None:
        if self._partial:
            self.forget(sequences)
            return
        self._pooled.clear()
        if self._memory:
            api.llama_memory_clear(self._memory, False)

    def _native_vectors(self, pieces: Sequence[Piece]) -> list[bytes]:
        vectors: list[bytes] = []
        for piece in pieces:
            first = api.llama_get_embeddings_seq(self._pointer, piece.sequence)
            if not first:
                raise EngineError("llama.cpp gave no embedding for a text that it has read")
            vectors.append(bytes(self._row.from_address(ctypes.addressof(first.contents))))
        return vectors

    def _pool(self, pieces: Sequence[Piece], count: int) -> list[bytes]:
        first = api.llama_get_embeddings(self._pointer)
        if not first:
            raise EngineError("llama.cpp gave no embeddings for the tokens that it has read")
        table = np.ctypeslib.as_array(first, (count, self._row_size))
        vectors: list[bytes] = []
        begin = 0
        for piece in pieces:
            end = begin + len(piece.tokens)
            pool = self._pooled.setdefault(piece.sequence, POOLS[self._pooling]())
            pool.take(table[begin:end])
            if piece.is_last:
                vectors.append(pool.vector().astype("<f4").tobytes())
            begin = end
        return vectors


class _Tokens:
    """A batch, in arrays that are filled by slices. The vector of every token is wanted."""

    def __init__(self, size: int) -> None:
        self._ids = np.zeros(size, np.int32)
        self._positions = np.zeros(size, np.int32)
        self._sequences = np.zeros(size, np.int32)
        self._counts = np.ones(size, np.int32)
        self._outputs = np.ones(size, np.int8)
        self._pointers = self._sequences.ctypes.data + self._sequences.itemsize * np.arange(size, dtype=np.uintp)
        self.native = api.llama_batch(
            n_tokens=0,
            token=_pointer(self._ids, ctypes.c_int32),
            embd=None,
            pos=_pointer(self._positions, ctypes.c_int32),
            n_seq_id=_pointer(self._counts, ctypes.c_int32),
            seq_id=_pointer(self._pointers, ctypes.POINTER(ctypes.c_int32)),
            logits=_pointer(self._outputs, ctypes.c_int8),
        )

    def add(self, piece: Piece) -> None:
        begin = self.native.n_tokens
        self.native.n_tokens = end = begin + len(piece.tokens)
        self._ids[begin:end] = piece.tokens
        self._positions[begin:end] = range(piece.position, piece.position + len(piece.tokens))
        self._sequences[begin:end] = piece.sequence


def _pointer(array: npt.NDArray[Any], kind: Any) -> Any:
    """A C pointer to the array's first item. The array must outlive it."""
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))
