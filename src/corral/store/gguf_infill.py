"""The tokens that ask a model for what goes between two texts: does a vocabulary have them, and what are they called? Pure.

A file names them in its metadata, or llama.cpp knows them by their texts; a model has them where it has all three.
Source: llama.cpp src/llama-vocab.cpp, llama_vocab::impl::load.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_LENGTH: Final = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class _Mark:
    keys: tuple[str, ...]  # of the metadata that names its token
    texts: tuple[str, ...]  # by which it is known where no key does


_MARKS: Final = (
    _Mark(
        ("fim_pre", "prefix"),
        (
            "<|fim_prefix|>",
            "<fim-prefix>",
            "<fim_prefix>",
            "<｜fim▁begin｜>",  # noqa: RUF001  DeepSeek spells it with wide bars
            "<PRE>",
            "▁<PRE>",
            "<|code_prefix|>",
            "<|prefix|>",
        ),
    ),
    _Mark(
        ("fim_suf", "suffix"),
        (
            "<|fim_suffix|>",
            "<fim-suffix>",
            "<fim_suffix>",
            "<｜fim▁hole｜>",  # noqa: RUF001
            "<SUF>",
            "▁<SUF>",
            "<|code_suffix|>",
            "<|suffix|>",
        ),
    ),
    _Mark(
        ("fim_mid", "middle"),
        (
            "<|fim_middle|>",
            "<fim-middle>",
            "<fim_middle>",
            "<｜fim▁end｜>",  # noqa: RUF001
            "<MID>",
            "▁<MID>",
            "<|code_middle|>",
            "<|middle|>",
        ),
    ),
)
INFILL_KEYS: Final = tuple(key for mark in _MARKS for key in mark.keys)


def infill_texts(vocabulary: bytes, metadata: Mapping[str, Any], known: Mapping[int, str]) -> tuple[str, str, str] | None:
    """The texts of the tokens before the prefix, before the suffix and before the middle; None where one is missing.

    `vocabulary` is the file's array of token texts, byte for byte; `known` has the texts of the tokens that metadata names.
    """
    found: list[str] = []
    for mark in _MARKS:
        numbers = (metadata.get(f"tokenizer.ggml.{key}_token_id") for key in mark.keys)
        named = (known.get(number) for number in numbers if isinstance(number, int))
        text = next(filter(None, named), None) or next((text for text in mark.texts if _spelled(text) in vocabulary), None)
        if text is None:
            return None
        found.append(text)
    prefix, suffix, middle = found
    return prefix, suffix, middle


def _spelled(text: str) -> bytes:
    """The text as a GGUF holds it."""
    data = text.encode()
    return _LENGTH.pack(len(data)) + data
