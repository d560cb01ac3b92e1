"""llama.cpp's C API as a few Python objects: its log, a model, its vocabulary.

With `context`, `sampling` and `devices` the only module that touches native code; they run in a worker process and nowhere
else. What holds native memory frees it in `close`; a model has none, for its process ends with it.
"""

import ctypes
import logging
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import llama_cpp.llama_cpp as api
import numpy as np

from corral.core.errors import BadRequestError, EngineError, ModelLoadError
from corral.engine.footprint import KV_BYTES_PER_VALUE
from corral.engine.llamacpp.worker.native.cuts import Cuts, Special
from corral.engine.llamacpp.worker.texts import MOST_BYTES, TextTooLargeError

log: Final = logging.getLogger(__name__)
_PIECE_BYTES: Final = 256
KV_TYPES: Final = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "bf16": 30}
_WARN, _ERROR = 3, 4  # GGML_LOG_LEVEL_*
_CONTINUED: Final = 5  # GGML_LOG_LEVEL_CONT
_MMAP, _NO_MMAP, _AUTO = 1, 0, -1  # llama_load_mode
_WHOLE_KINDS: Final = (api.LLAMA_VOCAB_TYPE_SPM, api.LLAMA_VOCAB_TYPE_BPE)  # all of a text, white space aside, is in its tokens
_SPACE: Final = b" \t\n\v\f\r"
_SLICE_CHARS: Final = 1 << 20  # of a long text that is looked at in one go: other threads have their turn between them
_NO_TEXT: Final = api.LLAMA_TOKEN_ATTR_CONTROL | api.LLAMA_TOKEN_ATTR_UNKNOWN
_NAMED: Final = _NO_TEXT | api.LLAMA_TOKEN_ATTR_USER_DEFINED
_WHOLE_BYTES: Final = 16 << 10  # of a text that is read in one piece
_MOST_NAMES: Final = 16_000  # of special tokens in a piece: llama.cpp takes two seconds for them, and eight for twice as many
_BUFFER: Final = re.compile(r"(\S+) +(model|KV|RS|compute|output) buffer size += +([\d.]+) MiB")


class NativeLog:
    """Keeps llama.cpp's last errors, and passes them and its warnings on; everything else only when debugging.

    Also hears how large the buffers are that it makes: the C API tells that nowhere else.
    """

    def __init__(self, *, debug: bool) -> None:
        self.complaints: list[str] = []
        self.topic = ""  # what buffers that are made now are for: those of another topic stay
        self._buffers: dict[tuple[str, str, str], int] = {}  # by topic, kind and device, the last one that was made
        self._least = 0 if debug else _WARN
        self._level = 0
        self.callback = api.llama_log_callback(self._take)  # must live as long as llama.cpp may call it
        api.llama_log_set(self.callback, None)

    def _take(self, level: int, text: bytes, _data: Any) -> None:
        self._level = self._level if level == _CONTINUED else level
        line = text.decode(errors="replace").strip()
        if found := _BUFFER.search(line):
            self._buffers[self.topic, found[2], found[1]] = int(float(found[3]) * (1 << 20))
        if not line or self._level < self._least:
            return
        if self._level >= _ERROR:
            self.complaints = [*self.complaints[-19:], line]
        log.log(logging.WARNING if self._level >= _WARN else logging.DEBUG, "llama.cpp: %s", line)

    def buffer_bytes(self) -> int:
        """Everything that llama.cpp has taken for the model and the newest context of each topic."""
        return sum(self._buffers.values())

    def note(self, topic: str, kind: str, size_bytes: int) -> None:
        """A buffer that llama.cpp makes without a word."""
        self._buffers[topic, kind, ""] = size_bytes

    def forget(self, topic: str) -> None:
        """The buffers of that topic are given back."""
        self._buffers = {key: size for key, size in self._buffers.items() if key[0] != topic}


