"""What Corral wants to know of a GGUF, by name: the metadata of its header in the words of this project."""

import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from corral.store.gguf import GgufError, GgufHeader, LongArray, Tensor, cut, read_header
from corral.store.gguf_types import FILE_TYPES

_BILLION: Final = 1_000_000_000
_MILLION: Final = 1_000_000
_THOUSAND: Final = 1_000
_LARGEST_COUNT: Final = (1 << 32) - 1  # what every engine has room for
_LONGEST_WORD: Final = 128
RANK_POOLING: Final = 4  # Source: llama.cpp llama.h, llama_pooling_type
_CLASSIFIER: Final = "cls.output.weight"
_SMALL_CLASSIFIERS: Final = {"jina-bert-v2": "cls.weight"}  # by architecture: what some have instead
_LONGEST_KEPT: Final = 1 << 16  # a longer text of the metadata is not kept; the template is

Code = TypeVar("Code", int, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufInfo:
    """One file's metadata, checked. Numbers that the file does not give are 0, texts empty."""

    architecture: str = ""
    metadata: Mapping[str, Any]  # as it lies in the file, without its longest texts: who reads it looks at a value's kind
    parameter_count: int = 0
    file_type: str = "unknown"  # `Q4_K_M`, `F16` …; unknown also where the file's number for it has no name
    context_length: int = 0
    embedding_length: int = 0
    block_count: int = 0
    vision_block_count: int = 0
    audio_block_count: int = 0
    vocabulary_size: int = 0  # tokens that the file has
    head_count: int = 0  # where layers differ, the mean, rounded up
    head_count_kv: int = 0
    key_length: int = 0
    value_length: int = 0
    sliding_window: int = 0
    pooling_type: int | None = None  # how token vectors become one; None where the model gives text rather than a vector
    ranks: bool = False  # it pools with a classifier that says how well a text answers a query, and has one
    bos_token: str = ""
    eos_token: str = ""
    adds_bos: bool = False  # whether the tokenizer puts a BOS before every text
    infill_tokens: tuple[str, str, str] | None = None  # before a prefix, before a suffix, before what goes between them
    chat_template: str | None = None  # the Jinja template; None where there is none, or an empty one

    @classmethod
    def of(cls, header: GgufHeader) -> "GgufInfo":
        """Raises GgufError, with the key, for a value that cannot be what it stands for."""
        values = _Values(header.metadata)
        architecture = values.word("general.architecture")

        def number(key: str) -> int:
            return values.number(f"{architecture}.{key}")

        def token(which: str) -> str:
            found = header.metadata.get(f"tokenizer.ggml.{which}_token_id")
            return header.special_tokens.get(found, "") if isinstance(found, int) else ""

        heads, width = number("attention.head_count"), number("embedding_length")
        head_length = width // heads if heads else 0
        template = values.text("tokenizer.chat_template")
        pooling_type = values.code(f"{architecture}.pooling_type", None)
        return cls(
            architecture=architecture,
            metadata={key: value for key, value in header.metadata.items() if _is_kept(value)},
            parameter_count=header.parameter_count,
            file_type=FILE_TYPES.get(values.code("general.file_type", -1), "unknown"),
            context_length=number("context_length"),
            embedding_length=width,
            block_count=number("block_count"),
            vision_block_count=number("vision.block_count"),
            audio_block_count=number("audio.block_count"),
            vocabulary_size=values.length("tokenizer.ggml.tokens"),
            head_count=heads,
            head_count_kv=number("attention.head_count_kv") or heads,
            key_length=number("attention.key_length") or head_length,
            value_length=number("attention.value_length") or head_length,
            sliding_window=number("attention.sliding_window"),
            pooling_type=pooling_type,
            ranks=pooling_type == RANK_POOLING and _has_classifier(architecture, header.tensors),
            bos_token=token("bos"),
            eos_token=token("eos"),
            # without a word in the file, the old kind of tokenizer puts one there
            adds_bos=values.flag("tokenizer.ggml.add_bos_token", default=values.text("tokenizer.ggml.model") == "llama"),
            infill_tokens=header.infill_tokens,
            chat_template=template if template.strip() else None,
        )

    @property
    def hears(self) -> bool:
        """Does it encode sounds?"""
        return bool(self.audio_block_count) or self.metadata.get("clip.has_audio_encoder") is True

    @property
    def only_hears(self) -> bool:
        """Does it encode sounds and no images? Projectors of old kinds encode images and do not say so."""
        return self.hears and not self.vision_block_count and self.metadata.get("clip.has_vision_encoder") is not True

    @property
    def parameter_size(self) -> str:
        return human_count(self.parameter_count)


@dataclass(frozen=True, slots=True)
class _Values:
    """Metadata by the kind that a value must be of. Each call raises GgufError for a value of another kind."""

    metadata: Mapping[str, Any]

    def text(self, key: str) -> str:
        value = self.metadata.get(key, "")
        return value if isinstance(value, str) else _refuse(key, value, "a text")

    def word(self, key: str) -> str:
        """A text that is a name: it becomes a part of other keys, and of a model's config."""
        value = self.text(key)
        return value if len(value) <= _LONGEST_WORD else _refuse(key, value, f"a word of up to {_LONGEST_WORD} letters")

    def flag(self, key: str, *, default: bool) -> bool:
        value = self.metadata.get(key, default)
        return value if isinstance(value, bool) else _refuse(key, value, "true or false")

    def code(self, key: str, default: Code) -> int | Code:
        """A number that stands for something else."""
        value = self.metadata.get(key, default)
        return value if value is default or type(value) is int else _refuse(key, value, "a whole number")

    def number(self, key: str) -> int:
        """A count; of an array, which has one for each layer, the mean, rounded up."""
        value = self.metadata.get(key, 0)
        items = value if isinstance(value, list) else [value]
        if not items or not all(_is_count(item) for item in items):
            _refuse(key, value, f"a whole number up to {_LARGEST_COUNT}, or some of them")
        return -(-sum(map(int, items)) // len(items))

    def length(self, key: str) -> int:
        value = self.metadata.get(key, ())
        return value.length if isinstance(value, LongArray) else len(value) if isinstance(value, list) else 0


def _has_classifier(architecture: str, tensors: Iterable[Tensor]) -> bool:
    """Without one llama.cpp gives numbers too, which mean nothing."""
    wanted = {_CLASSIFIER, _SMALL_CLASSIFIERS.get(architecture, _CLASSIFIER)}
    return any(tensor.name in wanted for tensor in tensors)


def _is_kept(value: object) -> bool:
    return not isinstance(value, str) or len(value) <= _LONGEST_KEPT


def _is_count(value: object) -> bool:
    """Some writers give a whole number as a float."""
    if type(value) is float:
        return value.is_integer() and 0 <= value <= _LARGEST_COUNT
    return type(value) is int and 0 <= value <= _LARGEST_COUNT


def _refuse(key: str, value: object, wanted: str) -> NoReturn:
    shown = f"an array of {value.length} items" if isinstance(value, LongArray) else reprlib.repr(value)
    raise GgufError(f"damaged GGUF: {cut(key)!r} is {cut(shown)}; it must be {wanted}")


def human_count(count: int) -> str:
    """A count of parameters as model cards write it.

    >>> human_count(134_515_008), human_count(8_030_261_248), human_count(7_000_000_000), human_count(512)
    ('134.52M', '8.0B', '7B', '512')

    Source: ollama@v0.32 format/format.go, HumanNumber.
    """
    for unit, letter, digits in ((_BILLION, "B", 1), (_MILLION, "M", 2)):
        if count >= unit:
            return f"{count // unit}{letter}" if count % unit == 0 else f"{count / unit:.{digits}f}{letter}"
    return f"{count / _THOUSAND:.0f}K" if count >= _THOUSAND else str(count)


def read_info(path: Path) -> GgufInfo:
    """The file's metadata, read once for as long as its size and time stay the same. Raises GgufError and OSError."""
    stat = path.stat()
    return _read(path, stat.st_ino, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _read(path: Path, _inode: int, _size_bytes: int, _modified_ns: int) -> GgufInfo:
    return GgufInfo.of(read_header(path))
