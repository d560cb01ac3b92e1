"""llama.cpp's encoder for images and sounds (mtmd): which tokens stand for them in a prompt, and their embeddings.

Native code, like `binding`; nothing of it is imported before a model with a projector is loaded. Layouts and encoding may be
asked for by one thread at a time, which need not be the one that computes with the model.
Source: llama.cpp tools/mtmd/mtmd.h; mtmd-helper-common.h, decode_embd_batch, for the order of dimensions.
"""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import llama_cpp.llama_cpp as api
import llama_cpp.mtmd_cpp as mtmd
import numpy as np
import numpy.typing as npt

from corral.core.errors import EngineError, ModelLoadError
from corral.engine.llamacpp.worker.media.pictures import UnreadableError
from corral.engine.llamacpp.worker.media.spans import Piece, digest_of
from corral.engine.llamacpp.worker.media.viewer import Medium, Parts, Shown, Sound
from corral.engine.llamacpp.worker.native.binding import Model, NativeLog

_TOPIC: Final = "projector"
_DIMENSIONS: Final = 4  # of a position, where it has more than one
_LEAST_SAMPLES: Final = 2  # of a sound: llama.cpp ends the process over fewer

Array = npt.NDArray[Any]


class Projector:
    """The encoder, in memory until its process ends."""

    def __init__(
        self, path: str, model: Model, log: NativeLog, *, threads: int, is_on_gpu: bool, flash_attention: bool | None
    ) -> None:
        mtmd.mtmd_helper_log_set(log.callback, None)
        log.topic = _TOPIC
        params = mtmd.mtmd_context_params_default()
        params.use_gpu = is_on_gpu
        params.print_timings = False
        params.n_threads = threads
        params.flash_attn_type = -1 if flash_attention is None else int(flash_attention)
        params.warmup = True  # makes its buffers, so that they are counted, and computes nothing
        self._context = mtmd.mtmd_init_from_file(path.encode(), model.pointer, params)
        log.topic = ""
        if not self._context:
            raise ModelLoadError(f"llama.cpp cannot load the projector {path}")
        log.note(_TOPIC, "model", Path(path).stat().st_size)
        self.sees: bool = mtmd.mtmd_support_vision(self._context)
        self.hears: bool = mtmd.mtmd_support_audio(self._context)
        self._width: int = api.llama_model_n_embd_inp(model.pointer)
        self._has_dimensions: bool = mtmd.mtmd_decode_use_mrope(self._context)
        self._bos: int | None = model.vocabulary.bos if model.vocabulary.adds_bos else None

    @property
    def is_causal(self) -> bool:
        """Can any part of an image be computed before the rest of it?"""
        return not mtmd.mtmd_decode_use_non_causal(self._context, None)

    def heard(self, data: bytes) -> Sound:
        """A sound file, decoded at the rate that the model hears. Raises UnreadableError."""
        buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
        bitmap = mtmd.mtmd_helper_bitmap_init_from_buf(self._context, buffer, len(data), False)
        if not bitmap:
            raise UnreadableError("it is broken")
        try:
            length = mtmd.mtmd_bitmap_get_nx(bitmap)
            if length < _LEAST_SAMPLES:
                raise UnreadableError("it has no sound in it")
            first = ctypes.cast(mtmd.mtmd_bitmap_get_data(bitmap), ctypes.POINTER(ctypes.c_float))
            return Sound(length, np.ctypeslib.as_array(first, (length,)).copy())
        finally:
            mtmd.mtmd_bitmap_free(bitmap)

    def layout(self, parts: Parts, *, begin: int, add_special: bool) -> list[list[int] | Piece]:
        """The tokens of a prompt's parts, and the pieces between them; `begin` is the position of the first of them.

        Raises UnreadableError for an image that the model's rules for sizes do not allow.
        """
        laid: list[list[int] | Piece] = []
        ordinals: dict[int, int] = {}
        position = begin
        with self._chunks(parts, add_special=add_special) as chunks:
            for chunk in chunks:
                if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_TEXT:
                    tokens = _text(chunk)
                    if not laid and add_special and tokens[:2] == [self._bos, self._bos]:
                        del tokens[0]  # the text began with the one that was put before it
                    laid.append(tokens)
                    position += len(tokens)
                    continue
                part = _part(chunk)
                ordinal = ordinals[part] = ordinals.get(part, -1) + 1
                shown = parts[part]
                assert isinstance(shown, Shown), "a chunk of an image comes from an image"
                laid.append(piece := self._piece(chunk, part, ordinal, shown.content, position))
                position += piece.positions
        return laid

    def _piece(self, chunk: Any, part: int, ordinal: int, content: bytes, position: int) -> Piece:
        tokens = mtmd.mtmd_input_chunk_get_n_tokens(chunk)
        return Piece(
            digest=digest_of(content, ordinal, tokens),
            part=part,
            ordinal=ordinal,
            tokens=tokens,
            positions=mtmd.mtmd_input_chunk_get_n_pos(chunk),
            is_causal=not mtmd.mtmd_decode_use_non_causal(self._context, chunk),
            places=self._places(chunk, tokens, position),
        )

    def _places(self, chunk: Any, tokens: int, position: int) -> Array:
        line = np.arange(position, position + tokens, dtype=np.int32)
        if not self._has_dimensions:
            return line[np.newaxis]
        image = mtmd.mtmd_input_chunk_get_tokens_image(chunk)
        if not image:
            return np.tile(line, (_DIMENSIONS, 1))
        found = (mtmd.mtmd_decoder_pos * tokens)()
        mtmd.mtmd_helper_image_get_decoder_pos(image, position, found)
        by_name = np.frombuffer(memoryview(found), np.uint32).reshape(tokens, _DIMENSIONS).astype(np.int32)
        return np.ascontiguousarray(by_name[:, [0, 2, 1, 3]].T)  # t, y, x, z

    @contextmanager
    def opened(self, parts: Parts, number: int) -> Iterator["OpenMedium"]:
        """The medium that is the part of that number, which has its pixels or samples, ready to be encoded piece by piece."""
        with self._chunks(parts, add_special=False) as chunks:
            kinds = mtmd.mtmd_input_chunk_get_type
            own = [c for c in chunks if kinds(c) != mtmd.MTMD_INPUT_CHUNK_TYPE_TEXT and _part(c) == number]
            yield OpenMedium(self._context, own, self._width)

    @contextmanager
    def _chunks(self, parts: Parts, *, add_special: bool) -> Iterator[list[Any]]:
        """llama.cpp's chunks of a prompt, valid in the block. Media without pixels or samples are laid out all the same."""
        bitmaps: list[Any] = []
        chunks = mtmd.mtmd_input_chunks_init()
        try:
            inputs = (mtmd.mtmd_input_part * len(parts))()
            kept = []  # what the parts point to
            for number, part in enumerate(parts):
                if isinstance(part, str):
                    data = part.encode("utf-8", "replace")
                    text = mtmd.mtmd_input_text(data, len(data), False, True)
                    kept.append(text)
                    inputs[number].text = ctypes.pointer(text)
                else:
                    bitmaps.append(bitmap := _bitmap(part.medium))
                    mtmd.mtmd_bitmap_set_id(bitmap, str(number).encode())
                    inputs[number].bitmap = bitmap
            pointers = (ctypes.POINTER(mtmd.mtmd_input_part) * len(parts))(*map(ctypes.pointer, inputs))
            if mtmd.mtmd_tokenize_from_parts(self._context, chunks, pointers, len(parts), add_special):
                raise UnreadableError("its size is none that the model can take; make it larger, or less narrow")
            yield [mtmd.mtmd_input_chunks_get(chunks, index) for index in range(mtmd.mtmd_input_chunks_size(chunks))]
        finally:
            mtmd.mtmd_input_chunks_free(chunks)
            for bitmap in bitmaps:
                mtmd.mtmd_bitmap_free(bitmap)


