"""A llama.cpp context: KV memory for some sequences, and one batch to compute with. Worker side."""

import ctypes
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import llama_cpp.llama_cpp as api
import numpy as np
import numpy.typing as npt

from corral.core.errors import EngineError, ModelLoadError
from corral.engine.llamacpp.worker.batch.states import HEAD, Bytes, Saved, refit
from corral.engine.llamacpp.worker.batch.threads import ThreadCount
from corral.engine.llamacpp.worker.native.binding import KV_TYPES, Model

_INT: Final = ctypes.c_int32
_MOST_ROWS: Final = 256
_DRAFT_ROWS: Final = 31  # tokens of drafts in a step, at most
_DRAFT_BYTES: Final = 16 << 20  # that their logits may take
_PARTIAL: Final = 1  # LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY
# as the binding's own function, but that it gives a number: the pointer object costs more than the call
_logits_at: Final = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p, _INT)(
    ctypes.cast(api.llama_get_logits_ith, ctypes.c_void_p).value or 0
)


def _fresh(size: int) -> Bytes:
    return np.empty(size, np.uint8)


@dataclass(frozen=True, slots=True)
class ContextSettings:
    """What all contexts of one model have in common."""

    num_batch: int
    threads: ThreadCount
    flash_attention: bool | None
    kv_type: str
    is_unified: bool = False  # one buffer of cells for all sequences, which may share them


class _Batch:
    """Tokens to compute, in arrays that are filled by slices, at C speed. Each token belongs to one sequence."""

    def __init__(self, size: int) -> None:
        self.tokens = np.zeros(size, np.int32)
        self.positions = np.zeros(size, np.int32)
        self.sequences = np.zeros(size, np.int32)
        self.outputs = np.zeros(size, np.int8)
        self._counts = np.ones(size, np.int32)
        self._pointers = self.sequences.ctypes.data + self.sequences.itemsize * np.arange(size, dtype=np.uintp)
        self.native = api.llama_batch(
            n_tokens=0,
            token=_pointer(self.tokens, _INT),
            embd=None,
            pos=_pointer(self.positions, _INT),
            n_seq_id=_pointer(self._counts, _INT),
            seq_id=_pointer(self._pointers, ctypes.POINTER(_INT)),
            logits=_pointer(self.outputs, ctypes.c_int8),
        )