class Vocabulary:
    """Text to token ids and back, as bytes: a token may be a part of a character."""

    def __init__(self, model: Any) -> None:
        self.pointer = api.llama_model_get_vocab(model)
        self.size: int = api.llama_vocab_n_tokens(self.pointer)
        self.bos: int = api.llama_vocab_bos(self.pointer)
        self.adds_bos: bool = api.llama_vocab_get_add_bos(self.pointer)
        count = ctypes.c_int32()
        suppressed = api.llama_vocab_get_suppress_tokens(self.pointer, ctypes.byref(count))
        self.suppressed: tuple[int, ...] = tuple(suppressed[: count.value]) if count.value else ()
        fim = (api.llama_vocab_fim_pre, api.llama_vocab_fim_suf, api.llama_vocab_fim_mid)
        self._infill: list[int] = [mark(self.pointer) for mark in fim]  # -1 where there is none
        self._pieces: list[bytes | None] = [None] * self.size
        self._buffer = ctypes.create_string_buffer(_PIECE_BYTES)
        self._spelled: list[bytes | None] = [None] * self.size
        self._ends: dict[int, bool] = {}
        self._longest = 0  # bytes of the longest token, once somebody has asked
        self._cuts_by_kind: dict[bool, Cuts] = {}  # by whether the names of control tokens count

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> list[int]:
        """Token ids, names of special tokens read as these. A BOS that is wanted is not added to a text that begins with it.

        Any thread may ask. Raises TextTooLargeError, EngineError.
        """
        ids = self._ids(text, add_special=add_special, parse_special=parse_special)
        if add_special and self.adds_bos and ids[:2] == [self.bos, self.bos]:
            del ids[0]
        return ids

    def infill(self, before: str, after: str, *, add_special: bool) -> list[int] | None:
        """The prompt that asks for what goes between two plain texts; None where the model has no tokens for that.

        Source: llama.cpp tools/server, format_prompt_infill, less what it says of other files.
        """
        if min(self._infill) < 0:
            return None
        prefix, suffix, middle = self._infill
        texts = [self._ids(text, add_special=False, parse_special=False) for text in (before, after)]
        bos = [self.bos] if add_special and self.adds_bos else []
        return [*bos, prefix, *texts[0], suffix, *texts[1], middle]

    def _ids(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        data = text.encode("utf-8", "replace") if len(text) <= MOST_BYTES else b""
        if (size := len(data or text)) > MOST_BYTES:
            raise TextTooLargeError(size)
        if size <= _WHOLE_BYTES:
            return self._whole(data, add_special=add_special, parse_special=parse_special)
        cuts = self._cuts_by_kind[parse_special] = self._cuts_by_kind.get(parse_special) or self._cuts(
            parse_special=parse_special
        )
        ids = list[int]()
        for part in cuts.parts(data):
            if len(part) > _WHOLE_BYTES and (names := cuts.count(part)) > _MOST_NAMES:
                raise BadRequestError(
                    f"the text has {names} names of special tokens in {len(part)} bytes that cannot be read piece by piece, "
                    f"and {_MOST_NAMES} of them can be read; shorten it, or put other characters between them"
                )
            ids += self._whole(part, add_special=False, parse_special=parse_special)
        if not add_special:
            return ids
        around = self._whole(b"", add_special=True, parse_special=False)
        before = int(self.adds_bos or api.llama_vocab_type(self.pointer) == api.LLAMA_VOCAB_TYPE_WPM)
        return [*around[:before], *ids, *around[before:]]

    def _whole(self, data: bytes, *, add_special: bool, parse_special: bool) -> list[int]:
        room = len(data) + 8
        tokens = np.empty(room, np.int32)
        pointer = ctypes.cast(tokens.ctypes.data, ctypes.POINTER(api.llama_token))
        count = api.llama_tokenize(self.pointer, data, len(data), pointer, room, add_special, parse_special)
        if count < 0:
            raise EngineError(f"llama.cpp cannot tokenize a text of {len(data)} bytes")
        return list[int](tokens[:count].tolist())

    def _cuts(self, *, parse_special: bool) -> Cuts:
        """By the names that llama.cpp looks for; those that users defined it finds in any text."""
        wanted = _NAMED if parse_special else api.LLAMA_TOKEN_ATTR_USER_DEFINED
        specials = list[Special]()
        for token in range(self.size):
            attr = api.llama_vocab_get_attr(self.pointer, token)
            if attr & wanted and (parse_special or not attr & _NO_TEXT):
                name = api.llama_vocab_get_text(self.pointer, token)
                left, right = attr & api.LLAMA_TOKEN_ATTR_LSTRIP, attr & api.LLAMA_TOKEN_ATTR_RSTRIP
                specials.append(Special(name, strips_left=bool(left), strips_right=bool(right)))
        return Cuts(specials)

    def least_tokens(self, text: str) -> int:
        """No fewer tokens than this stand for the text, as none stands for more of it than the longest; 0 where nobody knows.

        A token may take the white space beside it along, and some vocabularies leave out a part of a text, or have one token
        for all that they do not know.
        """
        if api.llama_vocab_type(self.pointer) not in _WHOLE_KINDS:
            return 0
        if not self._longest:
            self._longest = max(len(self.spelled(token)) for token in range(self.size))
        slices = (text[begin : begin + _SLICE_CHARS] for begin in range(0, len(text), _SLICE_CHARS))
        size = sum(len(part.encode("utf-8", "replace").translate(None, _SPACE)) for part in slices)
        return -(-size // self._longest)

    def piece(self, token: int) -> bytes:
        """The bytes of a token's text; nothing for control tokens."""
        known = self._pieces[token]
        if known is not None:
            return known
        size = api.llama_token_to_piece(self.pointer, token, self._buffer, _PIECE_BYTES, 0, False)
        if size < 0:
            self._buffer = ctypes.create_string_buffer(-size)
            size = api.llama_token_to_piece(self.pointer, token, self._buffer, -size, 0, False)
        piece = self._pieces[token] = self._buffer.raw[:size]
        return piece

    def spelled(self, token: int) -> bytes:
        """The bytes of a token's text, control tokens by their names. Any thread may ask."""
        known = self._spelled[token]
        if known is None:
            room = _PIECE_BYTES
            while True:
                buffer = ctypes.create_string_buffer(room)
                size = api.llama_token_to_piece(self.pointer, token, buffer, room, 0, True)
                if size >= 0:
                    break
                room = -size
            known = self._spelled[token] = buffer.raw[:size]
        return known

    def is_control(self, token: int) -> bool:
        """Is the token no text, so that `piece` gives nothing for it?"""
        return bool(api.llama_vocab_get_attr(self.pointer, token) & _NO_TEXT)

    def ends(self, token: int) -> bool:
        """Does the token end an answer?"""
        known = self._ends.get(token)
        if known is None:
            known = self._ends[token] = bool(api.llama_vocab_is_eog(self.pointer, token))
        return known


class Model:
    """Weights in memory."""

    def __init__(
        self, path: str, *, gpu_layers: int, main_gpu: int, use_mmap: bool | None, on_progress: Callable[[float], None]
    ) -> None:
        params = api.llama_model_default_params()
        params.n_gpu_layers = gpu_layers
        params.main_gpu = main_gpu
        params.load_mode = _AUTO if use_mmap is None else _MMAP if use_mmap else _NO_MMAP

        def report(share: float, _data: Any) -> bool:
            on_progress(share)
            return True

        callback = api.llama_progress_callback(report)
        params.progress_callback = callback
        self.pointer = api.llama_model_load_from_file(path.encode(), params)
        if not self.pointer:
            raise ModelLoadError(f"llama.cpp cannot load {path}")
        if api.llama_model_has_encoder(self.pointer):
            raise ModelLoadError("encoder-decoder models are not supported; use a decoder-only model")
        self.vocabulary = Vocabulary(self.pointer)
        self.size_bytes: int = api.llama_model_size(self.pointer)
        self.n_ctx_train: int = api.llama_model_n_ctx_train(self.pointer)
        self.layers: int = api.llama_model_n_layer(self.pointer)
        self.embedding_size: int = api.llama_model_n_embd_out(self.pointer)
        self.window: int = api.llama_model_n_swa(self.pointer)  # tokens that a layer looks back at most; 0: all
        self.keeps_state: bool = api.llama_model_is_recurrent(self.pointer) or api.llama_model_is_hybrid(self.pointer)
        self._adapters = list[Any]()

    @property
    def long_from(self) -> int:
        """Tokens of a context from which on positions may be encoded otherwise; 0: they never are.

        Source: llama.cpp src/llama-model.cpp, llama_model::get_rope_factors.
        """
        return self._number("rope.scaling.original_context_length")

    @staticmethod
    def count_layers(path: str) -> int:
        """The file's count of layers, without reading its weights; 0 where it cannot be read."""
        params = api.llama_model_default_params()
        params.no_alloc = True
        params.n_gpu_layers = 0
        pointer = api.llama_model_load_from_file(path.encode(), params)
        if not pointer:
            return 0
        layers = int(api.llama_model_n_layer(pointer))
        api.llama_model_free(pointer)
        return layers

    def kv_bytes_per_token(self, kv_type: str) -> float:
        """KV memory of one token in all layers, where every layer has attention; no less than what is really taken."""
        heads = max(1, api.llama_model_n_head(self.pointer))
        head_size = api.llama_model_n_embd(self.pointer) // heads
        key = self._number("attention.key_length") or head_size
        value = self._number("attention.value_length") or head_size
        values = self.layers * int(api.llama_model_n_head_kv(self.pointer)) * (key + value)
        return values * KV_BYTES_PER_VALUE[kv_type]

    @property
    def pooling(self) -> int | None:
        """How the file says that token vectors become one, by llama.cpp's numbers; None: nothing, it is there for text."""
        text = self._meta(f"{self._meta('general.architecture')}.pooling_type")
        return int(text) if text.isdecimal() else None

    def _number(self, key: str) -> int:
        """`ARCHITECTURE.key` of the file's metadata; 0 where it has none."""
        arch = self._meta("general.architecture")
        text = self._meta(f"{arch}.{key}")
        return int(text) if text.isdecimal() else 0

    def _meta(self, key: str) -> str:
        buffer = ctypes.create_string_buffer(_PIECE_BYTES)
        size = api.llama_model_meta_val_str(self.pointer, key.encode(), buffer, _PIECE_BYTES)
        return buffer.value.decode(errors="replace") if size >= 0 else ""

    def add_adapter(self, path: str) -> None:
        """A LoRA for every context made from now on. Raises ModelLoadError."""
        adapter = api.llama_adapter_lora_init(self.pointer, path.encode())
        if not adapter:
            raise ModelLoadError(f"llama.cpp cannot load the adapter {path}")
        self._adapters.append(adapter)

    @property
    def scales(self) -> tuple[float, ...]:
        """Of the adapters, where nobody asks for others."""
        return (1.0,) * len(self._adapters)

    def apply_adapters(self, context: Any, scales: Sequence[float]) -> None:
        """Has the context compute with the adapters, each with its scale; 0 leaves one out."""
        if count := len(self._adapters):
            pointers = (api.llama_adapter_lora_p_ctypes * count)(*self._adapters)
            api.llama_set_adapters_lora(context, pointers, count, (ctypes.c_float * count)(*scales))