class OpenMedium:
    """The pieces of one medium, prepared for the encoder."""

    def __init__(self, context: Any, chunks: Sequence[Any], width: int) -> None:
        self._context = context
        self._chunks = chunks
        self._width = width

    def encoded(self, piece: Piece) -> Array:
        """The piece's embeddings, one row a token. Raises EngineError."""
        if piece.ordinal >= len(self._chunks):
            raise EngineError("llama.cpp made fewer pieces of an image than it had announced")
        chunk = self._chunks[piece.ordinal]
        tokens = mtmd.mtmd_input_chunk_get_n_tokens(chunk)
        if tokens != piece.tokens:
            raise EngineError(f"llama.cpp made {tokens} tokens of an image that had {piece.tokens} before")
        if mtmd.mtmd_encode_chunk(self._context, chunk):
            raise EngineError("llama.cpp could not encode an image")
        rows = mtmd.mtmd_get_output_embd(self._context)
        return np.ctypeslib.as_array(rows, (tokens, self._width)).copy()


def _text(chunk: Any) -> list[int]:
    count = ctypes.c_size_t()
    first = mtmd.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
    tokens: list[int] = first[: count.value]
    if min(tokens, default=0) < 0:
        raise EngineError("the model lacks tokens that its projector puts around images; they do not belong together")
    return tokens


def _part(chunk: Any) -> int:
    """The number of the part that the chunk was made of."""
    return int(mtmd.mtmd_input_chunk_get_id(chunk) or b"-1")


def _bitmap(medium: Medium) -> Any:
    if isinstance(medium, Sound):
        samples = medium.samples
        pointer = None if samples is None else samples.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        return mtmd.mtmd_bitmap_init_from_audio(medium.length, pointer)
    pixels = medium.pixels
    data = None if pixels is None else ctypes.cast(ctypes.c_char_p(pixels), ctypes.POINTER(ctypes.c_uint8))
    return mtmd.mtmd_bitmap_init(medium.width, medium.height, data)