class Context:
    """Room for `sequences` sequences of `cells` tokens each. A batch is filled with `add`, computed with `decode`.

    Each sequence has cells of its own: attention scans its own tokens only, whatever is parked beside it. In a unified buffer
    it scans those of all, and a fork costs nothing: sequences share what they have in common. There are as many cells in all
    either way, so that no sequence runs out of them. Positions count from 0.
    """

    def __init__(self, model: Model, settings: ContextSettings, *, sequences: int, cells: int) -> None:
        size = settings.num_batch + sequences
        params = api.llama_context_default_params()
        params.n_ctx = cells * sequences
        params.n_batch = params.n_ubatch = size
        params.n_seq_max = sequences
        row_bytes = ctypes.sizeof(ctypes.c_float) * model.vocabulary.size
        self.most_logits = sequences + min(_DRAFT_ROWS, _DRAFT_BYTES // row_bytes)  # one token a sequence, and drafts
        params.n_outputs_max = self.most_logits
        params.n_threads = params.n_threads_batch = settings.threads.now
        params.flash_attn_type = -1 if settings.flash_attention is None else int(settings.flash_attention)
        params.type_k = params.type_v = KV_TYPES[settings.kv_type]
        params.kv_unified = settings.is_unified
        params.swa_full = True
        params.no_perf = True
        self.pointer = api.llama_init_from_model(model.pointer, params)
        if not self.pointer:
            raise ModelLoadError(f"llama.cpp cannot make a context of {sequences} sequences of {cells} tokens")
        self._model = model
        self._scales = model.scales
        model.apply_adapters(self.pointer, self._scales)
        self.sequences = sequences
        self.streams = 1 if settings.is_unified else sequences  # buffers of cells
        self.is_even = self.streams > 1  # in one go it takes as many tokens of each sequence, of all that have some
        self.cells: int = api.llama_n_ctx_seq(self.pointer) * self.streams // sequences
        self._memory = api.llama_get_memory(self.pointer)
        if not self._memory:
            api.llama_free(self.pointer)
            raise ModelLoadError("the model keeps no sequences: it makes embeddings and cannot generate text")
        self._window = model.window
        self._keeps_state = model.keeps_state
        self.is_long = 0 < model.long_from < api.llama_n_ctx_seq(self.pointer)
        self._forks = settings.is_unified and not model.keeps_state
        self._sharing: set[int] = set()  # sequences that may have cells in common with others
        self.can_shift: bool = api.llama_memory_can_shift(self._memory)
        self._row = ctypes.c_float * model.vocabulary.size
        self._rows: dict[int, npt.NDArray[np.float32]] = {}  # by address: views of memory that is llama.cpp's
        self._batch = _Batch(size)
        self.batch_size = size  # tokens in a step at most
        self._used = self._wanted = 0  # tokens in the batch, and how many of them give logits
        self._threads = settings.threads
        self._threads_set = settings.threads.now

    # One step

    def adapt(self, scales: tuple[float, ...]) -> None:
        """From now on computes with these scales of the model's adapters, one each. That takes time where they are others."""
        if scales != self._scales:
            self._scales = scales
            self._model.apply_adapters(self.pointer, scales)

    def add(self, sequence: int, tokens: Sequence[int], position: int, *, wants_logits: bool = False, drafted: int = 0) -> int:
        """Puts tokens of one sequence into the batch; with `wants_logits`, gives the index of the last one's logits.

        With so many `drafted` ones at the end, of the last one before them; those of the drafted ones follow.
        """
        batch, begin, count = self._batch, self._used, len(tokens)
        self._used = end = begin + count
        if count == 1:  # what most steps are made of: slices cost more than all the rest
            batch.tokens[begin], batch.positions[begin], batch.sequences[begin] = tokens[0], position, sequence
        else:
            batch.tokens[begin:end] = tokens
            batch.positions[begin:end] = range(position, position + count)
            batch.sequences[begin:end] = sequence
            batch.outputs[begin:end] = 0
        first = end - 1 - drafted
        if drafted:
            batch.outputs[first:end] = wants_logits
        else:
            batch.outputs[first] = wants_logits
        self._wanted += wants_logits * (1 + drafted)
        return first

    def decode(self) -> None:
        """Computes the batch, if there is anything in it, and empties it. Raises EngineError where llama.cpp fails."""
        if not self._used:
            return
        batch = self._batch.native
        batch.n_tokens, self._used = self._used, 0
        is_drawing, self._wanted = self._wanted == batch.n_tokens, 0
        if self._threads_set != self._threads.now:
            self._threads_set = self._threads.now
            api.llama_set_n_threads(self.pointer, self._threads_set, self._threads_set)
        learns = is_drawing and not self._threads.is_fixed
        began_s, began_cpu_s = (time.perf_counter(), time.process_time()) if learns else (0.0, 0.0)
        status = api.llama_decode(self.pointer, batch)
        if status:
            raise EngineError(f"llama.cpp could not compute a batch of {batch.n_tokens} tokens: llama_decode gave {status}")
        api.llama_synchronize(self.pointer)
        if learns:
            self._threads.learn(batch.n_tokens, time.perf_counter() - began_s, time.process_time() - began_cpu_s)

    def decode_rows(self, sequence: int, rows: npt.NDArray[Any], places: npt.NDArray[Any], *, is_causal: bool) -> None:
        """Computes embeddings of one sequence, in a batch of their own, at most `batch_size` of them. Nothing is drawn from it.

        `places` are their positions, by dimension. Raises EngineError where llama.cpp fails. The batch must be empty.
        """
        assert not self._used, "tokens and embeddings do not go into one batch"
        count = len(rows)
        rows, places = np.ascontiguousarray(rows, np.float32), np.ascontiguousarray(places, np.int32)
        counts, sequences = np.ones(count, np.int32), np.full(count, sequence, np.int32)
        pointers = sequences.ctypes.data + sequences.itemsize * np.arange(count, dtype=np.uintp)
        outputs = np.zeros(count, np.int8)
        batch = api.llama_batch(
            n_tokens=count,
            token=None,
            embd=_pointer(rows, ctypes.c_float),
            pos=_pointer(places, _INT),
            n_seq_id=_pointer(counts, _INT),
            seq_id=_pointer(pointers, ctypes.POINTER(_INT)),
            logits=_pointer(outputs, ctypes.c_int8),
        )
        if not is_causal:
            api.llama_set_causal_attn(self.pointer, False)
        try:
            status = api.llama_decode(self.pointer, batch)
        finally:
            if not is_causal:
                api.llama_set_causal_attn(self.pointer, True)
        if status:
            raise EngineError(f"llama.cpp could not compute {count} embeddings: llama_decode gave {status}")
        api.llama_synchronize(self.pointer)

    def logits(self, index: int) -> npt.NDArray[np.float32]:
        """The logits of that index of the last batch, one a token of the vocabulary; valid until the next `decode`."""
        address = _logits_at(self.pointer, index)
        row = self._rows.get(address)
        if row is None:  # llama.cpp has few places for them, and takes others only when it needs more
            assert address, "logits are asked for where they were wanted"
            if len(self._rows) >= _MOST_ROWS:
                self._rows.clear()
            row = self._rows[address] = np.frombuffer(memoryview(self._row.from_address(address)), np.float32)
        return row

    # Sequences

    def cut(self, sequence: int, begin: int) -> bool:
        """Forgets the sequence from a position on; false where this memory cannot, or lacks some of what comes before it.

        A saved state of a model with a sliding window has only the last window of the layers that use it.
        """
        if not api.llama_memory_seq_rm(self._memory, sequence, begin, -1):
            return False
        needed_from = max(begin - self._window, 0) if self._window else 0
        return not begin or bool(0 <= api.llama_memory_seq_pos_min(self._memory, sequence) <= needed_from)

    def forget(self, sequence: int) -> None:
        api.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        self._sharing.discard(sequence)

    def fork(self, source: int, target: int) -> bool:
        """Has the empty `target` begin as `source` is, without a copy; false where each has cells of its own."""
        if not self._forks:
            return False
        api.llama_memory_seq_cp(self._memory, source, target, -1, -1)
        self._sharing |= {source, target}
        return True

    def shift(self, sequence: int, begin: int, end: int, used: int) -> bool:
        """Drops the positions from `begin` to `end` and moves what follows down; false where this memory cannot."""
        if not self.can_shift or not self._is_apart(sequence):
            return False
        if not api.llama_memory_seq_rm(self._memory, sequence, begin, end):
            return False
        api.llama_memory_seq_add(self._memory, sequence, end, used, begin - end)
        return True

    def _is_apart(self, sequence: int) -> bool:
        """Gives the sequence cells of its own: one that is moved would move in all that share it."""
        return sequence not in self._sharing or self.restore(sequence, self.save(sequence))

    def save(self, sequence: int, *, is_partial: bool = False, room: Callable[[int], Bytes] = _fresh) -> Saved:
        """The whole state of a sequence, for `restore` of this context or of another one of the same model.

        A partial one is only what differs from plain attention: the cells of layers with a sliding window, or what a recurrent
        model keeps. `room` gives memory for it.
        """
        flags = _PARTIAL if is_partial else 0
        size = api.llama_state_seq_get_size_ext(self.pointer, sequence, flags)
        data = room(size)
        if api.llama_state_seq_get_data_ext(self.pointer, _pointer(data, ctypes.c_uint8), size, sequence, flags) != size:
            raise EngineError(f"llama.cpp could not save sequence {sequence}")
        tail_bytes = 0
        if self._keeps_state:
            tail_bytes = api.llama_state_seq_get_size_ext(self.pointer, sequence, _PARTIAL) - HEAD.size
        return Saved(self.streams, data, tail_bytes, self.is_long)

    def restore(self, sequence: int, state: Saved) -> bool:
        """Replaces a sequence by a saved one; false where that cannot be done, and the sequence is empty then."""
        data = state.data
        self.forget(sequence)
        if state.is_long != self.is_long:
            return False
        if state.streams != self.streams:
            fitting = refit(data.data, self.streams, state.tail_bytes)
            if fitting is None:
                return False
            data = np.frombuffer(fitting, np.uint8)
        if api.llama_state_seq_set_data(self.pointer, _pointer(data, ctypes.c_uint8), len(data), sequence):
            return True
        self.forget(sequence)
        return False

    def close(self) -> None:
        if self.pointer:
            api.llama_free(self.pointer)
            self.pointer = None


def _pointer(array: npt.NDArray[Any], kind: Any) -> Any:
    """A C pointer to the array's first item. The array must outlive it."""
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))
